#!/bin/bash
# Makes BUILD/0asm-VERSION-linux-ARCH.tar.gz (default: build-dist): the program with the libraries
# that it needs besides glibc's, their licences, the documentation and a sample. It runs where glibc
# is as new as here, without anything else being installed. gzip, because every Debian can unpack it.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-dist}
engine=$(engine/build.sh)
options=(-DWASMTIME_DIR="$engine" -DDIST=ON)
[[ ${CI:-} ]] && options+=(-DWERROR=ON)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "building 0asm in $build" >&2
if ! { cmake -S . -B "$build" -G Ninja "${options[@]}" && ninja -C "$build" 0asm sample_first; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
read -r _ version _ <<<"$("$build/0asm" version)"
name=0asm-$version-linux-$(uname -m)
top=$build/stage/$name
rm -rf "$build/stage"
mkdir -p "$top"/{bin,lib,licenses/crates,samples,systemd} \
    "$top"/share/{man/man1,bash-completion/completions,zsh/site-functions}

program=$top/bin/0asm
strip -o "$program" "$build/0asm"

# --- libraries

# What glibc's packages hold belongs to the machine: it has to fit its kernel and its settings.
glibc=' linux-vdso.so.1 ld-linux-x86-64.so.2 ld-linux-aarch64.so.1 libc.so.6 libm.so.6 libdl.so.2 librt.so.1 libpthread.so.0 libresolv.so.2 libutil.so.1 '
libraries=()
while read -r soname path; do
    [[ $glibc == *" $soname "* ]] && continue
    cp -L "$path" "$top/lib/$soname"
    chmod 644 "$top/lib/$soname"
    libraries+=("$path")
done < <(ldd "$build/0asm" | sed -n 's/^\t*\([^ ]*\) => \(\/[^ ]*\) .*/\1 \2/p')
strip --strip-unneeded "$top"/lib/*
while read -r archive; do
    libraries+=("$archive")
done < <(sed -n 's/^archive_[a-z0-9]*:FILEPATH=//p' "$build/CMakeCache.txt")

# The packages that they are from have their licences. A path is asked for with and without /usr,
# since /lib may be a link.
forms=()
for library in "${libraries[@]}"; do
    forms+=("/usr${library#/usr}" "${library#/usr}")
done
dpkg -S "${forms[@]}" 2>/dev/null >"$log" || true
for library in "${libraries[@]}"; do
    package=$(sed -n "s|^\([^:]*\).*: \(/usr\)\{0,1\}${library#/usr}$|\1|p" "$log" | head -n 1)
    [[ $package ]] || {
        echo "error: no package holds $library, so its licence is not known" >&2
        exit 1
    }
    cp -L "/usr/share/doc/$package/copyright" "$top/licenses/$package"
done

# The engine's parts, as cargo names them for this machine.
target=$(rustc -vV | sed -n 's/^host: //p')
cargo=(cargo metadata --format-version 1 --locked --filter-platform "$target" --manifest-path engine/Cargo.toml)
"${cargo[@]}" | tr ',' '\n' |
    sed -n 's/^"manifest_path":"\(.*\)\/Cargo.toml"$/\1/p' | sort -u >"$log"
crates=0
while read -r crate; do
    [[ $crate == "$PWD/engine" ]] && continue
    for text in "$crate"/{LICENSE,LICENCE,COPYING,COPYRIGHT,NOTICE}*; do
        [[ -f $text ]] || continue
        mkdir -p "$top/licenses/crates/$(basename "$crate")"
        cp "$text" "$top/licenses/crates/$(basename "$crate")/"
        crates=$((crates + 1))
    done
done <"$log"
((crates > 0)) || {
    echo "error: no licences of the engine's parts were found" >&2
    exit 1
}

# --- everything else

cp README.md ARCHITECTURE.md "$top/"
cp -R docs "$top/docs"
cp -R examples "$top/examples"
cp "$build/samples/first.wasm" "$top/samples/"
cp packaging/0asm.service "$top/systemd/"
"$program" docs man >"$top/share/man/man1/0asm.1"
"$program" completion bash >"$top/share/bash-completion/completions/0asm"
"$program" completion zsh >"$top/share/zsh/site-functions/_0asm"
chmod -R u+w,go-w,a+rX "$top"

# The same sources make the same tarball.
date=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
tar -C "$build/stage" --sort=name --mtime="@$date" --owner=0 --group=0 --numeric-owner -cf - "$name" |
    gzip -9n >"$build/$name.tar.gz.part"
mv "$build/$name.tar.gz.part" "$build/$name.tar.gz"
rm -rf "$build/stage"
echo "$build/$name.tar.gz"
