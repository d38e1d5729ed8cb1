#!/bin/bash
# Builds into the directory given (default: build). SANITIZE=1: with the address and undefined
# behaviour sanitizers. Says nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
engine=$(engine/build.sh)
options=(-DWASMTIME_DIR="$engine")
[[ ${SANITIZE:-} ]] && options+=(-DSANITIZE=ON)
[[ ${CI:-} ]] && options+=(-DWERROR=ON)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
[[ -f $build/build.ninja ]] || echo "configuring $build" >&2
if ! cmake -S . -B "$build" -G Ninja "${options[@]}" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
if ninja -C "$build" -n | grep -q 'no work to do'; then
    exit 0
fi
echo "building 0asm in $build" >&2
if [[ -t 2 ]]; then
    # ninja's own line says how far it is.
    ninja -C "$build" >&2
elif ! ninja -C "$build" >"$log" 2>&1; then
    grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking)' "$log" >&2
    exit 1
fi
