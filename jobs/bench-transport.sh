#!/usr/bin/env bash
# A benchmark, not a test: cellferry and its peers solve the same problem in turns; prints core-seconds and their ratios.
#   jobs/bench-transport.sh [--parts "iteration solve sparsify"] [--n 20000] [--d 50] [--points FILE.h5ad]
#                           [--epsilon 0.05] [--tau 1] [--max-k 50] [--rounds 2] [--seed 0] [--threads CORES] [--ranks 1]
#                           [--settings "shipped momentum adaptive anderson"] [--pot-rows 4000] [--moscot-rows 2000]
#                           [--peer FOLDER] [--python PYTHON] [--keep FOLDER]
# --parts: iteration: the plain iteration of both, and a full iteration of POT (sinkhorn_log) on --pot-rows cells;
#   solve: --solver auto against OTT-JAX in each of --settings; sparsify: against moscot on --moscot-rows cells.
# --points: cells of both sides in one file (obs/side is "source" or "target", obsm/X_pca) instead of made-up ones;
#   --n then is not used.
# --epsilon: of the mean cost. --tau: of both sides, below 1 unbalanced.
# --threads: cores that each side gets in all; cellferry divides them among --ranks ranks.
# --peer: a folder with scripts of the same names and options as those of jobs/peers, used instead.
# --python: an interpreter with anndata, ott-jax and moscot; otherwise a venv is made in build/.bench with pip.
# OTT-JAX runs at its best: of --batch-size 64 and the whole matrix in memory the cheaper one counts (the whole matrix only
# where 12 bytes a pair fit into free memory). Core-seconds are the processes' own CPU time (user + system) over all
# threads and ranks; reading and writing files, compiling (OTT) and starting are not counted, scaling the cost is.
set -euo pipefail
# shellcheck source=jobs/here.sh
source "$(dirname "${BASH_SOURCE[0]}")/here.sh"
parts="iteration solve sparsify" n=20000 d=50 points='' epsilon=0.05 tau=1 max_k=50 rounds=2 seed=0 threads=$(cores) ranks=1
settings="shipped momentum adaptive anderson" pot_rows=4000 moscot_rows=2000
peer=$project/jobs/peers python='' keep=''
while [ $# -gt 0 ]; do
    case $1 in
    --parts) parts=$2 ;; --points) points=$2 ;; --tau) tau=$2 ;; --settings) settings=$2 ;; --pot-rows) pot_rows=$2 ;;
    --n) n=$2 ;; --d) d=$2 ;; --epsilon) epsilon=$2 ;; --max-k) max_k=$2 ;; --rounds) rounds=$2 ;; --seed) seed=$2 ;;
    --threads) threads=$2 ;; --ranks) ranks=$2 ;; --moscot-rows) moscot_rows=$2 ;; --peer) peer=$2 ;;
    --python) python=$2 ;; --keep) keep=$2 ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
    esac
    shift 2
done

say "build"
bash "$project/jobs/install.sh" run
build "$project/build" cellferry_program
mpi_environment
# Measured ranks must not give their core away in the middle of a message.
unset OMPI_MCA_mpi_yield_when_idle
# Threads that wait must not burn the CPU time that is counted; JAX's do not either.
export OMP_WAIT_POLICY=passive
cellferry=$project/build/cellferry

needs='import anndata, h5py, ott, moscot'
if [ -z "$python" ]; then
    say "Python with ott-jax and moscot"
    python=$project/build/.bench/bin/python
    if ! "$python" -c "$needs" 2>/dev/null; then
        bash "$project/jobs/install.sh" test
        python3 -m venv "$project/build/.bench"
        "$python" -m pip install --quiet --disable-pip-version-check --no-input anndata ott-jax moscot ||
            { echo "pip could not fetch the peers: give --python with an interpreter that has anndata, ott-jax and moscot" >&2; exit 3; }
    fi
fi
"$python" -c "$needs" || { echo "$python lacks anndata, ott-jax or moscot" >&2; exit 3; }

