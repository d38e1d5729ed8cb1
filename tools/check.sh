#!/bin/bash
# Checks of form, without building: formatting, who includes whom, words that don't belong here.
cd "$(dirname "$0")/.."
bad=0
say() {
    echo "$1" >&2
    bad=1
}

sources=$(git ls-files --cached --others --exclude-standard 'src/*.[ch]' 'bench/*.[ch]' 'fuzz/*.[ch]' 'examples/*.[ch]' 'tests/*.[ch]')
if command -v clang-format >/dev/null; then
    for file in $sources; do
        clang-format --dry-run -Werror "$file" >/dev/null 2>&1 || say "$file: not formatted (make format)"
    done
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
dev: loop ns store run engine wasi
http: loop
api: loop ns store run http dev engine wasi
cli:
"
while IFS=: read -r folder allowed; do
    [[ $folder ]] || continue
    for file in $(git ls-files --cached --others --exclude-standard "src/$folder/*.[ch]"); do
        [[ $file == *_test.c ]] && continue
        while read -r included; do
            case " $folder base $allowed " in
            *" $included "*) ;;
            *) say "$file: includes $included/, which $folder/ may not" ;;
            esac
        done < <(sed -n 's|^#include "\([a-z]*\)/.*|\1|p' "$file" | sort -u)
    done
done <<<"$layers"
only() { # only HEADER FOLDER: system header that one folder alone may include
    local users
    users=$(git ls-files --cached --others --exclude-standard 'src/*.[ch]' | grep -v "^src/$2/" | grep -v '_test\.c$' | xargs grep -l "#include <$1" 2>/dev/null)
    [[ -z $users ]] || say "only src/$2/ may include <$1>: $users"
}
only uv.h loop
only microhttpd.h http
only wasmtime engine
only sqlite3.h store

# Paths of a machine.
words=$(git grep -nE '(/root/|/work/|/home/[a-z])' -- . ':!tools/check.sh' | head -n 5)
[[ -z $words ]] || say "paths of a machine: $words"
exit $bad
