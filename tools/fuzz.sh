#!/usr/bin/env bash
# Fuzzes the code that reads bytes from outside, one target after another, and reports how many inputs each ran:
#
#     tools/fuzz.sh [--secs N] [TARGET...]      N seconds each, 60 by default; all targets by default
#     tools/fuzz.sh --minimise [TARGET...]      keeps the recorded seeds, and the fewest others that reach as much
#
# What the fuzzer learns stays in fuzz/corpus; fuzz/seeds is what it starts from and what `cargo test` runs.
# An input that fails is left in fuzz/artifacts/TARGET: mend what it found, and move the input to
# fuzz/regressions/TARGET under a name that says what it was. It needs cargo-fuzz (cargo install cargo-fuzz
# --locked) and a C++ compiler, no nightly.
set -euo pipefail
cd "$(dirname "$0")/.."

# libFuzzer's instrumentation is an unstable option that the stable compiler has as well.
export RUSTC_BOOTSTRAP=1
ALL=$(sed -nE 's/^name = "([a-z_]+)"$/\1/p' fuzz/Cargo.toml)
SEED_BYTES=4096

main() {
    local secs=60 minimise=no
    while [ $# -gt 0 ]; do
        case $1 in
            --secs) secs=$2; shift 2 ;;
            --minimise) minimise=yes; shift ;;
            -*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 1 ;;
            *) break ;;
        esac
    done
    local target failed=0
    for target in ${@:-$ALL}; do
        mkdir -p "fuzz/corpus/$target" "fuzz/seeds/$target" "fuzz/artifacts/$target"
        if [ "$minimise" = yes ]; then
            minimise "$target"
        else
            run "$target" "$secs" || failed=1
        fi
    done
    exit $failed
}

run() {
    local target=$1 log=fuzz/artifacts/$1.log
    local options=(-max_total_time="$2" -timeout=10)
    [ ! -f "fuzz/dictionaries/$target.dict" ] || options+=(-dict="fuzz/dictionaries/$target.dict")
    if cargo fuzz run -s none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- "${options[@]}" \
        >"$log" 2>&1; then
        echo "$target: $(grep -E '^Done [0-9]+ runs' "$log"), $(grep -oE 'cov: [0-9]+' "$log" | tail -1)"
    else
        echo "$target: FAILED, see $log" >&2
        return 1
    fi
}

# What was recorded stays; of the rest, the fewest that reach more.
minimise() {
    local target=$1 seeds=fuzz/seeds/$1 before
    before=$(mktemp -d)
    find "$seeds" -type f ! -name 'recorded-*' -exec mv -t "$before" {} +
    cargo fuzz run -s none "$target" "$seeds" "fuzz/corpus/$target" "$before" -- \
        -set_cover_merge=1 -use_counters=0 -max_len=$SEED_BYTES -timeout=10 >"fuzz/artifacts/$target.log" 2>&1
    rm -r "$before"
    echo "$target: $(find "$seeds" -type f | wc -l) seeds of $(du -sb "$seeds" | cut -f1) bytes"
}

main "$@"
