#!/bin/bash
# Builds the fuzzers and runs each for $FUZZ_SECONDS (default 60), two at a time. New inputs are
# kept in build-fuzz/corpus/NAME; a finding stops the run and stays in build-fuzz/findings.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build-fuzz}
seconds=${FUZZ_SECONDS:-60}
engine=$(engine/build.sh)
echo "building the fuzzers in $build" >&2
cmake -S . -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang -DFUZZ=ON -DSANITIZE=ON -DWASMTIME_DIR="$engine" >/dev/null
fuzzers=()
for source in fuzz/*_fuzz.c; do
    name=$(basename "$source" .c)
    [[ $# -eq 0 || " $* " == *" $name "* ]] && fuzzers+=("$name")
done
ninja -C "$build" "${fuzzers[@]}" | tail -n 1
mkdir -p "$build/findings"
export ASAN_OPTIONS=detect_stack_use_after_return=0:${ASAN_OPTIONS:-}

run_one() {
    local name=$1
    mkdir -p "$build/corpus/$name"
    # What was found before is replayed first: a crash that was mended must stay mended.
    local seeds=("$build/corpus/$name")
    [[ -d fuzz/corpus/$name ]] && seeds+=("fuzz/corpus/$name")
    if "$build/$name" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$build/findings/$name-" "${seeds[@]}" >"$build/$name.log" 2>&1; then
        echo "$name: no finding, $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$name.log") runs in $seconds s"
    else
        echo "$name: FINDING, see $build/$name.log" >&2
        return 1
    fi
}
export -f run_one
export build seconds
printf '%s\n' "${fuzzers[@]}" | xargs -P 2 -I{} bash -c 'run_one {}'
