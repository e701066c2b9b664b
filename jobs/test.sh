#!/usr/bin/env bash
# Installs what is missing, builds, and runs the whole test suite at 1, 2, 3 and 4 ranks.
#   jobs/test.sh [-DNAME=VALUE ...]        options for cmake, such as -DFERRY_WERROR=ON
#   BUILD=FOLDER jobs/test.sh ...          another build folder than build/
# A sanitizer run: BUILD=build-asan jobs/test.sh -DFERRY_SANITIZE=ON -DCMAKE_BUILD_TYPE=Debug
set -euo pipefail
# shellcheck source=jobs/here.sh
source "$(dirname "${BASH_SOURCE[0]}")/here.sh"
folder=${BUILD:-$project/build}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

say "packages"
bash "$project/jobs/install.sh" test

say "build"
build "$folder" all -DBUILD_TESTING=ON "$@"

say "Python with anndata and scanpy (for the test that opens every output)"
venv=$folder/.venv
ready() { "$venv/bin/python" -c 'import anndata, h5py, scanpy' 2>/dev/null; }
if ready; then
    echo "there already: $venv"
elif { [ -x "$venv/bin/python" ] || python3 -m venv "$venv"; } &&
    timeout 600 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --retries 2 \
        anndata scanpy igraph leidenalg </dev/null && ready; then
    echo "made: $venv"
    sync -f "$venv" || true # tests wait for the disk: not for what pip has just written
else
    echo "skipped: pip could not fetch anndata and scanpy, so the tests that open outputs with them are skipped"
fi

say "tests"
log=$folder/test.log
code=0
# Most tests wait for messages, not for the processor: four ranks at a time, also on two cores.
slots=$(cores)
[ "$slots" -ge 4 ] || slots=4
ctest --test-dir "$folder" --output-on-failure --no-tests=error --parallel "$slots" </dev/null 2>&1 | tee "$log" || code=$?

# ctest's own line per test: "12/80 Test  #7: name ....   Passed    0.61 sec"
count() { grep -cE "^ *[0-9]+/[0-9]+ Test +#[0-9]+: .*$1" "$log" || true; }
passed=$(count '[. ] Passed ')
skipped=$(count '\*\*\*(Skipped|Not Run)')
all=$(count '')
say "summary"
if [ "$skipped" -gt 0 ]; then
    grep -E '\*\*\*(Skipped|Not Run)' "$log" | sed -E 's/^.*: ([^ ]+) .*/  skipped: \1/'
fi
echo "$passed passed, $((all - passed - skipped)) failed, $skipped skipped"
exit $code
