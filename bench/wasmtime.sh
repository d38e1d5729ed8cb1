#!/bin/sh
# Installs the `wasmtime` command that bench.py compares with, once, and prints its path. The same
# version as the engine, outside the checkout, at the lowest priority; about ten minutes on two
# cores.
#
#     bench/wasmtime.sh            installs if it is missing
#     bench/wasmtime.sh --path     only says where it is or would be
set -eu
version=48.0.8
cache=${ZASM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/0asm}
root=$cache/bench/wasmtime-$version
[ "${1:-}" = --path ] || [ -x "$root/bin/wasmtime" ] || {
    mkdir -p "$root"
    exec 9>"$root/lock"
    flock 9
    [ -x "$root/bin/wasmtime" ] ||
        CARGO_TARGET_DIR=$root/target nice -n 19 cargo install --locked wasmtime-cli \
            --version "$version" --root "$root" --no-default-features \
            --features run,serve,compile,component-model-async,pooling-allocator,parallel-compilation,wat >&2
    rm -rf "$root/target"
}
echo "$root/bin/wasmtime"
