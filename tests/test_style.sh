#!/usr/bin/env bash
# The sources are as clang-format lays them out, clang-tidy (with its MPI checks) finds nothing, codespell neither, and
# the map in README.md names every file.
#   test_style.sh format|tidy|spell|map PROJECT BUILD
# Layout and checks differ between LLVM versions: 14 (Debian 12, Ubuntu 22.04) decides, others are skipped.
set -euo pipefail
what=$1 project=$2 build=$3
cd "$project"
skip() { echo "skipped: $*"; exit 77; }
tool() { # the name of version 14 of an LLVM tool
    local name
    for name in "$1-14" "$1"; do
        if command -v "$name" >/dev/null && "$name" --version 2>/dev/null | grep -q 'version 14\.'; then
            echo "$name"
            return
        fi
    done
}
sources() { find mpi io gpu src tests -name build -prune -o "$@" -print; }

case $what in
format)
    format=$(tool clang-format)
    [ -n "$format" ] || skip "no clang-format 14"
    sources \( -name '*.[ch]' -o -name '*.cc' -o -name '*.inc' -o -name '*.cu' \) | xargs "$format" --dry-run -Werror
    ;;
tidy)
    tidy=$(tool clang-tidy)
    [ -n "$tidy" ] || skip "no clang-tidy 14"
    [ -n "${CI:-}${FERRY_TIDY:-}" ] || skip "it takes minutes; FERRY_TIDY=1 runs it, and CI does"
    [ -f "$build/compile_commands.json" ] || skip "no compile_commands.json in $build"
    # Warnings of the compiler are the compiler's business (built with -Werror elsewhere); flags that only gcc knows
    # must not count as findings. One file a run: version 14 takes the va_list of a second file for uninitialised.
    # omp.h is gcc's where clang has none of its own; of gcc's folder only that file, for its others are not clang's.
    found=0
    omp=$(mktemp -d)
    trap 'rm -rf "$omp"' EXIT
    ln -s "$(gcc -print-file-name=include)/omp.h" "$omp/omp.h"
    report=$(find "$project"/mpi "$project"/io "$project"/gpu "$project"/src -name '*.c' -print0 |
        xargs -0 -n 1 -P "$(env -u OMP_NUM_THREADS nproc)" "$tidy" -p "$build" --quiet --extra-arg=-Wno-unknown-warning-option \
            --extra-arg=-Wno-ignored-optimization-argument \
            --extra-arg="-idirafter$omp" 2>&1) || found=1
    [ $found = 0 ] || { grep -vE '^[0-9]+ warnings? generated|^$' <<<"$report" || true; }
    exit $found
    ;;
map)
    missing=0
    while read -r file; do
        name=$(basename "$file")
        grep -qF -e "\`$name\`" -e "\`${name%.*}\`" README.md ||
            { echo "README.md does not name $file: its map has a line for every file"; missing=1; }
    done < <(find mpi io gpu src jobs -type f \( -name '*.c' -o -name '*.inc' -o -name '*.cu' -o -name '*.sh' -o -name '*.sbatch' \))
    exit $missing
    ;;
spell)
    command -v codespell >/dev/null || skip "no codespell"
    codespell --quiet-level=2 --ignore-words-list=transprot,gruop,te,nd,ans,ro,fpr,ist,ot,ba \
        README.md INSTALL.md CHANGELOG.md CMakeLists.txt mpi io gpu src jobs tests/*.sh tests/*.c tests/*.py
    ;;
esac
