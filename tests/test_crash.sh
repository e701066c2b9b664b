#!/bin/sh
# test_crash.sh RANKS TEST_CRASH MPIEXEC ARGUMENT...: a rank is killed in the middle of a write; the file under the final
# name is the old one and the partial file opens with the passes that were complete.
ranks=$1 program=$2
shift 2
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
export FERRY_PASS=20000
"$@" "$ranks" "$program" "$folder/file.h5" old || exit 1
for passes in 1 4; do
    if "$@" "$ranks" "$program" "$folder/file.h5" kill $passes > "$folder/log" 2>&1; then
        echo "the killed run ended well"
        exit 1
    fi
    "$@" 1 "$program" "$folder/file.h5" check $passes || { cat "$folder/log"; exit 1; }
done
