#!/usr/bin/env bash
# Is the net tight? Brings back one bug after the other, in a copy of the tree, and demands that golden scripts or
# simulator find each.
#
#     tests/sabotage/run.sh [--seeds N] [-j N] [PATCH…]
#
#     --seeds N   how many seeds the simulator has for each bug (200)
#     -j N        how many seeds run at a time (as many as there are processors)
#     PATCH       numbers or names of patches, such as 07 or 07_hole_skipped; without any: all of them
#
# Seeds are run under the protocol that the patch names ("Protocol: raft" or "both"; without a word: paxos).
# First the tree as it is must pass the same scripts and seeds. Exit code: 0 every bug was found, 1 one was not,
# 2 something else is wrong (a patch no longer applies, a build fails, the tree itself does not pass).
#
# The copy holds what scripts and simulator run, and no more: neither programs nor their threads and ports, so that
# it builds fast. Copy and build are kept in $SABOTAGE_DIR (target/sabotage), so that a second run is quicker.
set -euo pipefail
cd "$(dirname "$0")/../.."
SOURCE=$PWD
PATCHES=$SOURCE/tests/sabotage
WORK=${SABOTAGE_DIR:-${CARGO_TARGET_DIR:-$SOURCE/target}/sabotage}
STAGE=$WORK/stage
TREE=$WORK/tree
LEFT_OUT=(bin fuzzing node directory logfile client config)
# A run of 200 seeds takes seconds; a bug that makes it longer than this is one that the net did not find.
LIMIT_S=900

export CARGO_TARGET_DIR=${SABOTAGE_TARGET_DIR:-$WORK/build}
export CARGO_PROFILE_RELEASE_INCREMENTAL=true
export CARGO_PROFILE_RELEASE_LTO=off
export CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
export CARGO_PROFILE_RELEASE_OPT_LEVEL=2
SABOTAGE_SEEDS=200
SABOTAGE_JOBS=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