work=${keep:-$(mktemp -d)}
[ -n "$keep" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
if [ -z "$points" ]; then
    points=$work/points.h5ad
    say "points: $n x $n cells, $d components, seed $seed"
    "$python" "$peer/points.py" "$points" "$n" "$d" "$seed"
fi
read -r n m < <("$python" -c 'import h5py, sys; s = h5py.File(sys.argv[1])["obs/side/codes"][:]; print((s == 0).sum(), (s == 1).sum())' "$points")
part() { [[ " $parts " = *" $1 "* ]]; }

cpus=$(awk -v t="$threads" 'BEGIN {print "0-" t - 1}')
ferry() { # NAME ARGUMENTS...: the run record into $work/NAME.json
    local name=$1
    shift
    taskset -c "$cpus" mpirun -n "$ranks" "$cellferry" "$@" --threads $((threads / ranks > 0 ? threads / ranks : 1)) \
        --overwrite --json --progress none >"$work/$name.json" || [ $? = 4 ] # 4: not converged, and the numbers count
}
# read JSON: value NAME FILE; stages FILE NAME...: CPU seconds of stages, over all ranks
value() { "$python" -c 'import json, sys; r = json.load(open(sys.argv[2])); print(r.get("figures", {}).get(sys.argv[1], r.get(sys.argv[1])))' "$1" "$work/$2.json"; }
stages() { "$python" -c 'import json, sys; r = json.load(open(sys.argv[1])); print(sum(s["cpu_seconds"] for s in r["stages"] if s["name"] in sys.argv[2:]))' "$work/$1.json" "${@:2}"; }
free_gib=$(awk '/MemAvailable/ {printf "%d", $2 / 1048576}' /proc/meminfo)
modes="64"
[ $((12 * n * m / 1073741824)) -ge "$free_gib" ] || modes="64 0"

declare -A best
keep_best() { # NAME VALUE: the smallest of the rounds
    if [ -z "${best[$1]:-}" ] || awk -v a="$2" -v b="${best[$1]}" 'BEGIN {exit !(a < b)}'; then
        best[$1]=$2
        return 0
    fi
    return 1
}

solve() { # NAME PLAN ARGUMENTS...
    ferry "$1" transport "$points" --source-where side=source --target-where side=target --rep X_pca \
        --epsilon "$epsilon" --tau-a "$tau" --tau-b "$tau" -o "$2" "${@:3}"
}
ott() { # ARGUMENTS...
    "$python" "$peer/ott_transport.py" "$points" --epsilon "$epsilon" --tau "$tau" --threads "$threads" "$@" >"$work/ott.json"
}
over() { awk -v t="$1" -v m="$2" 'BEGIN {printf "%.1f", t / m}'; }

iteration() {
    local round mode theirs their_iterations mine mine_iterations
    say "plain iteration, $n x $m cells, $rounds rounds in turns, $threads cores each"
    for round in $(seq 1 "$rounds"); do
        solve transport "$work/plan.h5" --solver sinkhorn
        mine=$(stages transport prepare solve) mine_iterations=$(value iterations transport)
        echo "round $round  cellferry            $mine core-s, $mine_iterations iterations, $(value passes transport) passes, cost $(value reg_ot_cost transport)"
        keep_best mine "$mine" || true
        for mode in $modes; do
            ott --batch-size "$mode"
            theirs=$(value cpu_seconds ott)
            echo "round $round  OTT-JAX $([ "$mode" = 0 ] && echo "whole matrix " || echo "batch size 64")  $theirs core-s, $(value iterations ott) iterations, cost $(value reg_ot_cost ott)"
            if keep_best theirs "$theirs"; then their_iterations=$(value iterations ott); fi
        done
        if "$python" -c 'import ot' 2>/dev/null; then
            "$python" "$peer/pot_transport.py" "$points" --rows "$pot_rows" --epsilon "$epsilon" --threads "$threads" >"$work/pot.json"
            keep_best pot "$(value ns_per_pair pot)" || true
        fi
    done
    awk -v m="${best[mine]}" -v mi="$mine_iterations" -v t="${best[theirs]}" -v ti="$their_iterations" 'BEGIN {
        printf "transport  per full iteration: cellferry %.4f core-s, OTT-JAX %.4f core-s: %.1f times less\n", m / mi, t / ti, t / ti / (m / mi)
        printf "transport  in total:           cellferry %.3f core-s, OTT-JAX %.3f core-s: %.1f times less\n", m, t, t / m}'
    [ -z "${best[pot]:-}" ] || awk -v m="${best[mine]}" -v mi="$mine_iterations" -v p="${best[pot]}" -v pairs="$((n * m))" 'BEGIN {
        printf "transport  per pair and full iteration: cellferry %.3f core-ns, POT sinkhorn_log %.2f core-ns: %.1f times less\n",
            m / mi / pairs * 1e9, p, p / (m / mi / pairs * 1e9)}'
}

