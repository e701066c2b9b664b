#!/usr/bin/env bash
# A benchmark, not a test: cellferry and faiss find the same neighbours in turns, cellferry and CellMapper carry the same
# labels; prints core-seconds and their ratios.
#   jobs/bench-neighbors.sh [--cells 1e6] [--queries 1e5] [--k 30] [--real FILE.h5ad] [--rep X_pca] [--recall "0.95 0.99 0.999"]
#                           [--probes "8 16 32 64 128"] [--factories "IVF1000,Flat IVF4000,Flat"] [--rounds 1] [--map-cells 1e5]
#                           [--threads CORES] [--python PYTHON] [--keep FOLDER]
# Points: made up (jobs/peers/mixture.py), or with --real grown from a file's cells (jobs/peers/grow.py). The reference and
# the queries are two samples of the same population. faiss searches with each number of probes; its cost at a recall is
# interpolated (log cost over log of the neighbours missed), the better of the factories counts. Core-seconds are the
# processes' own CPU time over all threads: of the search with the queries' share of the assignment to lists (cellferry)
# and of the search call (faiss); reading, training, building and finding the setting are shown apart or not at all. --map-cells 0: without CellMapper.
# --python: an interpreter with anndata, scikit-learn, faiss-cpu and cellmapper; otherwise a venv is made in build/.bench.
set -euo pipefail
# shellcheck source=jobs/here.sh
source "$(dirname "${BASH_SOURCE[0]}")/here.sh"
cells=1e6 queries=1e5 k=30 real='' rep=X_pca recalls="0.95 0.99 0.999" probes="8 16 32 64 128"
factories="IVF1000,Flat IVF4000,Flat" rounds=1 map_cells=1e5 threads=$(cores) python='' keep=''
while [ $# -gt 0 ]; do
    case $1 in
    --cells) cells=$2 ;; --queries) queries=$2 ;; --k) k=$2 ;; --real) real=$2 ;; --rep) rep=$2 ;; --recall) recalls=$2 ;;
    --probes) probes=$2 ;; --factories) factories=$2 ;; --rounds) rounds=$2 ;; --map-cells) map_cells=$2 ;;
    --threads) threads=$2 ;; --python) python=$2 ;; --keep) keep=$2 ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
    esac
    shift 2
done

say "build"
bash "$project/jobs/install.sh" run
build "$project/build" cellferry_program
mpi_environment
export OMP_WAIT_POLICY=passive
cellferry=$project/build/cellferry

needs='import anndata, sklearn, h5py, faiss, cellmapper'
if [ -z "$python" ]; then
    say "Python with faiss and CellMapper"
    python=$project/build/.bench/bin/python
    if ! "$python" -c "$needs" 2>/dev/null; then
        bash "$project/jobs/install.sh" test
        python3 -m venv "$project/build/.bench"
        "$python" -m pip install --quiet --disable-pip-version-check --no-input anndata scikit-learn faiss-cpu cellmapper ||
            { echo "pip could not fetch the peers: give --python with an interpreter that has anndata, scikit-learn, faiss-cpu and cellmapper" >&2; exit 3; }
    fi
fi
"$python" -c "$needs" || { echo "$python lacks anndata, scikit-learn, faiss-cpu or cellmapper" >&2; exit 3; }

