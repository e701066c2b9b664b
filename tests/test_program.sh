#!/bin/sh
# The program from end to end: test_program.sh PROGRAM MPIEXEC DATA PART
#   flow    every command at 1 to 4 ranks: the same results
#   manners exit codes, one message, help, plan, JSON, memory
#   lists   index and info: the same lists at 1 to 4 ranks and with any memory; messages; agreements made to fail
#   walk    every agreement of a whole `transport` made to fail once (each WALK-th: WALK=1 for all of them)
program=$1 mpiexec=$2 data=$3 part=$4
cells=$data/pbmc68k_reduced.h5ad
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# run RANKS ARGUMENTS...: standard output in out, the rest in err; the exit code is returned.
run() {
    ranks=$1
    shift
    if [ "$ranks" = 0 ]; then
        "$program" "$@" >out 2>err
    else
        "$mpiexec" -n "$ranks" "$program" "$@" >out 2>err
    fi
}

# expect CODE RANKS ARGUMENTS...: exit code, and for a failure one message on one line.
expect() {
    want=$1
    shift
    run "$@"
    got=$?
    if [ $got -ne "$want" ]; then
        fail "exit code $got, not $want: $*"
        cat err >&2
    fi
    case $want in
    0 | 4) ;;
    *)
        messages=$(grep -c '^cellferry: ' err)
        [ "$messages" = 1 ] || fail "$messages messages: $*"
        ;;
    esac
}

# says TEXT: the last run's messages name it.
says() {
    grep -q -e "$1" err || {
        fail "no '$1' in: $(grep '^cellferry: ' err)"
    }
}

prints() {
    grep -q -e "$1" out || fail "no '$1' on standard output"
}

same() {
    h5diff --exclude-path=/uns "$1" "$2" >diff.txt 2>&1 || {
        fail "$1 and $2 differ"
        head -5 diff.txt >&2
    }
}

sides="--source-where phase=G1 --target-where phase=S,G2M"

