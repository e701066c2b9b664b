#!/usr/bin/env bash
# Somebody else's program builds against the installed library: find_package and pkg-config, C and C++, shared and
# static, from a place that the installed tree was moved to, and gives the same line at 1 and 2 ranks.
#   test_install.sh PROJECT BUILD CMAKE MPIEXEC
set -euo pipefail
project=$1 build=$2 cmake=$3 mpiexec=$4
command -v pkg-config >/dev/null || { echo "skipped: no pkg-config"; exit 77; }
command -v c++ >/dev/null || { echo "skipped: no C++ compiler"; exit 77; }
command -v make >/dev/null || export CMAKE_GENERATOR=Ninja # what built this project is there
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "test_install: $*" >&2; exit 1; }
quiet() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "failed: $*"; }; }

# consume NAME: against $work/NAME/here, expecting the line that was printed first
first=
expect_line() {
    local line
    line=$("$mpiexec" -n "$1" "$2") || fail "$2 at $1 ranks ended with an error"
    case $line in "iterations "*" converged 1 cost "*) ;; *) fail "$2 at $1 ranks printed \"$line\"" ;; esac
    [ -n "$first" ] || first=$line
    [ "$line" = "$first" ] || fail "$2 at $1 ranks printed \"$line\", before it was \"$first\""
}
consume() {
    local prefix=$work/$1/here program compiler pc
    mkdir -p "$work/$1"
    mv "$work/$1-installed" "$prefix" # moved after the installation: nothing may remember the old place
    if grep -rIl "$work/$1-installed\|$project" "$prefix"; then fail "these files remember where they were built"; fi
    [ -z "$(find "$prefix" -name '*_impl.h')" ] || fail "private headers are installed"
    quiet "$cmake" -S "$project/tests/use" -B "$work/$1/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release
    quiet "$cmake" --build "$work/$1/cmake"
    pc=$(find "$prefix" -name cellferry.pc)
    export PKG_CONFIG_PATH=${pc%/*}
    for program in solve_c:cc:solve.c solve_cc:c++:solve.cc; do
        compiler=${program#*:}
        # shellcheck disable=SC2046 # flags are words
        quiet "${compiler%%:*}" -Wall -Werror "$project/tests/use/${compiler#*:}" -o "$work/$1/pc_${program%%:*}" \
            $(pkg-config --cflags --libs cellferry)
        for ranks in 1 2; do
            expect_line $ranks "$work/$1/cmake/${program%%:*}"
            LD_LIBRARY_PATH=${pc%/*}/..:${LD_LIBRARY_PATH:-} expect_line $ranks "$work/$1/pc_${program%%:*}"
        done
    done
    if [ -x "$prefix/bin/cellferry" ]; then
        quiet "$prefix/bin/cellferry" --version
    else
        fail "the program is not installed"
    fi
}

quiet "$cmake" --install "$build" --prefix "$work/shared-installed"
library=$(find "$work/shared-installed" -name 'libcellferry.so')
if [ -n "$library" ]; then
    others=$(nm -D --defined-only "$library" | awk '$2 ~ /[TDBR]/ && $3 !~ /^(ferry_|\.gomp_critical_user_ferry_)/ {print $3}')
    [ -z "$others" ] || fail "the library exports names that are not ferry_*: $others"
fi
consume shared

quiet "$cmake" -S "$project" -B "$build/static" -DBUILD_SHARED_LIBS=OFF -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release
quiet "$cmake" --build "$build/static" --parallel 2
quiet "$cmake" --install "$build/static" --prefix "$work/static-installed"
consume static
echo "installed and used: shared and static, C and C++, find_package and pkg-config; $first"