work=${keep:-$(mktemp -d)}
[ -n "$keep" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
points() { # FILE CELLS SEED
    [ ! -e "$1" ] || return 0
    if [ -n "$real" ]; then
        "$python" "$project/jobs/peers/grow.py" "$real" "$1" "$2" --rep "$rep" --seed "$3" 2>/dev/null
    else
        "$python" "$project/jobs/peers/mixture.py" "$1" "$2" --seed "$3"
    fi
}
say "points: reference $cells, queries $queries ${real:+grown from $real}"
points "$work/reference.h5ad" "$cells" 1
points "$work/query.h5ad" "$queries" 2

cpus=$(awk -v t="$threads" 'BEGIN {print "0-" t - 1}')
ferry() { # NAME ARGUMENTS...: the run record into $work/NAME.json
    local name=$1
    shift
    taskset -c "$cpus" "$cellferry" "$@" --threads "$threads" --overwrite --json --progress none >"$work/$name.json"
}
show() { # NAME LABEL
    "$python" - "$work/$1.json" "$2" <<'PY'
import json, sys
record = json.load(open(sys.argv[1]))
f, cpu = record["figures"], {s["name"]: s["cpu_seconds"] for s in record["stages"]}
own = 0 if f["one_set"] else cpu["assign"] / (f["reference_cells"] + f["cells"])
recall = f"recall {f['recall']['mean']:.4f} on a sample" if "recall" in f else "exact"
print(f"{sys.argv[2]:24} {(f['search_core_seconds_per_query'] + own) * 1e6:8.2f} core-us a query, {recall}, {f['rule']}, {f['pairs_per_query']:.0f} distances and "
      f"{f['lists_per_query']:.1f} lists a query; train {cpu.get('train', 0):.2f} assign {cpu.get('assign', 0):.2f} place {cpu.get('place', 0):.2f} core-s, "
      f"{record['seconds']:.1f} s in all, {record['memory']['peak_pss'] / 2**20:.0f} MiB")
PY
}

say "neighbours, k = $k, $threads cores each, $rounds rounds in turns"
for side in query self; do
    what=("$work/query.h5ad" "$work/reference.h5ad")
    [ $side = query ] || what=("$work/reference.h5ad" --no-graph --no-rep)
    for round in $(seq 1 "$rounds"); do
        ferry "$side.exact" neighbors "${what[@]}" --rep X_pca -k "$k" --exact -o "$work/$side.exact.h5ad"
        show "$side.exact" "$side, cellferry"
        for recall in $recalls; do
            ferry "$side.$recall" neighbors "${what[@]}" --rep X_pca -k "$k" --recall "$recall" -o "$work/$side.out.h5ad"
            show "$side.$recall" "$side, cellferry $recall"
            "$python" "$project/jobs/peers/recall.py" "$work/$side.out.h5ad" "$work/$side.exact.h5ad" >"$work/$side.$recall.true"
        done
        [ $side = query ] || continue
        : >"$work/faiss.jsonl"
        for factory in $factories; do
            "$python" "$project/jobs/peers/faiss_search.py" "$work/reference.h5ad" "$work/query.h5ad" "$work/query.exact.h5ad" \
                --k "$k" --factory "$factory" --probes "${probes// /,}" --threads "$threads" | tee -a "$work/faiss.jsonl" |
                "$python" -c 'import json, sys
for line in sys.stdin:
    r = json.loads(line)
    print("query, {factory} {setting:4}  {us_per_query:8.2f} core-us a query, recall {recall:.4f}; train {train_cpu_seconds:.2f} core-s, {peak_gib:.2f} GiB".format(**r), flush=True)'
        done
    done
done
# shellcheck disable=SC2086 # words on purpose
"$python" - "$work" $recalls <<'PY'
import collections, json, math, sys
work, recalls = sys.argv[1], sys.argv[2:]
lines = collections.defaultdict(list)
for line in open(f"{work}/faiss.jsonl"):
    r = json.loads(line)
    lines[r["factory"]].append((r["recall"], r["us_per_query"]))
def at(recall):
    best = math.inf
    for points in lines.values():
        points.sort()
        for (r0, c0), (r1, c1) in zip(points, points[1:]):
            if r0 <= recall <= r1 and r1 > r0:
                x = [-math.log(max(1 - r, 1e-7)) for r in (r0, recall, r1)]
                best = min(best, math.exp(math.log(c0) + (math.log(c1) - math.log(c0)) * (x[1] - x[0]) / (x[2] - x[0])))
        if points[0][0] >= recall:
            best = min(best, points[0][1])
    return best
def mine(name):
    record = json.load(open(f"{work}/{name}.json"))
    f, assign = record["figures"], sum(s["cpu_seconds"] for s in record["stages"] if s["name"] == "assign")
    return (f["search_core_seconds_per_query"] + assign / (f["reference_cells"] + f["cells"])) * 1e6
for recall in recalls:
    true = float(open(f"{work}/query.{recall}.true").read())
    own, theirs = mine(f"query.{recall}"), at(true)
    print(f"recall {recall}: cellferry {own:.2f} core-us at recall {true:.4f} on all queries, faiss at the same recall {theirs:.1f}: {theirs / own:.1f} times less")
exact, theirs = mine("query.exact"), at(0.99)
print(f"exact: cellferry {exact:.2f} core-us a query, faiss at recall 0.99 {theirs:.1f}: {theirs / exact:.1f} times less")
PY

[ "$(awk -v n="$map_cells" 'BEGIN {print n + 0}')" != 0 ] || exit 0
say "labels carried from $map_cells to $map_cells cells"
[ -z "$real" ] || { echo "without CellMapper: --real has no common label"; exit 0; }
points "$work/map-reference.h5ad" "$map_cells" 3
points "$work/map-query.h5ad" "$map_cells" 4
for _ in $(seq 1 "$rounds"); do
    ferry map map "$work/map-query.h5ad" "$work/map-reference.h5ad" --rep X_pca -k "$k" --obs cell_type --presence \
        --evaluate cell_type --exact -o "$work/mapped.h5ad"
    "$python" "$project/jobs/peers/cellmapper_map.py" "$work/map-reference.h5ad" "$work/map-query.h5ad" --k "$k" \
        --threads "$threads" >"$work/cellmapper.json" 2>"$work/cellmapper.log" ||
        { cat "$work/cellmapper.log" >&2; exit 1; }
    # Its faiss backend gives squared distances to the kernel: labels are compared with those of its exact one.
    "$python" "$project/jobs/peers/cellmapper_map.py" "$work/map-reference.h5ad" "$work/map-query.h5ad" --k "$k" \
        --threads "$threads" --method sklearn --save "$work/cellmapper.csv" >"$work/sklearn.json" 2>"$work/cellmapper.log" ||
        { cat "$work/cellmapper.log" >&2; exit 1; }
    "$python" - "$work" <<'PY'
import json, sys, warnings
warnings.simplefilter("ignore")
import anndata, pandas
work = sys.argv[1]
mine, theirs = json.load(open(f"{work}/map.json")), json.loads(open(f"{work}/cellmapper.json").read().splitlines()[-1])
cpu = sum(s["cpu_seconds"] for s in mine["stages"])
peak = mine["memory"]["peak_pss_total"] / 2**30
own = anndata.read_h5ad(f"{work}/mapped.h5ad").obs
other = pandas.read_csv(f"{work}/cellmapper.csv", index_col=0)
same = (own["cell_type_pred"].astype(str).values == other.loc[own.index, "cell_type_pred"].astype(str).values).mean()
print(f"cellferry {cpu:.2f} core-s with reading and writing, {peak:.2f} GiB; CellMapper (faiss) {theirs['cpu_seconds']:.2f} core-s, {theirs['peak_gib']:.2f} GiB: "
      f"{theirs['cpu_seconds'] / cpu:.1f} times less time, {theirs['peak_gib'] / peak:.1f} times less memory; {100 * same:.3f} % of the labels as with its sklearn backend, accuracy {theirs.get('accuracy')}")
PY
done