flow() {
    command -v h5diff >/dev/null || {
        fail "h5diff is missing: install hdf5-tools"
        return
    }
    for n in 1 2 3 4; do
        expect 0 $n transport "$cells" $sides -o plan$n.h5
        prints converged
        prints "^bounds   optimum between"
        prints "^margins  rows off by"
        expect 0 $n sparsify plan1.h5 --max-k 20 -o coupling$n.h5ad
        expect 0 $n push plan1.h5 --values obs:bulk_labels -o pushed$n.h5ad
        expect 0 $n pull plan1.h5 --values obsm:X_umap --normalize --scale-by-marginals -o pulled$n.h5ad
        expect 0 $n transition plan1.h5 --source-key bulk_labels --target-key bulk_labels -o table$n.csv
        expect 0 $n transition plan1.h5 --source-key phase --aggregation cell --direction backward -o cells$n.h5ad
        same plan1.h5 plan$n.h5
        for kind in coupling pushed pulled cells; do same ${kind}1.h5ad ${kind}$n.h5ad; done
        cmp -s table1.csv table$n.csv || fail "table1.csv and table$n.csv differ"
    done
    # fewer cells than ranks, and several files read as one
    for n in 1 4; do
        expect 0 $n transport "$cells" --source-where bulk_labels=CD34+ --target-where phase=S -o few$n.h5
        expect 0 $n sparsify few$n.h5 -o few$n.h5ad
    done
    same few1.h5ad few4.h5ad
    printf '%s\n%s\n' "$cells" "$cells" >list.txt
    expect 0 3 transport @list.txt $sides -o list.h5
    prints "1002 of 1400 cells"
    # blocks, grids and the way of starting change nothing either
    expect 0 0 transport "$cells" $sides --batch-size 50 -o plan0.h5
    same plan1.h5 plan0.h5
    expect 0 4 transport "$cells" $sides --grid 2x2 -o plan22.h5
    same plan1.h5 plan22.h5
    expect 0 2 sparsify plan1.h5 --max-k 20 --batch-size 24 -o coupling24.h5ad
    same coupling1.h5ad coupling24.h5ad
    for scale in median max_cost max_norm max_bound 1000; do
        expect 0 2 transport "$cells" $sides --scale-cost $scale -o scale.h5 --overwrite
    done
    # a few cells for all: the same ones on any ranks, a certificate or an estimate, and a start for the rest
    for n in 1 3; do
        expect 4 $n transport "$cells" $sides --coarse 150 -o coarse$n.h5
        prints "^coarse   1[0-9][0-9] source"
        prints "^checked  by a pass over all pairs"
        says "initial coarse$n.h5"
    done
    same coarse1.h5 coarse3.h5
    expect 4 2 transport "$cells" $sides --coarse 150 --certify sample -o guessed.h5
    prints "NOT certified"
    says "not certified"
    expect 0 2 transport "$cells" $sides --initial coarse1.h5 -o finished.h5
    expect 0 2 transport "$cells" $sides --cache off -o uncached.h5
    # from its own result a solve has little to do
    expect 0 2 transport "$cells" $sides --initial plan1.h5 --json -o again.h5
    iterations=$(sed -n 's/.*"iterations":\([0-9]*\).*/\1/p' out)
    [ "${iterations:-99}" -le 3 ] || fail "$iterations iterations from --initial"
    [ "$(head -1 table1.csv | tr ',' '\n' | wc -l)" = 11 ] || fail "table1.csv has not 10 groups"
    ls ./*.partial 2>/dev/null && fail "partial files are left"
}

json_good() {
    if command -v python3 >/dev/null; then
        python3 -m json.tool <out >/dev/null || fail "no JSON on standard output"
    else
        grep -q '^{.*}$' out || fail "no JSON object on standard output"
    fi
}

usage() {
    for command in transport sparsify push pull transition index info plot bench; do
        expect 0 0 $command --help
        prints "usage: cellferry $command"
        prints "examples:"
    done
    expect 0 3 transport --help
    [ "$(grep -c '^usage:' out)" = 1 ] || fail "help is not printed once"
    prints '\[0.05\]'
    expect 0 0 --help
    prints transition
    expect 0 2 --version
    [ "$(grep -c '^HDF5' out)" = 1 ] || fail "version is not printed once"
    expect 2 0 transpor
    says "did you mean 'transport'"
    expect 2 2 transport "$cells" --epsilom 1 -o x.h5
    says "did you mean --epsilon"
    expect 2 0 transport "$cells" --rank 10 -o x.h5
    says "full-rank"
    expect 2 0 transport "$cells" --problem gw -o x.h5
    says "linear"
    expect 2 0 transport "$cells" --resume -o x.h5
    says "checkpoint"
    expect 2 0 transport "$cells"
    says "-o FILE"
    expect 2 0 transport "$cells" --tau-a 1.5 -o x.h5
    says "tau-a"
    expect 2 0 transport "$cells" --cost sq_euclidian -o x.h5
    says "sq_euclidean"
    expect 2 0 transport "$cells" --certify sample -o x.h5
    says "belongs to --coarse"
    expect 2 0 transport "$cells" --coarse 7 -o x.h5
    says "from 100 to"
    expect 2 0 transport "$cells" --coarse --initial plan.h5 -o x.h5
    says "leave one out"
    expect 2 0 transport "$cells" --cache much -o x.h5
    says "auto, off or a size"
    expect 5 2 transport "$cells" --cache 900T -o x.h5
    says "lower --cache"
    expect 2 2 transport "$cells" --grid 3x1 -o x.h5
    says "3x1"
    expect 2 0 sparsify plan.h5 --mode mass --value 2 -o x.h5ad
}

bench() {
    expect 0 0 bench kernels --dims 3,20 --columns 70 --simd generic
    prints "generic: .* G multiply-adds per core-second, .* GB/s from memory; 70 targets, 1 rank at once"
    prints "  20  plan + column_sums  .* %"
    [ "$(grep -c "  plan + column_sums" out)" = 6 ] || fail "not every number of panels at every dimension"
    expect 0 2 bench kernels --dims 3 --columns 70 --json
    json_good
    prints '"bytes_per_core_second":[1-9]'
    expect 2 2 bench kernels --dims 3,x
    says "such as 30,50,350"
    expect 2 0 bench kernel
    says "bench kernels"
    expect 2 0 bench kernels --columns 0
    says "columns"
    expect 2 0 bench kernels --cells 3
    says "bench scaling"
    expect 0 3 bench scaling --cells 300 --dims 4 --passes 2 --rounds 1 --kind strong --ranks 1,3
    prints "     3  *3x1 "
    expect 0 2 bench scaling --cells 200 --dims 4 --passes 1 --rounds 1 --grid-cols 2 --ranks 2 -o "$work/scaling.json"
    prints "weak scaling"
    grep -q '"kind":"weak","ranks":2,"grid_rows":1,"grid_cols":2' "$work/scaling.json" || fail "no scaling in the record"
    expect 0 2 bench scaling --cells 200 --dims 4 --passes 1 --rounds 1 --kind weak -o "$work/scaling.csv" --json
    json_good
    [ "$(wc -l <"$work/scaling.csv")" = 3 ] || fail "not two counts of ranks in the table"
    expect 0 2 bench scaling --cells 500 --dims 4 --solver auto --rounds 1 --kind strong
    prints "s a solve"
    expect 2 2 bench scaling --cells 500 --solver auto --passes 3
    says "by itself"
    expect 2 2 bench scaling --ranks 1,3
    says "ranks that were started"
    expect 2 2 bench scaling --grid-cols 2 --cells 100
    says "out of --ranks"
    expect 2 2 bench scaling --dims 3,4
    expect 2 0 bench scaling -o "$work/scaling.txt"
    says ".svg"
}

inputs() {
    expect 3 2 transport absent.h5ad -o x.h5
    says absent.h5ad
    expect 3 2 transport "$cells" --rep X_pcb -o x.h5
    says X_pca
    expect 3 3 transport "$cells" --source-where phase=G3 -o x.h5
    says "phase"
    expect 3 0 transport "$cells" --device gpu -o x.h5
    says "GPU"
    expect 3 0 transport "$cells" -o absent/x.h5
    says absent
    echo "not HDF5" >text.h5
    expect 3 2 sparsify text.h5 -o x.h5ad
    says text.h5
    expect 3 0 push "$cells" -o x.h5ad
    says pbmc68k_reduced
    expect 3 0 push plan.h5 --values obs:bulk_label -o x.h5ad
    says bulk_labels
    expect 3 2 transition plan.h5 --source-key phase --target-key phases -o x.csv
    says phase
    expect 3 0 transport "$cells" $sides -o plan.h5
    says overwrite
    expect 2 2 sparsify plan.h5 --overwrite -o plan.h5
    says "is an input"
}

manners() {
    usage
    bench
    expect 4 2 transport "$cells" $sides --solver sinkhorn --max-iterations 3 -o short.h5
    says "not converged"
    [ -s short.h5 ] || fail "the result of exit code 4 is missing"
    expect 0 2 transport "$cells" $sides --json -v -o plan.h5
    json_good
    says "^solve "
    peak=$(sed -n 's/.*"memory":{"limit":[0-9]*,"peak_pss":\([0-9]*\).*/\1/p' out)
    bytes=$(sed -n 's/.*"layout":{[^}]*"bytes":\([0-9]*\).*/\1/p' out)
    [ "${peak:-0}" -gt 0 ] && [ "$peak" -le "${bytes:-0}" ] || fail "peak of $peak bytes, planned $bytes"
    inputs
    expect 5 2 transport "$cells" $sides --memory 12M -o x.h5
    says "memory"
    [ ! -e x.h5 ] && [ ! -e x.h5.partial ] || fail "a refused run left x.h5"
    expect 0 1 transport "$cells" $sides --plan --ranks 64 --nodes 8
    prints "64 ranks on 8 nodes"
    prints "phase=G1 keeps 501 cells"
    prints "NaN or infinity: 0"
    prints "each iteration"
    prints "^cache: "
    expect 0 1 transport "$cells" $sides --plan --coarse 200
    prints "^coarse: about 200 x 199 cells\|^coarse: about 200 x 200 cells"
    expect 0 2 sparsify plan.h5 --plan --json
    json_good
    expect 0 2 transport "$cells" $sides --epsilon 50 -q --progress none -o wide.h5
    says "product of its marginals"
    expect 0 2 info plan.h5
    prints "cellferry sparsify"
    prints "^bounds   optimum between"
    [ "$(grep -c '^solved' out)" = 1 ] || fail "info is not printed once"
    expect 0 2 info "$cells"
    prints "bulk_labels"
    expect 1 2 transport "$cells" $sides --stall-timeout 1ms -o stall.h5
    says "no progress for 0.001 s"
    expect 0 0 transport "$cells" $sides --progress plain --stall-timeout 1h --overwrite -o plan.h5
    says "transport .* of at most 2000 iterations"
}

