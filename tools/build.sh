#!/bin/bash
# Builds into the directory given (default: build). SANITIZE=1: with the address and undefined
# behaviour sanitizers; SANITIZE=thread: with the one for data races. Says nothing when there is
# nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
engine=$(engine/build.sh)
options=(-DWASMTIME_DIR="$engine")
case ${SANITIZE:-} in
"") ;;
thread) options+=(-DTHREAD_SANITIZE=ON) ;;
*) options+=(-DSANITIZE=ON) ;;
esac
[[ ${CI:-} ]] && options+=(-DWERROR=ON)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# ninja runs cmake again by itself where CMakeLists.txt or the list of files has changed.
configured=$build/configured-with
if [[ ! -f $build/build.ninja || "$(cat "$configured" 2>/dev/null)" != "${options[*]}" ]]; then
    echo "configuring $build" >&2
    if ! cmake -S . -B "$build" -G Ninja "${options[@]}" >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
    echo "${options[*]}" >"$configured"
fi

# Says what ninja does: a line at the beginning, how far it is on a terminal, the rest to the log.
show() {
    local line said=
    while IFS= read -r line; do
        if [[ $line =~ ^\[([0-9]+)/([0-9]+)\]\ (Building|Linking|Generating) ]]; then
            [[ $said ]] || echo "building 0asm in $build: ${BASH_REMATCH[2]} steps" >&2
            said=1
            [[ ! -t 2 ]] || printf '\r%d ' "${BASH_REMATCH[1]}" >&2
        else
            printf '%s\n' "$line"
        fi
    done >"$log"
    [[ ! -t 2 || ! $said ]] || printf '\r' >&2
}
if ! ninja -C "$build" 2>&1 | show; then
    cat "$log" >&2
    exit 1
fi