auto() {
    local round setting theirs
    say "to error 1e-3, $n x $m cells, epsilon $epsilon of the mean, tau $tau, $rounds rounds in turns, $threads cores each"
    for round in $(seq 1 "$rounds"); do
        solve auto "$work/plan.h5" --solver auto
        keep_best auto "$(stages auto prepare solve)" || true
        echo "round $round  cellferry auto       $(stages auto prepare solve) core-s, $(value passes auto) passes over all pairs, $(value stored_passes auto) over the kept ones, error $(value marginal_error auto)"
        for setting in $settings; do
            ott --batch-size 64 --setting "$setting"
            theirs=$(value cpu_seconds ott)
            echo "round $round  OTT-JAX $setting  $theirs core-s, $(value iterations ott) iterations, converged $(value converged ott)"
            [ "$(value converged ott)" = True ] || continue
            keep_best "$setting" "$theirs" || true
            keep_best any "$theirs" || true
        done
    done
    for setting in $settings; do
        [ -z "${best[$setting]:-}" ] || echo "solve      OTT-JAX $setting over cellferry: $(over "${best[$setting]}" "${best[auto]}") times"
    done
    [ -z "${best[any]:-}" ] || echo "solve      OTT-JAX at its best over cellferry: $(over "${best[any]}" "${best[auto]}") times"
}
[ -f "$work/plan.h5" ] || ! part sparsify || part iteration || part solve || solve transport "$work/plan.h5"
! part iteration || iteration
! part solve || auto
part sparsify || exit 0

say "sparsify, mass 0.99, max_k $max_k"
# A pass: what the plain solver takes for each, in turns with the rest.
for round in $(seq 1 "$rounds"); do
    solve pass "$work/pass.h5" --solver sinkhorn --max-iterations 10
    keep_best pass "$(awk -v c="$(stages pass solve)" -v k="$(value passes pass)" -v p="$((n * m))" 'BEGIN {print c * 1e9 / k / p}')" || true
    for limit in "$max_k" 0; do
        name=$([ "$limit" = 0 ] && echo whole || echo sparsify)
        ferry "$name" sparsify "$work/plan.h5" --mode mass --value 0.99 $([ "$limit" = 0 ] || echo "--max-k $limit") -o "$work/coupling.h5ad"
        keep_best "$name" "$(awk -v c="$(stages "$name" passes)" -v p="$((n * m))" 'BEGIN {print c * 1e9 / p}')" || true
        keep_best "$name written" "$(awk -v c="$(stages "$name" write)" -v k="$(value nonzeros "$name")" 'BEGIN {print c * 1e9 / k}')" || true
    done
    "$python" "$peer/moscot_sparsify.py" "$points" --rows "$moscot_rows" --epsilon "$epsilon" --max-k "$max_k" \
        --threads "$threads" >"$work/moscot.json" 2>"$work/moscot.log" || { cat "$work/moscot.log" >&2; exit 1; }
    keep_best moscot "$(value ns_per_pair moscot)" || true
    echo "round $round  cellferry ${best[sparsify]} core-ns a pair, $(value nonzeros sparsify) entries; without max_k ${best[whole]}, $(value nonzeros whole) entries; a dense pass ${best[pass]}; moscot ${best[moscot]}"
done
awk -v m="${best[sparsify]}" -v w="${best[whole]}" -v p="${best[pass]}" -v t="${best[moscot]}" -v d="${best[sparsify written]}" -v e="${best[whole written]}" 'BEGIN {
    printf "sparsify   over a dense pass, with reading, without writing: %.2f times, without max_k %.2f times\n", m / p, w / p
    printf "sparsify   writing, with compression: %.0f core-ns an entry, without max_k %.0f\n", d, e
    printf "sparsify   per pair: cellferry %.3f core-ns, moscot %.2f core-ns: %.1f times less\n", m, t, t / m}'
