#!/bin/bash
# Checks of form, without building: formatting, who includes whom, words that don't belong here.
cd "$(dirname "$0")/.."
bad=0
say() {
    echo "$1" >&2
    bad=1
}

sources=$(git ls-files --cached --others --exclude-standard 'src/*.[ch]' 'bench/*.[ch]' 'fuzz/*.[ch]' 'examples/*.[ch]' 'tests/*.[ch]')
[[ $sources ]] || say "git lists no sources: this must be a git checkout that belongs to $(id -un)"
if command -v clang-format >/dev/null; then
    # One process for all files; what it says is file:line:column.
    while read -r file; do
        say "$file: not formatted (make format)"
    done < <(xargs clang-format --dry-run 2>&1 <<<"$sources" |
        sed -n 's/^\([^:]*\):[0-9]*:[0-9]*: .*/\1/p' | sort -u)
else
    say "clang-format is missing"
fi

# The layers: each folder may include itself, base, and what stands here (ARCHITECTURE.md).
layers="
base:
loop:
ns: loop
store: loop ns
wasi: loop ns
engine: loop ns wasi
run: loop ns wasi engine store
net: loop ns
dev: loop ns store run engine wasi net
http: loop
api: loop ns store run http dev engine wasi
cli:
"
while IFS=: read -r folder allowed; do
    [[ $folder ]] || continue
    files=$(grep "^src/$folder/" <<<"$sources" | grep -v '_test\.c$')
    [[ $files ]] || continue
    while read -r file included; do
        case " $folder base $allowed " in
        *" $included "*) ;;
        *) say "$file: includes $included/, which $folder/ may not" ;;
        esac
    done < <(xargs grep -H '^#include "[a-z]*/' <<<"$files" |
        sed 's|^\([^:]*\):#include "\([a-z]*\)/.*|\1 \2|' | sort -u)
done <<<"$layers"
only() { # only HEADER FOLDER: system header that one folder alone may include
    local users
    users=$(grep '^src/' <<<"$sources" | grep -v "^src/$2/" | grep -v '_test\.c$' | xargs grep -l "#include <$1" 2>/dev/null)
    [[ -z $users ]] || say "only src/$2/ may include <$1>: $users"
}
only uv.h loop
only wasmtime engine
only sqlite3.h store
only openssl/ssl.h net
only curl/multi.h net

# Paths of a machine. A "/root/x" in quotes may be that of a run (/proc/ID/root/x).
words=$(git grep -nE "/root/[.]|(^|[^A-Za-z0-9_}>)/.\"'-])/(root|work|home/[a-z]+)/|[\"'](/work|/home/[a-z]+)/" \
    -- . ':!tools/check.sh' | head -n 5)
[[ -z $words ]] || say "paths of a machine: $words"
# What a merge has left.
conflicts=$(git grep -lE '^(<<<<<<<|>>>>>>>) ' -- . | head -n 5)
[[ -z $conflicts ]] || say "not merged to its end: $conflicts"
exit $bad
