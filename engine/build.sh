#!/bin/sh
# Builds the engine (Wasmtime's C API) once and prints the directory that holds it:
#   DIR/lib/libzasm_engine.a   DIR/include/{wasm.h,wasmtime.h,wasmtime/...}
# The directory lies outside the checkout, named after the hash of everything that decides what is
# built, so that all checkouts and all build types share it. Progress goes to standard error.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${ZASM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/0asm}
key=$( { cat "$here/Cargo.lock" "$here/Cargo.toml" "$here/src/lib.rs"; rustc --version; uname -m; } | sha256sum | cut -c1-16)
dir=$cache/engine-$key
if [ -f "$dir/complete" ]; then
    echo "$dir"
    exit 0
fi
command -v cargo >/dev/null || {
    echo "error: cargo is missing; install Rust 1.95 or newer (rustup, or your distribution)" >&2
    exit 1
}
mkdir -p "$cache"
# One build at a time: a second `make` waits for the first instead of doing the work twice.
exec 9>"$cache/engine.lock"
flock -n 9 || {
    echo "waiting for another build of the engine" >&2
    flock 9
}
if [ -f "$dir/complete" ]; then
    echo "$dir"
    exit 0
fi
echo "building the engine (Wasmtime), once: about four minutes on two cores; cached in $dir" >&2
work=$dir.tmp
mkdir -p "$work"
CARGO_TARGET_DIR=$work/target cargo build --release --locked --manifest-path "$here/Cargo.toml" >&2
manifest=$(cargo metadata --format-version 1 --locked --manifest-path "$here/Cargo.toml" |
    tr ',' '\n' | sed -n 's/.*"manifest_path":"\(.*wasmtime-c-api-impl-[^"]*Cargo.toml\)".*/\1/p' | head -n 1)
headers=$(dirname "$manifest")/include
mkdir -p "$work/lib" "$work/include"
cp "$work/target/release/libzasm_engine.a" "$work/lib/"
cp -R "$headers/." "$work/include/"
find "$work/include" -name '*.hh' -delete
# conf.h says which features the library has; upstream lets CMake write it, here the manifest decides.
features=$(sed -n '/features = \[/,/\]/s/^ *"\([a-z0-9-]*\)",*$/\1/p' "$here/Cargo.toml" | tr 'a-z-' 'A-Z_')
sed -i 's/^#cmakedefine \(WASMTIME_FEATURE_[A-Z0-9_]*\)$/\/* not built: \1 *\//' "$work/include/wasmtime/conf.h.in"
for feature in $features; do
    sed -i "s/^\/\* not built: WASMTIME_FEATURE_$feature \*\/$/#define WASMTIME_FEATURE_$feature/" "$work/include/wasmtime/conf.h.in"
done
mv "$work/include/wasmtime/conf.h.in" "$work/include/wasmtime/conf.h"
rm -rf "$work/target"
touch "$work/complete"
rm -rf "$dir"
mv "$work" "$dir"
echo "$dir"
