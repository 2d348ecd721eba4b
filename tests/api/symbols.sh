#!/bin/sh
# The shared library exports the public names and nothing else.
out=$(nm -D --defined-only "$1" | awk '{print $NF}' | grep -vE '^ees_[a-z]')
[ -z "$out" ] || { echo "exported by mistake:"; echo "$out"; exit 1; }
n=$(nm -D --defined-only "$1" | grep -c ' T ees_')
echo "$n public functions"
[ "$n" -ge 30 ]
