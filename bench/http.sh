#!/bin/sh
# The HTTP server against nginx `return 200`, in turn, each on core 0 with wrk on core 1.
# Prints requests a second and the ratio to nginx of the same round.
#
#     bench/http.sh BUILD [SECONDS [CONNECTIONS]]
set -eu
build=$1
seconds=${2:-3}
connections=${3:-64}
dir=$(mktemp -d)
server_pid=
nginx_pid=
stop() {
    [ -z "$server_pid" ] || kill "$server_pid" 2>/dev/null || true
    [ -z "$nginx_pid" ] || kill "$nginx_pid" 2>/dev/null || true
    rm -rf "$dir"
}
trap stop EXIT

cat >"$dir/nginx.conf" <<CONF
worker_processes 1;
daemon off;
master_process off;
pid $dir/nginx.pid;
error_log $dir/error.log;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    server {
        listen 127.0.0.1:18991;
        location / { default_type text/plain; return 200 "Hello, world! Hello, world!\n"; }
    }
}
CONF
taskset -c 0 nginx -p "$dir" -c "$dir/nginx.conf" 2>/dev/null &
nginx_pid=$!
taskset -c 0 "$build/http_bench" 18992 >"$dir/port" &
server_pid=$!
until [ -s "$dir/port" ]; do :; done
until curl -s -o /dev/null http://127.0.0.1:18991/; do :; done

load() {
    taskset -c 1 wrk -t1 -c"$connections" -d"$seconds" "$1" | awk '/Requests.sec/ { print int($2) }'
}
for path in constant turn stream wait; do
    nginx=$(load http://127.0.0.1:18991/)
    ours=$(load "http://127.0.0.1:18992/$path")
    printf '%-9s %7d   nginx %7d   ratio %s\n' "$path" "$ours" "$nginx" \
        "$(awk "BEGIN { printf \"%.2f\", $ours / $nginx }")"
done
