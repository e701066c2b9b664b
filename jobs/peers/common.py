"""What both peer scripts share: threads, the points, the compatibility of library versions, and CPU time."""
import os
import resource


def limit_threads(threads):
    """Before numpy or jax is imported: both sides of a benchmark get the same cores."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def mend_jax():
    """ott-jax 0.6 asks for a name that jax 0.10 no longer shows."""
    import jax.interpreters.batching as public

    if not hasattr(public, "is_vmappable"):
        import jax._src.interpreters.batching as private

        public.is_vmappable = private.is_vmappable


def read_points(path):
    import h5py
    import numpy as np

    with h5py.File(path, "r") as file:
        points = file["obsm/X_pca"][:].astype(np.float32)
        side = file["obs/side/codes"][:]
    return points[side == 0], points[side == 1]


def cpu_seconds():
    """User and system time of this process, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
