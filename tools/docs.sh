#!/bin/bash
# Puts the parts of README.md and docs/ that are made from the program's tables into their places:
# what stands between <!-- 0asm docs NAME --> and <!-- end -->. With --check nothing is written; a
# part that differs is said, and the status is 1.
set -euo pipefail
cd "$(dirname "$0")/.."
check=
[[ ${1:-} == --check ]] && { check=1; shift; }
build=${1:-build}
status=0
made=$(mktemp)
part=$(mktemp)
trap 'rm -f "$made" "$part"' EXIT
for page in README.md docs/*.md docs/tree/*.md; do
    inside=
    while IFS= read -r line || [[ $line ]]; do
        if [[ $line =~ ^'<!-- 0asm docs '([a-z-]+)' -->'$ ]]; then
            "$build/0asm" docs "${BASH_REMATCH[1]}" >"$part"
            printf '%s\n\n' "$line"
            cat "$part"
            echo
            inside=1
        elif [[ $line == '<!-- end -->' ]]; then
            inside=
            printf '%s\n' "$line"
        elif [[ ! $inside ]]; then
            printf '%s\n' "$line"
        fi
    done <"$page" >"$made"
    if ! cmp -s "$made" "$page"; then
        if [[ $check ]]; then
            echo "$page differs from the program's tables: run tools/docs.sh $build" >&2
            status=1
        else
            cat "$made" >"$page"
            echo "$page"
        fi
    fi
done
exit $status
