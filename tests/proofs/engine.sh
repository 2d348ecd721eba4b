#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# engine.sh PROJECT BUILD [--all]: the protocol of engine.pml in its variants, by spin; --all: also those that take minutes. 77: spin is not installed.
set -euo pipefail
project=$1 build=$2 all=false
[ "${3:-}" = --all ] && all=true
command -v spin >/dev/null || {
    echo "skipped: spin is not installed (apt-get install spin)"
    exit 77
}
mkdir -p "$build"
cd "$build"

# build_pan FLAGS DEFINITIONS...
build_pan() {
    local flags=$1
    shift
    rm -f pan* ./*.trail
    cp "$project/tests/proofs/engine.pml" .
    spin -a "$@" engine.pml </dev/null >spin.log || {
        cat spin.log
        exit 1
    }
    ${CC:-gcc} -O2 -w -DCOLLAPSE -DVECTORSZ=2048 "$flags" -o pan pan.c
}

# verify NAME MODE DEFINITIONS...: MODE safety: assertions and deadlocks; cycles: any execution that does not end.
verify() {
    local name=$1 mode=$2 flags=-DSAFETY run=
    shift 2
    [ "$mode" = cycles ] && flags=-DNP run=-l
    build_pan "$flags" "$@"
    ./pan -m1000000 -w22 -n $run >"$name.$mode.log"
    if ! grep -q 'errors: 0' "$name.$mode.log" || grep -q 'search depth too small' "$name.$mode.log"; then
        cat "$name.$mode.log"
        [ -e engine.pml.trail ] && spin -t -p "$@" engine.pml </dev/null | tail -n 60
        echo "$name: BROKEN ($mode)"
        exit 1
    fi
    echo "$name: holds ($mode), $(awk '/states, stored/ {print $1; exit}' "$name.$mode.log") states"
}

# breaks NUMBER WHAT DEFINITIONS...: with one notification left out, spin finds somebody who sleeps for ever.
breaks() {
    local number=$1 what=$2
    shift 2
    build_pan -DSAFETY -DBREAK="$number" "$@"
    ./pan -m1000000 -w22 -n >break.log
    if ! grep -q 'invalid end state' break.log; then
        echo "without $what: NOT caught"
        exit 1
    fi
    echo "without $what: caught"
}

drain=(-DFRAMES=2 -DSLOTS=1 -DWORKERS=1 -DABORT=0 -DSTALL=0)
abort=(-DFRAMES=2 -DSLOTS=1 -DWORKERS=1 -DABORT=1 -DSTALL=0)
stuck=(-DFRAMES=2 -DSLOTS=1 -DWORKERS=1 -DABORT=0 -DSTALL=1)
breaks 1 "finish waking the pusher" "${abort[@]}"
breaks 2 "finish waking the puller" "${drain[@]}"
breaks 3 "an answer waking the puller" "${drain[@]}"
breaks 4 "the watchdog waking the puller" "${stuck[@]}"
breaks 5 "the watchdog waking the pusher" "${stuck[@]}"
breaks 6 "close waking the workers" "${drain[@]}"

for mode in safety cycles; do
    verify drain $mode -DFRAMES=2 -DSLOTS=2 -DWORKERS=2 -DABORT=0 -DSTALL=0
    verify abort $mode -DFRAMES=2 -DSLOTS=1 -DWORKERS=2 -DABORT=1 -DSTALL=0
    verify stuck $mode -DFRAMES=2 -DSLOTS=1 -DWORKERS=2 -DABORT=0 -DSTALL=1
    verify slow $mode -DFRAMES=2 -DSLOTS=1 -DWORKERS=1 -DABORT=1 -DSTALL=2
    $all || continue
    verify drain-3-frames $mode -DFRAMES=3 -DSLOTS=2 -DWORKERS=2 -DABORT=0 -DSTALL=0
    verify abort-2-slots $mode -DFRAMES=2 -DSLOTS=2 -DWORKERS=2 -DABORT=1 -DSTALL=0
    verify slow-2-workers $mode -DFRAMES=2 -DSLOTS=1 -DWORKERS=2 -DABORT=0 -DSTALL=2
    verify slow-2-slots $mode -DFRAMES=2 -DSLOTS=2 -DWORKERS=1 -DABORT=1 -DSTALL=2
done
