#!/usr/bin/env bash
# `cellferry plot`: every kind of figure in every format; names that gnuplot would take for markup; what is refused.
#   test_plot.sh PROJECT CELLFERRY MPIEXEC
set -euo pipefail
project=$1 cellferry=$2 mpiexec=$3
command -v gnuplot >/dev/null || { echo "skipped: no gnuplot"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() { echo "test_plot: $*" >&2; exit 1; }

"$mpiexec" -n 2 "$cellferry" transport "$project/data/pbmc68k_reduced.h5ad" --source-where phase=G1 \
    --target-where phase=S,G2M -o plan.h5 --json >record.json
"$cellferry" transition plan.h5 --source-key bulk_labels --target-key bulk_labels -o table.csv >told
"$cellferry" sparsify plan.h5 -o coupling.h5ad >told
"$cellferry" map "$project/data/pbmc68k_reduced.h5ad" --query-where phase=S,G2M --reference-where phase=G1 \
    --obs bulk_labels --obsm X_umap --evaluate bulk_labels -o mapped.h5ad >told

is() { # FORMAT FILE: by its first bytes
    case $1 in
    svg) grep -q '<svg' "$2" ;;
    png) head -c 4 "$2" | grep -q PNG ;;
    pdf) head -c 5 "$2" | grep -q '%PDF-' ;;
    esac
}
draw() { # NAME INPUT [OPTIONS]
    local name=$1 input=$2 format
    shift 2
    for format in svg png pdf; do
        "$cellferry" plot "$input" -o "$name.$format" "$@" >told 2>messages || fail "plot $input $* as $format: $(cat messages)"
        grep -q "$name.$format" told || fail "plot does not tell what it drew"
        [ ! -s messages ] || fail "plot $input $* as $format says: $(cat messages)"
        is $format "$name.$format" || fail "$name.$format is no $format"
    done
    [ -s "$name.gp" ] && [ -s "$name.dat" ] || fail "$name: script or data are missing"
    # The script draws the same picture again by itself.
    cp "$name.pdf" before.pdf
    gnuplot "$name.gp" || fail "$name.gp does not run by itself"
    [ "$(wc -c <"$name.pdf")" = "$(wc -c <before.pdf)" ] || fail "$name.gp draws something else"
}
draw trace plan.h5
draw heatmap table.csv
draw sankey table.csv --kind sankey
draw stages record.json
draw stages2 coupling.h5ad
draw stages3 plan.h5 --kind stages
draw confusion mapped.bulk_labels.confusion.csv
draw confusion2 mapped.bulk_labels.confusion.csv --kind sankey
draw mapped mapped.h5ad
draw stages4 mapped.h5ad --kind stages
"$mpiexec" -n 2 "$cellferry" bench scaling --cells 300 --dims 4 --passes 1 --rounds 1 -o scaling_run.json >told 2>messages
draw scaling scaling_run.json
draw stages5 scaling_run.json --kind stages
"$mpiexec" -n 2 "$cellferry" bench scaling --cells 300 --dims 4 --passes 1 --rounds 1 --kind weak -o scaling2.svg >told 2>messages
is svg scaling2.svg || fail "bench scaling draws no figure"
draw cells "$project/data/pbmc68k_reduced.h5ad" --basis umap --color bulk_labels
draw numbers "$project/data/pbmc68k_reduced.h5ad" --basis X_pca --color n_counts --color phase --color louvain

grep -q 'CD8+/CD45RA+ Naive Cytotoxic' heatmap.svg || fail "a group is missing in the heatmap"
grep -q 'CD8+/CD45RA+ Naive Cytotoxic' sankey.svg || fail "a group is missing in the Sankey diagram"
[ "$(grep -c . trace.dat)" -gt 2 ] || fail "the trace has no points"

# A confusion matrix: classes, not their figures; rows as shares, and what they are shares of.
grep -q '>support<' confusion.svg && fail "a figure is drawn as if it were a class"
grep -q '>truth<' confusion.svg && grep -q '>prediction<' confusion.svg || fail "the axes of the confusion matrix"
sums() { awk -F'\t' -v key="$2" -v value="$3" '!/^#/ {s[$key] += $value} END {for (k in s) print k, s[k]}' "$1"; }
sums confusion.dat 2 3 | awk '$2 < 0.99999 || $2 > 1.00001 {exit 1}' || fail "rows of the confusion matrix are no shares"
[ "$(awk -F'\t' '!/^#/ {n += $4} END {print n}' confusion.dat)" = 199 ] || fail "cells are lost in the confusion matrix"
accuracy=$(awk -F'\t' '!/^#/ && $1 == $2 {n += $4} END {printf "%.3f", n / 199}' confusion.dat)
grep -q "199 cells.*accuracy $accuracy" confusion.svg || fail "accuracy is not $accuracy"

