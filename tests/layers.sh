#!/bin/sh
# The one direction, as the folders show it:
#   mpi <- gpu <- src,  mpi <- io <- src,  inside src: kernels <- math <- transport, neighbors <- pairot, metric;
#   math <- perturb;  src/cli includes <cellferry.h> and its own files;  MPI_ calls only in mpi/ (and main's MPI_Init),
#   file names unique in the whole tree.
# layers.sh ROOT            checks the tree
# layers.sh ROOT --self     plants one violation of each kind in a small tree of its own and expects each to be found
root=$1
bad=0
say() { echo "$1"; bad=1; }
sources() { find "$@" -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.inc' \) 2>/dev/null; }

# may FOLDER PREFIX...: the quoted includes of FOLDER must begin with one of the prefixes, or name a file beside it
may() {
    folder=$1; shift
    [ -d "$folder" ] || return 0
    for file in $(sources "$folder"); do
        for name in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file"); do
            case $name in */*) ;; *) [ -f "$(dirname "$file")/$name" ] && continue;; esac
            allowed=0
            for prefix in "$@"; do case $name in "$prefix"*) allowed=1;; esac; done
            case $name in *..*) allowed=0;; esac
            [ $allowed = 1 ] || say "$file: may not include \"$name\" (only $*)"
        done
    done
}

check() {
    may mpi mpi/
    may gpu gpu/ mpi/
    may io io/ mpi/
    lower='mpi/ io/ gpu/'
    may src/kernels kernels/ $lower
    may src/math math/ kernels/ $lower
    may src/transport transport/ math/ kernels/ $lower
    may src/neighbors neighbors/ math/ kernels/ $lower
    may src/pairot pairot/ transport/ neighbors/ math/ kernels/ $lower
    may src/metric metric/ transport/ neighbors/ math/ kernels/ $lower
    may src/perturb perturb/ math/ kernels/ $lower
    may src/cli cli/
    for file in $(sources src/cli); do
        grep -nE '#[[:space:]]*include[[:space:]]*<(mpi|io|gpu|src|kernels|math|transport|neighbors)/' "$file" /dev/null &&
            say "$file: the command line may include <cellferry.h> only"
    done
    for file in $(sources gpu io src | grep -v -e '^gpu/cuda/nccl' -e '^src/cli/main\.c$'); do
        grep -nE '(^|[^A-Za-z0-9_])P?MPI_[A-Z][a-z][A-Za-z_]*[[:space:]]*\(' "$file" /dev/null &&
            say "$file: MPI is called in mpi/ only"
    done
    for file in $(sources src/cli/main.c); do
        grep -nE '(^|[^A-Za-z0-9_])P?MPI_[A-Z][a-z][A-Za-z_]*[[:space:]]*\(' "$file" /dev/null |
            grep -vE 'MPI_(Init|Init_thread|Finalize|Initialized|Finalized|Query_thread)[[:space:]]*\(' &&
            say "$file: beyond MPI_Init and MPI_Finalize, MPI is called in mpi/ only"
    done
    twins=$(sources mpi gpu io src | sed 's|.*/||' | sort | uniq -d)
    [ -z "$twins" ] || say "file names used twice: $twins"
}

# plant FILE LINE: a tree of that file and two harmless ones must be refused, and the file named
plant() {
    copy=$(mktemp -d) || exit 2
    mkdir -p "$copy/mpi" "$copy/src/cli" "$copy/$(dirname "$1")"
    echo '#include "mpi/world.h"' >"$copy/mpi/world.c"
    echo '#include <cellferry.h>' >"$copy/src/cli/main.c"
    sh "$self" "$copy" || say "the small tree is refused before anything is planted"
    echo "$2" >>"$copy/$1"
    if sh "$self" "$copy" >"$copy/said" 2>&1; then
        say "not found: $2 in $1"
    elif ! grep -qF "$(basename "$1")" "$copy/said"; then
        say "something else found: $2 in $1"
    fi
    rm -rf "$copy"
}

case $0 in /*) self=$0;; *) self=$PWD/$0;; esac
cd "$root" || exit 2
root=$PWD
if [ "$2" = --self ]; then
    check
    [ $bad = 0 ] || exit 1
    plant mpi/planted_a.c '#include "io/read.h"'
    plant mpi/planted_b.c '#include "../src/cellferry.h"'
    plant io/planted_c.c '#include "transport/cost.h"'
    plant gpu/planted_d.c '  #  include "io/read.h"'
    plant src/kernels/planted_e.c '#include "math/select.h"'
    plant src/math/planted_f.h '#include "transport/cost.h"'
    plant src/transport/planted_g.c '#include "neighbors/index.h"'
    plant src/neighbors/planted_h.c '#include "transport/cost.h"'
    plant src/transport/planted_i.c '#include "cli/options.h"'
    plant src/cli/planted_j.c '#include "mpi/world.h"'
    plant src/cli/planted_k.c '#include <transport/cost.h>'
    plant src/transport/planted_l.c 'void f(void) { MPI_Barrier(MPI_COMM_WORLD); }'
    plant src/cli/main.c 'void f(void) { MPI_Barrier(MPI_COMM_WORLD); }'
    plant io/planted_m.c 'int g(void) { return PMPI_Barrier (0); }'
    plant io/world.c ''
else
    check
fi
exit $bad
