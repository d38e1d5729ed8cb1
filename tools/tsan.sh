#!/bin/bash
# The tests in which threads meet, under the thread sanitizer: the C tests of what threads share,
# and the scenarios with a server of several loops. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-tsan}
SANITIZE=thread tools/build.sh "$build"
# The engine is not built with it. Reserving memory for thousands of sandboxes leaves none for the
# sanitizer's own, so servers get fewer: their addresses are what is left of 1.5 TiB.
export TSAN_OPTIONS="suppressions=$PWD/tools/tsan.supp:history_size=4:${TSAN_OPTIONS:-}"
status=0
# Not those that crash or damage something on purpose, in one thread, a thousand times over.
ctest --test-dir "$build" --output-on-failure -j2 -R '^(base|loop|ns|store|run|http|dev|api)/' \
    -E 'crash|damage|model' || status=1
python=python3
"$python" -c 'import pytest' 2>/dev/null || python=/usr/bin/python3
"$python" -m pytest -q -rf --build "$build" --serve-option=--runs=100 \
    "${@:2}" tests/test_threads.py tests/test_run.py tests/test_tree.py tests/test_clients.py \
    tests/test_web.py tests/test_listen.py tests/test_serve.py tests/test_calls.py \
    tests/test_places.py tests/test_load.py ||
    status=1
exit "$status"