# Cells: each one drawn once, as many of each category as there are, in the file's own colours.
[ "$(grep -vc '^#' cells.dat)" = 700 ] || fail "not every cell is drawn"
[ "$(awk -F'\t' '$3 == 1' cells.dat | wc -l)" = 240 ] && grep -q '>240<' cells.svg || fail "the most frequent category is not first"
[ "$(awk -F'\t' '!/^#/ && $3 > 10' cells.dat | wc -l)" = 0 ] || fail "cells without a category that have one"
[ "$(grep -c 'gpPt6.*translate' cells.svg)" = $((700 + 10)) ] || fail "points and legend of cells.svg"
grep -q '^array colour1\[12\] = \[0x..17becf,0x..8c564b,' cells.gp || fail "not the colours of uns/bulk_labels_colors"
grep -q '>UMAP1<' cells.svg && grep -q '>X_umap: 700 cells<' cells.svg || fail "axes and number of cells"
# A result: the prediction and its confidence side by side; at any number of ranks the same picture.
for name in bulk_labels_pred bulk_labels_conf X_umap_pred; do
    grep -q "$name" mapped.svg || fail "$name is not in the picture of a result"
done
awk -F'\t' '!/^#/ && ($5 < 0 || $5 > 1 || $4 != int($5 * 64) + 1 && !($5 == 1 && $4 == 64)) {exit 1}' mapped.dat ||
    fail "the scale of confidence is not 0 to 1"
"$cellferry" plot mapped.h5ad -o one.svg >told
"$mpiexec" -n 3 "$cellferry" plot mapped.h5ad -o three.svg >told
cmp -s <(grep -v '^#' one.dat) <(grep -v '^#' three.dat) || fail "three ranks draw another picture"
# Three panels in two rows: two of labels in the order of their columns.
[ "$(grep -v '^#' numbers.dat | head -1 | awk -F'\t' '{print NF}')" = 6 ] || fail "columns of three panels"
# Many cells: some, the same ones every time, and the figure says so.
for _ in $(seq 50); do echo "$project/data/pbmc68k_reduced.h5ad"; done >many.txt
"$cellferry" plot @many.txt -o many.svg --color phase >told
"$cellferry" plot @many.txt -o again.svg --color phase >told
grep -q '>X_umap: 30,000 of 35,000 cells, chosen at random<' many.svg || fail "what is left out is not said"
[ "$(grep -vc '^#' many.dat)" = 30000 ] && cmp -s <(grep -v '^#' many.dat) <(grep -v '^#' again.dat) || fail "the choice of cells"
grep -q '>[0-9]*\.[0-9] %<' many.svg || fail "shares in the legend of some of the cells"

# More categories than colours, cells without a category, a number or a place: where Python can write such a file.
for python in "${FERRY_PYTHON:-}" "$(dirname "$cellferry")/.venv/bin/python" python3; do
    [ -n "$python" ] && command -v "$python" >/dev/null && "$python" -c 'import h5py' 2>/dev/null && break
    python=
done
if [ -n "$python" ]; then
    "$python" - <<'END'
import h5py, numpy as np

n = 400
with h5py.File("hard.h5ad", "w") as f:
    f.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    obs = f.create_group("obs")
    obs.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index",
                      "column-order": ["kind", "score"]})
    text = h5py.string_dtype()
    def array(group, name, data, kind="array"):
        data = group.create_dataset(name, data=data)
        data.attrs.update({"encoding-type": kind, "encoding-version": "0.2.0"})
    array(obs, "_index", np.array([f"c{i}" for i in range(n)], dtype=text), "string-array")
    kind = obs.create_group("kind")
    kind.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
    array(kind, "codes", np.where(np.arange(n) % 10 == 0, -1, np.minimum(np.arange(n) % 41, 40)).astype("i1"))
    array(kind, "categories", np.array([f"k{i:02d}" for i in range(41)], dtype=text), "string-array")
    array(obs, "score", np.where(np.arange(n) % 4 == 0, np.nan, np.arange(n) ** 4.0))
    var = f.create_group("var")
    var.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index",
                      "column-order": np.array([], dtype=text)})
    array(var, "_index", np.array([], dtype=text), "string-array")
    obsm = f.create_group("obsm")
    obsm.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
    xy = np.random.default_rng(0).normal(size=(n, 2))
    xy[:3] = np.nan
    array(obsm, "X_own", xy)
    array(obsm, "X_lost", np.full((n, 2), np.nan))
    array(obsm, "X_line", np.zeros((n, 1)))
    array(obsm, "X_same", np.zeros((n, 2)))
END
    draw hard hard.h5ad --basis own
    draw hard2 hard.h5ad --basis X_own --color score --color kind
    draw hard3 hard.h5ad --color score --basis same
    grep -q '>X_own: 400 cells; 3 without a place<' hard.svg || fail "cells without a place are not told"
    [ "$(grep -vc '^#' hard.dat)" = 397 ] || fail "cells without a place are drawn"
    grep -q '>11 other categories<' hard.svg && grep -q '>missing<' hard.svg || fail "the legend of many categories"
    [ "$(awk -F'\t' '$3 == 32' hard.dat | wc -l)" = 39 ] && grep -q '>39<' hard.svg || fail "cells without a category"
    grep -q '>missing 99<' hard2.svg || fail "cells without a number"
