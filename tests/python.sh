#!/usr/bin/env bash
# Runs a Python check with the first interpreter that has anndata and scanpy: $FERRY_PYTHON, the venv that jobs/test.sh
# makes in the build folder, python3.
#   python.sh BUILD SCRIPT ARGUMENTS...
set -euo pipefail
build=$1
shift
for python in "${FERRY_PYTHON:-}" "$build/.venv/bin/python" python3; do
    if [ -n "$python" ] && command -v "$python" >/dev/null && "$python" -c 'import anndata, h5py, scanpy' 2>/dev/null; then
        exec "$python" "$@"
    fi
done
echo "skipped: no Python with anndata and scanpy (jobs/test.sh makes one where pip can fetch them)"
exit 77
