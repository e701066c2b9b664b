#!/usr/bin/env bash
# From a fresh machine to real cells transported: installs what is missing, builds, carries the G1 cells of 700 blood
# cells to those in S and G2M phase, and leaves the coupling, a transition table and figures.
#   jobs/quickstart.sh [FOLDER]            results go to FOLDER (quickstart/ in the project)
#   RANKS=4 jobs/quickstart.sh             number of MPI ranks (the cores of this machine, 2 to 4); the result is the same
set -euo pipefail
# shellcheck source=jobs/here.sh
source "$(dirname "${BASH_SOURCE[0]}")/here.sh"
out=${1:-$project/quickstart}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cores=$(cores)
ranks=${RANKS:-$((cores < 2 ? 2 : cores > 4 ? 4 : cores))}

say "packages"
bash "$project/jobs/install.sh" run

say "build"
build "$project/build" cellferry_program
mpi_environment
cellferry=$project/build/cellferry
ferry() { mpirun -n "$ranks" "$cellferry" "$@" --overwrite; }

say "cells to carry"
cells=$project/data/pbmc68k_reduced.h5ad
"$cellferry" info "$cells"

say "transport on $ranks ranks"
# tau below 1: mass may grow and shrink, because cell types have different shares in the two phases.
ferry transport "$cells" --source-where phase=G1 --target-where phase=S,G2M --rep X_pca \
    --epsilon 0.05 --tau-a 0.95 --tau-b 0.95 -o "$out/plan.h5" --json >"$out/transport.json"
ferry sparsify "$out/plan.h5" --mode mass --value 0.99 -o "$out/coupling.h5ad" --json >"$out/sparsify.json"
ferry transition "$out/plan.h5" --source-key bulk_labels --target-key bulk_labels -o "$out/transition.csv"

say "figures"
picture() { "$cellferry" plot "$@" --overwrite >/dev/null; }
for kind in svg png; do
    picture "$out/plan.h5" -o "$out/error.$kind"
    picture "$out/transition.csv" -o "$out/transition.$kind" \
        --title "From G1 to S and G2M: where cells of a type go"
    picture "$out/transition.csv" --kind sankey -o "$out/sankey.$kind" \
        --title "Cell types in G1 (left) to S and G2M (right)"
    picture "$out/transport.json" -o "$out/stages.$kind"
done

# A member of a run record: the first "NAME": value in it.
of() { grep -oE "\"$1\": *(\"[^\"]*\"|[^,}\"]*)" "$out/$2.json" | head -n 1 | sed -E 's/^"[^"]*": *//; s/"//g'; }
cells_of() { grep -oE '"cells": *[0-9]+' "$out/transport.json" | grep -oE '[0-9]+' | sed -n "$1p"; }

say "done"
cat <<DONE
Carried $(cells_of 1) cells in G1 to $(cells_of 2) cells in S and G2M on $ranks ranks: $(of iterations transport) iterations, transport cost $(printf %.4g "$(of transport_cost transport)").
The coupling keeps 99% of each cell's mass in $(of nonzeros sparsify) numbers. All results are in $out:
  coupling.h5ad    the sparse coupling, G1 cells x S and G2M cells; in Python:
                   import anndata; a = anndata.read_h5ad("$out/coupling.h5ad"); print(a, a.obs.head())
  transition.csv   how each cell type of G1 is shared among the types of S and G2M
  transition.svg   the same as a picture; sankey.svg: as flows; error.svg: convergence; stages.svg: time, memory
  plan.h5          the potentials: cellferry sparsify, push, pull and transition start from it
Next: $cellferry transport --help, or with your own cells
  mpirun -n $ranks $cellferry transport FROM.h5ad TO.h5ad -o plan.h5
DONE
[ "$(id -u)" != 0 ] || echo "  (as root, once per shell: source $project/jobs/here.sh && mpi_environment)"
