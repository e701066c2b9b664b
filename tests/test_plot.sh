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

grep -q 'CD8+/CD45RA+ Naive Cytotoxic' heatmap.svg || fail "a group is missing in the heatmap"
grep -q 'CD8+/CD45RA+ Naive Cytotoxic' sankey.svg || fail "a group is missing in the Sankey diagram"
[ "$(grep -c . trace.dat)" -gt 2 ] || fail "the trace has no points"

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
