# shellcheck shell=bash
# Sourced by the scripts of this folder: where the project is, how it is built, how mpirun starts on any machine.
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# nproc counts OMP_NUM_THREADS where it is set.
cores() { env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc; }

say() { printf '\n== %s\n' "$*"; }

# Open MPI refuses root and more ranks than cores unless it is told; containers often have both. Ranks that wait for
# each other give the core away, and none is bound to a core that another job may use.
mpi_environment() {
    if [ "$(id -u)" = 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
    export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl=^openib
}

# build FOLDER TARGET [-DNAME=VALUE ...]: configure when needed, build what changed of TARGET.
build() {
    local folder=$1 target=$2 generator=()
    shift 2
    case $folder in *[[:space:]]*)
        echo "$folder: CMake cannot find HDF5 from a path with a blank; move the project to one without" >&2
        return 3 ;;
    esac
    if [ -f "$folder/CMakeCache.txt" ]; then
        # A copied or moved project brings a cache that names its old place: start afresh.
        grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$project" "$folder/CMakeCache.txt" ||
            rm -rf "$folder/CMakeCache.txt" "$folder/CMakeFiles"
    fi
    [ -f "$folder/CMakeCache.txt" ] || generator=(-G Ninja)
    quiet "$folder.log" cmake -S "$project" -B "$folder" "${generator[@]}" "$@"
    if [ -t 1 ]; then
        cmake --build "$folder" --target "$target" --parallel "$(cores)"
    else
        quiet "$folder.log" cmake --build "$folder" --target "$target" --parallel "$(cores)"
    fi
    echo "built: $folder"
}

# quiet LOG COMMAND...: its output is shown only when it fails.
quiet() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 || { cat "$log" >&2; return 1; }
    rm -f "$log"
}
