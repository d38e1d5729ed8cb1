#!/bin/bash
# Builds everything and runs every test: the checks of form, the C tests, the scenarios. Ends with
# one line that counts them.
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
tools/build.sh "$build" || exit 1
passed=0
failed=0

echo "== form: formatting, layers, words"
if tools/check.sh; then ((passed++)); else ((failed++)); fi

echo "== C tests"
export ASAN_OPTIONS=detect_stack_use_after_return=0:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}
junit=$(mktemp)
ctest --test-dir "$build" --output-on-failure -j2 --output-junit "$junit"
count() { sed -n "s/.*<testsuite[^>]*[ \t\n]$1=\"\([0-9]*\)\".*/\1/p" <(tr '\n' ' ' <"$2") | head -n 1; }
total=$(count tests "$junit")
bad=$(count failures "$junit")
((passed += ${total:-0} - ${bad:-0}, failed += ${bad:-0}))
((${total:-0} > 0)) || { echo "error: no C test ran" >&2; ((failed++)); }

echo "== scenarios"
python=python3
"$python" -c 'import pytest' 2>/dev/null || python=/usr/bin/python3
"$python" -m pytest tests -q -rf --build "$build" --junit-xml "$junit" "${@:2}"
status=$?
total=$(count tests "$junit")
bad=$(($(count failures "$junit") + $(count errors "$junit")))
skipped=$(count skipped "$junit")
((passed += ${total:-0} - bad - ${skipped:-0}, failed += bad))
((status == 0 || bad > 0)) || { echo "error: pytest ended with $status" >&2; ((failed++)); }
rm -f "$junit"

echo "$passed passed, $failed failed"
((failed == 0))