fi

# Names full of gnuplot's own characters, a group without mass, a single row, CSV quoting.
printf ',"a_{b}^2 @x","50%% ""q"" <&> %s",empty\n"it'"'"'s \\n one, $two `three`",0.25,0.75,0\n' "β" >odd.csv
draw odd odd.csv
draw odd2 odd.csv --kind sankey --title "100% 'a_b' & <c>"
for name in odd odd2; do
    grep -qF 'a_{b}^2 @x' $name.svg || fail "$name: a name was taken for markup"
    grep -qF '50% "q" &lt;' $name.svg || fail "$name: quotes or angle brackets are lost"
    grep -qF "it's \\n one, \$two \`three\`" $name.svg || fail "$name: quotes, backslash or backtick are lost"
done
grep -qF "100% 'a_b' &amp; &lt;c" odd2.svg || fail "the title is not as given"

# Figures at two ranks, in another folder with a blank and a quote in its name.
mkdir "it's here"
"$mpiexec" -n 2 "$cellferry" plot table.csv -o "it's here/t.svg" >told && is svg "it's here/t.svg" || fail "another folder"

# What is refused, with its code and its reason.
refused() { # CODE REASON ARGUMENTS...
    local code=$1 reason=$2 got=0
    shift 2
    "$cellferry" plot "$@" >said 2>&1 || got=$?
    [ $got = "$code" ] || fail "plot $* ended with $got, not $code: $(cat said)"
    grep -q -- "$reason" said || fail "plot $*: no \"$reason\" in: $(cat said)"
}
refused 2 'ends in .svg, .png or .pdf' table.csv -o table.gif
refused 3 'exists' table.csv -o heatmap.svg
echo 'mine' >own.dat
refused 3 'own.dat exists' table.csv -o own.svg
[ "$(cat own.dat)" = mine ] || fail "a file of the user's was overwritten"
refused 3 'cannot read it' none.csv -o n.svg
printf 'a,b\n' >header.csv
refused 3 'no lines below its header' header.csv -o n.svg
printf ',a,b\nx,1\n' >short.csv
refused 3 'line 2 has 1 numbers' short.csv -o n.svg
printf ',a\nx,1,2\n' >long.csv
refused 3 'line 2 has more numbers' long.csv -o n.svg
printf ',a\nx,-1\n' >negative.csv
refused 3 'is not a share' negative.csv -o n.svg
printf ',a\nx,0\n' >zero.csv
refused 3 'no mass to draw' zero.csv --kind sankey -o n.svg
refused 3 'there is no such key in obsm, which holds X_pca (50 columns), X_umap (2 columns)' \
    "$project/data/pbmc68k_reduced.h5ad" --basis X_phate -o n.svg
refused 3 "did you mean 'bulk_labels'" "$project/data/pbmc68k_reduced.h5ad" --color bulk_label -o n.svg
refused 3 'no embedding to draw its cells on' coupling.h5ad --kind cells -o n.svg
refused 2 'at most 4' mapped.h5ad --color a --color b --color c --color d --color e -o n.svg
refused 2 'not for table.csv' table.csv --basis X_umap -o n.svg
refused 2 'not for mapped.h5ad and this --kind' mapped.h5ad --color a --kind stages -o n.svg
if [ -n "$python" ]; then
    refused 3 'X_line has 1 columns' hard.h5ad --basis line -o n.svg
    refused 3 'no cell has a place' hard.h5ad --basis lost -o n.svg
fi
printf '{"a":1}' >other.json
refused 3 'not a run record' other.json -o n.svg
refused 3 'errors' coupling.h5ad --kind trace -o n.svg
: >empty
refused 3 'it is empty' empty -o n.svg
refused 3 'no/such' table.csv -o no/such/folder.svg
[ ! -e n.svg ] && [ ! -e n.gp ] || fail "a refused figure left files"

# Without gnuplot: the two files, how to draw them, exit code 3. The folder that has gnuplot is seen through links.
mkdir bin
folder=$(dirname "$(command -v gnuplot)")
ln -s "$folder"/* bin/
rm -f bin/gnuplot*
code=0
PATH=$work/bin:$(tr : '\n' <<<"$PATH" | while read -r one; do
    [ -x "$one/gnuplot" ] || echo "$one"
done | paste -sd :) "$cellferry" plot table.csv -o later.svg >said 2>&1 || code=$?
[ $code = 3 ] && grep -q 'cd . && gnuplot later.gp' said && [ -s later.gp ] && [ -s later.dat ] && [ ! -e later.svg ] ||
    fail "without gnuplot: code $code, $(cat said)"
gnuplot later.gp && is svg later.svg || fail "what is left without gnuplot does not draw"
echo "figures of every kind and format"
