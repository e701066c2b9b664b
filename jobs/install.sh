#!/usr/bin/env bash
# Installs what cellferry needs and this machine lacks, on Debian 12 and Ubuntu 22.04 or 24.04. Nothing is done when all
# is there. With "test" also what only the tests use.
#   jobs/install.sh [run|test]
set -euo pipefail
what=${1:-run}

needed=(gcc libc6-dev cmake ninja-build pkg-config libopenmpi-dev openmpi-bin libhdf5-openmpi-dev hdf5-tools
    libscalapack-openmpi-dev libopenblas-openmp-dev gnuplot-nox)
extras=()
case $what in
run) ;;
test) extras=(g++ clang-format clang-tidy python3-venv slurm-wlm munge codespell) ;;
*) echo "usage: jobs/install.sh [run|test]" >&2; exit 2 ;;
esac

if ! command -v apt-get >/dev/null; then
    for tool in cmake mpicc mpirun; do
        command -v $tool >/dev/null ||
            { echo "no $tool here, and no apt-get to install it with: see INSTALL.md, \"On a cluster\" or \"From source\"" >&2; exit 3; }
    done
    echo "no apt-get here: using the cmake and mpicc that are on the PATH"
    exit 0
fi

missing() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

as_root=()
if [ "$(id -u)" != 0 ]; then
    # Ask for a password only where somebody can type one.
    if [ -n "${CI:-}" ] || [ ! -t 0 ]; then as_root=(sudo -n); else as_root=(sudo); fi
fi

updated=no
install_packages() {
    if [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; then
        echo "these packages are missing and there is no sudo; as root: apt-get install $*" >&2
        return 1
    fi
    echo "installing: $*"
    if [ $updated = no ]; then
        "${as_root[@]}" apt-get update -qq || return 1
        updated=yes
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" </dev/null >/dev/null
}

mapfile -t absent < <(missing "${needed[@]}")
[ ${#absent[@]} = 0 ] || install_packages "${absent[@]}"

mapfile -t absent < <(missing "${extras[@]}")
if [ ${#absent[@]} -gt 0 ] && ! install_packages "${absent[@]}"; then
    echo "could not install ${absent[*]}: the tests that use them are skipped" >&2
    [ -z "${CI:-}" ] || exit 1
fi
