#!/bin/bash
# Installs what is missing to build and try it (`run`), to test (`test`) or to measure (`bench`). As
# root it installs Debian packages; anyone else is told the one command to run.
set -euo pipefail
what=${1:-run}
packages=(gcc libc6-dev make cmake ninja-build pkg-config libuv1-dev libcurl4-openssl-dev
    libssl-dev libsqlite3-dev libjansson-dev libarchive-dev libzstd-dev libcmocka-dev
    clang lld wasi-libc libclang-rt-dev-wasm32 curl)
case $what in
run) ;;
test)
    packages+=(git python3 python3-pytest python3-pip clang-format libclang-rt-14-dev
        rustc libstd-rust-dev-wasm32 npm zsh)
    ;;
bench) packages+=(python3 nginx-light wrk) ;;
*)
    echo "usage: tools/setup.sh run|test|bench" >&2
    exit 2
    ;;
esac

# Cargo first: without it the packages are of no use.
if ! command -v cargo >/dev/null; then
    echo "error: cargo is missing; install Rust 1.95 or newer (https://rustup.rs)" >&2
    [[ -z ${SUDO_USER:-} ]] || echo "  (sudo does not have the PATH of $SUDO_USER: run make without sudo)" >&2
    exit 1
fi
if ! version=$(cargo --version); then # rustup's stand-in for it, without a toolchain
    echo "error: cargo does not run, for the reason above; with rustup: rustup default stable" >&2
    exit 1
fi
version=$(sed 's/^cargo \([0-9]*\)\.\([0-9]*\).*/\1 \2/' <<<"$version")
read -r major minor <<<"$version"
if ((major < 1 || (major == 1 && minor < 95))); then
    echo "error: $(cargo --version) is too old; Rust 1.95 or newer is needed (rustup update)" >&2
    exit 1
fi

if ! command -v dpkg-query >/dev/null; then
    echo "this is not Debian: what these packages hold must be there: ${packages[*]}" >&2
    exit 0
fi
installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${packages[@]}" 2>/dev/null |
    sed -n 's/^.i. *//p' || true)
missing=()
for package in "${packages[@]}"; do
    [[ $'\n'$installed$'\n' == *$'\n'$package$'\n'* ]] && continue
    # Of these programs any on the path will do as well as the distribution's.
    case $package in
    npm | curl | git | make | cmake) command -v "$package" >/dev/null && continue ;;
    esac
    missing+=("$package")
done
if ((${#missing[@]})); then
    if ((EUID == 0)); then
        echo "installing ${#missing[@]} packages and what they need (one to five minutes): ${missing[*]}" >&2
        [[ ${missing[*]} != *nginx* ]] || echo "(nginx's package may start a server of its own on port 80)" >&2
        log=$(mktemp)
        if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            echo "error: the packages could not be installed; the full log is in $log" >&2
            exit 1
        fi
        rm -f "$log"
    else
        sudo=
        command -v sudo >/dev/null && sudo="sudo "
        echo "error: these packages are missing. Run this once as root, then try again:" >&2
        echo "  ${sudo}apt-get update && ${sudo}apt-get install -y --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
fi
