#!/usr/bin/env bash
# jobs/transport.sbatch on a private Slurm cluster of two emulated nodes gives the bits that mpirun gives.
#   test_slurm.sh PROJECT CELLFERRY MPIEXEC
set -euo pipefail
project=$1 cellferry=$2 mpiexec=$3
for tool in slurmctld slurmd munged sbatch srun h5diff; do
    command -v "$tool" >/dev/null || { echo "skipped: no $tool"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "skipped: emulated nodes need root for host names of their own"; exit 77; }
unshare --uts true 2>/dev/null || { echo "skipped: this machine does not let root have a second host name"; exit 77; }

work=$(mktemp -d /tmp/ferry.XXXXXX) # short: it holds unix sockets
port=$((20000 + $$ % 20000))
cluster=$work/c
stop() {
    bash "$project/tests/mini-slurm.sh" stop "$cluster" || true
    rm -rf "$work"
}
trap stop EXIT
# What ctest sets for mpirun must not reach the jobs: Slurm starts their ranks.
unset OMPI_MCA_rmaps_base_oversubscribe MPIEXEC_TIMEOUT
bash "$project/tests/mini-slurm.sh" start "$cluster" 2 2 "$port" ||
    { echo "skipped: no private Slurm cluster on this machine"; exit 77; }
export SLURM_CONF=$cluster/slurm.conf

run() { # NAME NODES LAUNCH
    local out=$work/$1
    (cd "$work" && PROJECT=$project CELLFERRY=$cellferry OUT=$out LAUNCH=$3 OMPI_MCA_btl=self,vader,tcp \
        timeout 90 sbatch --wait --nodes="$2" --output="$out.log" "$project/jobs/transport.sbatch") ||
        { cat "$out.log" >&2; echo "test_slurm: the job on $2 nodes with $3 failed" >&2; exit 1; }
}
run one 1 srun
run two 2 srun
run own 2 mpirun

mkdir "$work/here"
export OMPI_MCA_rmaps_base_oversubscribe=1
"$mpiexec" -n 3 "$cellferry" transport "$project/data/pbmc68k_reduced.h5ad" --source-where phase=G1 \
    --target-where phase=S,G2M --epsilon 0.05 --tau-a 0.95 --tau-b 0.95 -o "$work/here/plan.h5" -q
"$mpiexec" -n 3 "$cellferry" sparsify "$work/here/plan.h5" -o "$work/here/coupling.h5ad" -q
"$mpiexec" -n 3 "$cellferry" transition "$work/here/plan.h5" --source-key bulk_labels --target-key bulk_labels \
    -o "$work/here/transition.csv" -q
for name in one two own; do
    for object in /source/potential /target/potential /errors; do
        h5diff "$work/here/plan.h5" "$work/$name/plan.h5" $object
    done
    h5diff "$work/here/coupling.h5ad" "$work/$name/coupling.h5ad" /X
    h5diff "$work/here/coupling.h5ad" "$work/$name/coupling.h5ad" /obs
    cmp "$work/here/transition.csv" "$work/$name/transition.csv"
done
grep -q '"hosts": *2' <(h5dump -d /uns/cellferry/record "$work/two/plan.h5" | tr -d '\\') ||
    { echo "test_slurm: the job on two nodes does not report two hosts" >&2; exit 1; }
echo "the same bits on one node, on two with srun, on two with mpirun, and without Slurm"