main() {
    parse "$@"
    export SABOTAGE_SEEDS SABOTAGE_JOBS
    stage
    echo "the tree as it is, $SABOTAGE_SEEDS seeds:"
    restore
    build || fail "the tree does not build, see $WORK/build.log"
    export SABOTAGE_PROTOCOL=both
    examine
    [ "$GOLDEN" = - ] || fail "a golden script of the tree fails, see $WORK/golden.log"
    [ "$NEEDED" = clean ] || fail "the tree itself breaks a rule: $INVARIANT, seed $NEEDED, see $WORK/hunt.log"
    echo "passes"
    printf '\n%-50s | %-8s | %-34s | %s\n' bug golden "rule that the simulator saw broken" "seeds needed"
    survivors=()
    for patch in "${CHOSEN[@]}"; do
        sabotage "$patch"
    done
    echo
    if [ ${#survivors[@]} -gt 0 ]; then
        echo "the net has a hole: ${survivors[*]}" >&2
        exit 1
    fi
    echo "all ${#CHOSEN[@]} bugs are found"
}

parse() {
    CHOSEN=()
    while [ $# -gt 0 ]; do
        case $1 in
            --seeds) SABOTAGE_SEEDS=${2:?--seeds needs a number}; shift ;;
            -j) SABOTAGE_JOBS=${2:?-j needs a number}; shift ;;
            -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
            -*) fail "unknown option $1; see --help" ;;
            *)
                local found=("$PATCHES/${1%.patch}"*.patch)
                [ -e "${found[0]}" ] || fail "no patch begins with $1; see $PATCHES"
                CHOSEN+=("${found[@]}")
                ;;
        esac
        shift
    done
    [ ${#CHOSEN[@]} -gt 0 ] || CHOSEN=("$PATCHES"/*.patch)
}

# One bug, one line of the table.
sabotage() {
    local name
    name=$(basename "$1" .patch)
    restore
    patch -d "$TREE" -p1 -F0 -s --no-backup-if-mismatch <"$WORK/patches/$name.patch" >"$WORK/patch.log" ||
        fail "$name no longer applies, see $WORK/patch.log"
    SABOTAGE_PROTOCOL=$(sed -n 's/^Protocol: //p' "$WORK/patches/$name.patch")
    export SABOTAGE_PROTOCOL=${SABOTAGE_PROTOCOL:-paxos}
    build || fail "with $name the tree does not build, see $WORK/build.log"
    examine
    [ "$GOLDEN$NEEDED" != -clean ] || survivors+=("$name")
    printf '%-50s | %-8s | %-34s | %s\n' "$name" "$GOLDEN" "$INVARIANT" "${NEEDED/clean/-}"
}

# What is built, without the bugs: taken once, so that nobody's editing changes a run that is under way.
stage() {
    local name
    rm -rf "$STAGE" "$WORK/patches"
    mkdir -p "$STAGE/tests" "$TREE"
    cp -r "$PATCHES" "$WORK/patches"
    cp -r Cargo.toml Cargo.lock build.rs src "$STAGE"
    cp -r tests/common tests/golden tests/golden.rs tests/sabotage.rs "$STAGE/tests"
    # Of the library its modules and the cores alone: the rest that it offers is made of those left out.
    grep -E '^pub (mod [a-z]*|use spaxos_consensus as consensus);$' src/lib.rs >"$STAGE/src/lib.rs"
    for name in "${LEFT_OUT[@]}"; do
        rm -rf "${STAGE:?}/src/$name"
        sed "/^pub mod $name;$/d" "$STAGE/src/lib.rs" >"$WORK/lib.rs"
        mv "$WORK/lib.rs" "$STAGE/src/lib.rs"
    done
    # Programs and examples are left out as well.
    sed -E '/^default-run = /d; /^\[\[(bin|example)\]\]$/,/^$/d' Cargo.toml >"$STAGE/Cargo.toml"
    # Of the commands golden scripts use the one that draws what they did.
    find "$STAGE/src/cli" -type f ! -name mermaid.rs -delete
    echo 'pub mod trace { pub mod mermaid; }' >"$STAGE/src/cli/mod.rs"
}

# The copy is without a bug again. Only what differs is written, with a new time, so that cargo sees just that.
restore() {
    local file
    while IFS= read -r -d '' file; do
        cmp -s "$STAGE/$file" "$TREE/$file" && continue
        mkdir -p "$(dirname "$TREE/$file")"
        cp "$STAGE/$file" "$TREE/$file"
    done < <(cd "$STAGE" && find . -type f -print0)
    while IFS= read -r -d '' file; do
        [ -e "$STAGE/$file" ] || rm "$TREE/$file"
    done < <(cd "$TREE" && find . -type f -print0)
}

build() {
    (cd "$TREE" && cargo test --release --locked --no-run --no-default-features --features simulator --test golden --test sabotage) >"$WORK/build.log" 2>&1
}

# Sets GOLDEN to the first script that differs or -, INVARIANT and NEEDED to what the simulator found and after how
# many seeds, or - and clean.
examine() {
    local status=0
    GOLDEN=- INVARIANT=- NEEDED=clean
    program golden >"$WORK/golden.log" 2>&1 || GOLDEN=$(script)
    program sabotage --ignored hunt --nocapture >"$WORK/hunt.log" 2>&1 || status=$?
    if [ $status -ne 0 ] || ! grep -qE '^(clean after|found by)' "$WORK/hunt.log"; then
        fail "the simulator did not end in order (status $status), see $WORK/hunt.log"
    fi
    if grep -q '^found by' "$WORK/hunt.log"; then
        INVARIANT=$(sed -n 's/^found by \(.*\), seed [0-9]* of .*/\1/p' "$WORK/hunt.log")
        NEEDED=$(sed -n 's/^found by .*seeds needed: //p' "$WORK/hunt.log")
    fi
}

# Runs a test program that was just built.
program() {
    local name=$1 path
    shift
    path=$(sed -n "s/^ *Executable.*tests\/$name.rs (\(.*\))$/\1/p" "$WORK/build.log")
    (cd "$TREE" && timeout "$LIMIT_S" "$path" "$@")
}

# The first golden script that the log names; it names none where an assertion ended it.
script() {
    local name
    name=$(grep -oE '(paxos|raft|shared)/[0-9][0-9]_' "$WORK/golden.log" | head -1 | grep -oE '[0-9]+')
    echo "${name:-observer}"
}

fail() {
    echo "run.sh: $*" >&2
    exit 2
}

main "$@"; exit
