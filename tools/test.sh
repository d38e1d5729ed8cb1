#!/bin/bash
# Builds everything and runs every test: the checks of form, the C tests, the scenarios. Ends with
# one line that counts them.
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
tools/build.sh "$build" || exit 1
passed=0
failed=0
all_skipped=0

echo "== form: formatting, layers, words"
if tools/check.sh; then ((passed++)); else ((failed++)); fi

echo "== C tests"
export ASAN_OPTIONS=detect_stack_use_after_return=0:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# count FILE STATUS WHAT: adds the results in FILE (JUnit) to the sums.
count() {
    local tests=0 failures=0 errors=0 skipped=0 attribute value
    for attribute in tests failures errors skipped; do
        value=$(tr '\n' ' ' <"$1" 2>/dev/null |
            sed -n "s/.*<testsuite [^>]*[[:space:]]$attribute=\"\([0-9]*\)\".*/\1/p")
        printf -v "$attribute" %d "${value:-0}"
    done
    ((passed += tests - failures - errors - skipped))
    ((failed += failures + errors))
    ((all_skipped += skipped))
    if ((tests == 0 || ($2 != 0 && failures + errors == 0))); then
        echo "error: $3 ended with status $2 after $tests tests" >&2
        ((failed += 1))
    fi
}

# Where make test was started in the background these signals are ignored, by all children too; the
# tests send them.
signals=(env --default-signal=INT,QUIT,HUP,PIPE)
"${signals[@]}" ctest --test-dir "$build" --output-on-failure -j2 --output-junit "$results/c.xml"
count "$results/c.xml" $? ctest

python=python3
"$python" -c 'import pytest' 2>/dev/null || python=/usr/bin/python3
echo "== guests that are fetched, once"
"$python" tests/support/guests.py || ((failed++))

echo "== scenarios"
"${signals[@]}" "$python" -m pytest tests -q -rf --build "$build" --junit-xml "$results/scenarios.xml" "${@:2}"
count "$results/scenarios.xml" $? pytest

skipped=
((all_skipped == 0)) || skipped=", $all_skipped skipped"
echo "$passed passed, $failed failed$skipped"
((failed == 0))