# Lists of the cells: the same whoever makes them; what is wrong is said; a failed run leaves nothing behind.
lists() {
    mkdir spill
    for n in 1 2 3 4; do
        expect 0 $n index "$cells" -o index$n.h5
        prints "indexed  700 cells"
        same index1.h5 index$n.h5
    done
    expect 0 2 index "$cells" --batch-size 37 --threads 2 --spill spill -o index_batch.h5
    same index1.h5 index_batch.h5
    FERRY_RANKS_PER_NODE=1 expect 0 3 index "$cells" -o index_nodes.h5
    same index1.h5 index_nodes.h5
    expect 0 2 index "$cells" --metric cosine --lists 9 --dims 20 --where phase=G1,S --json -o cosine.h5
    json_good
    prints '"lists":9'
    expect 0 2 info cosine.h5
    prints "20 columns, cosine distance"
    prints "where phase=G1,S"
    prints "lists    9: smallest"
    [ "$(grep -c '^lists' out)" = 1 ] || fail "info is not printed once"
    expect 0 1 index "$cells" --plan --ranks 64 --nodes 8
    prints "64 ranks on 8 nodes"
    for phase in train assign place write; do prints "^$phase "; done
    expect 3 2 index "$cells" -o index1.h5
    says overwrite
    expect 2 2 index "$cells" --overwrite -o "$cells"
    says "is an input"
    expect 2 0 index "$cells" --metric manhattan -o x.h5
    says manhattan
    expect 5 2 index "$cells" --memory 12M -o x.h5
    says memory
    echo "not HDF5" >text.h5
    expect 3 2 neighbors "$cells" --index text.h5 -o x.h5ad
    says text.h5
    for n in 2 3; do
        meeting=1
        while [ $meeting -lt 2000 ]; do
            FERRY_FAIL=$meeting:$((meeting % n)) run $n index "$cells" --dims 3 --where phase=G2M --spill spill \
                --overwrite -o walk.h5 && break
            [ "$(grep -c '^cellferry: ' err)" = 1 ] && grep -q "injected at meeting $meeting" err ||
                fail "messages when meeting $meeting of $n ranks fails: $(grep '^cellferry: ' err)"
            meeting=$((meeting + ${WALK:-37}))
        done
        [ $meeting -gt 20 ] && [ $meeting -lt 2000 ] || fail "clean at meeting $meeting"
        echo "$n ranks: the run was clean at meeting $meeting"
    done
    [ -z "$(ls spill)" ] || fail "scratch files are left"
    ls ./*.partial 2>/dev/null && fail "partial files are left"
}

walk() {
    step=${WALK:-23}
    for n in 2 3; do
        meeting=1
        while [ $meeting -lt 5000 ]; do
            FERRY_FAIL=$meeting:$((meeting % n)) MPIEXEC_TIMEOUT=60 "$mpiexec" -n $n "$program" transport "$cells" \
                --source-where phase=G2M --target-where phase=S --dims 5 --max-iterations 2 --overwrite -o walk.h5 \
                >out 2>err
            code=$?
            [ $code = 4 ] && break # not converged, as it should be: no such meeting any more
            [ $code = 1 ] || fail "exit code $code when meeting $meeting of $n ranks fails"
            [ "$(grep -c '^cellferry: ' err)" = 1 ] && grep -q "injected at meeting $meeting" err ||
                fail "messages when meeting $meeting of $n ranks fails: $(grep '^cellferry: ' err)"
            [ -e walk.h5.partial ] && fail "walk.h5.partial is left by meeting $meeting of $n ranks"
            meeting=$((meeting + step))
        done
        [ $meeting -gt 20 ] || fail "only $meeting meetings"
        echo "$n ranks: the run was clean at meeting $meeting"
    done
}

$part
[ $failures -eq 0 ]
