#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the build into a folder of its own, moves that folder, and uses it as a stranger would: the command, and
# examples/embed.c by pkg-config and by find_package, shared and static.
set -eu
source=$1 build=$2 cc=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clip=$source/tools/assets/world/clip.avi

cmake --install "$build" --prefix "$work/first" >"$work/install.log"
mv "$work/first" "$work/moved"
prefix=$work/moved
export PKG_CONFIG_PATH="$(dirname "$(find "$prefix" -name eestream.pc)")"
export LD_LIBRARY_PATH="$(dirname "$(find "$prefix" -name 'libeestream.so')")"

"$prefix/bin/eestream" run "$clip" -q >"$work/lines"
frames=$(wc -l <"$work/lines")
[ "$frames" -gt 100 ] || { echo "the installed command gave $frames lines"; exit 1; }

# check NAME PROGRAM: one line a frame, a class of the model on each, and a failure told for what is not there
check() {
    "$2" "$clip" >"$work/out"
    n=$(grep -c 'block' "$work/out")
    [ "$n" -eq "$frames" ] || { echo "$1: $n lines for $frames frames"; exit 1; }
    if "$2" "$work/nothing.avi" 2>"$work/err"; then
        echo "$1: a missing file went unnoticed"
        exit 1
    fi
    grep -q nothing.avi "$work/err"
    echo "$1: ok"
}

flags=$(pkg-config --cflags --libs eestream)
$cc "$source/examples/embed.c" $flags -pthread -o "$work/embed_pc"
ldd "$work/embed_pc" | grep -q "$prefix/.*libeestream"
check "pkg-config, shared" "$work/embed_pc"

libdir=$(pkg-config --variable=libdir eestream)
static=$(pkg-config --static --cflags --libs eestream | sed "s#-leestream\b#$libdir/libeestream.a#")
$cc "$source/examples/embed.c" $static -pthread -o "$work/embed_pc_static"
if ldd "$work/embed_pc_static" | grep -q libeestream; then
    echo "pkg-config, static: linked the shared library"
    exit 1
fi
check "pkg-config, static" "$work/embed_pc_static"

mkdir "$work/consumer"
cat >"$work/consumer/CMakeLists.txt" <<EOF
cmake_minimum_required(VERSION 3.16)
project(consumer C)
find_package(eestream REQUIRED)
foreach(kind eestream static)
  add_executable(embed_\${kind} $source/examples/embed.c)
  target_link_libraries(embed_\${kind} PRIVATE eestream::\${kind})
endforeach()
EOF
cmake -S "$work/consumer" -B "$work/consumer/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_C_FLAGS=-pthread >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
cmake --build "$work/consumer/build" >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
check "find_package, shared" "$work/consumer/build/embed_eestream"
check "find_package, static" "$work/consumer/build/embed_static"
