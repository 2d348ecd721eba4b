#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# engine.sh PROJECT BUILD: the protocol of engine.pml in all its variants, by spin. 77: spin is not installed.
set -euo pipefail
project=$1 build=$2
command -v spin >/dev/null || {
    echo "skipped: spin is not installed (apt-get install spin)"
    exit 77
}
mkdir -p "$build"
cd "$build"

# verify NAME MODE DEFINITIONS...: MODE safety: assertions and deadlocks; cycles: any execution that does not end.
verify() {
    local name=$1 mode=$2 flags=-DSAFETY run=
    shift 2
    [ "$mode" = cycles ] && flags=-DNP run=-l
    rm -f pan* ./*.trail
    cp "$project/tests/proofs/engine.pml" .
    spin -a "$@" engine.pml </dev/null >"$name.$mode.log" || {
        cat "$name.$mode.log"
        exit 1
    }
    ${CC:-gcc} -O2 -w -DCOLLAPSE -DVECTORSZ=2048 "$flags" -o pan pan.c
    ./pan -m1000000 -w22 -n $run >"$name.$mode.log"
    if ! grep -q 'errors: 0' "$name.$mode.log" || grep -q 'search depth too small' "$name.$mode.log"; then
        cat "$name.$mode.log"
        [ -e engine.pml.trail ] && spin -t -p "$@" engine.pml </dev/null | tail -n 60
        echo "$name: BROKEN ($mode)"
        exit 1
    fi
    echo "$name: holds ($mode), $(awk '/states, stored/ {print $1; exit}' "$name.$mode.log") states"
}

for mode in safety cycles; do
    verify drain $mode -DFRAMES=3 -DSLOTS=2 -DWORKERS=2 -DABORT=0 -DSTALL=0
    verify abort $mode -DFRAMES=2 -DSLOTS=2 -DWORKERS=2 -DABORT=1 -DSTALL=0
    verify stuck $mode -DFRAMES=2 -DSLOTS=1 -DWORKERS=2 -DABORT=0 -DSTALL=1
    verify slow $mode -DFRAMES=2 -DSLOTS=1 -DWORKERS=2 -DABORT=0 -DSTALL=2
    verify one-worker $mode -DFRAMES=2 -DSLOTS=2 -DWORKERS=1 -DABORT=1 -DSTALL=2
done
