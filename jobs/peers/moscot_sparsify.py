#!/usr/bin/env python3
"""moscot's sparsify on the points of a file of points.py, after a short OTT-JAX solve; prints one JSON line with the time
of sparsify alone. moscot's rate does not depend on the number of rows, so --rows may take some of them."""
import argparse
import json
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file")
parser.add_argument("--rows", type=int, default=0, help="source rows taken (0: all)")
parser.add_argument("--epsilon", type=float, default=0.05, help="of the cost scaled by its mean")
parser.add_argument("--value", type=float, default=0.99)
parser.add_argument("--max-k", type=int, default=50)
parser.add_argument("--batch-size", type=int, default=512)
parser.add_argument("--threads", type=int, required=True)
args = parser.parse_args()

import common  # noqa: E402

common.limit_threads(args.threads)
import jax  # noqa: E402

common.mend_jax()
import jax.numpy as jnp  # noqa: E402
import moscot  # noqa: E402
import moscot.backends.ott  # noqa: E402, F401
from moscot.backends.ott.output import OTTOutput  # noqa: E402
from ott.geometry import pointcloud  # noqa: E402
from ott.problems.linear import linear_problem  # noqa: E402
from ott.solvers.linear import sinkhorn  # noqa: E402

x, y = common.read_points(args.file)
if args.rows:
    x = x[: args.rows]
geometry = pointcloud.PointCloud(jnp.asarray(x), jnp.asarray(y), epsilon=args.epsilon, scale_cost="mean", batch_size=64)
out = jax.jit(sinkhorn.Sinkhorn(max_iterations=20))(linear_problem.LinearProblem(geometry))
jax.block_until_ready((out.f, out.g))
for _ in range(2):  # the first time compiles, which is not counted
    cpu, wall = common.cpu_seconds(), time.perf_counter()
    result = OTTOutput(out).sparsify(mode="mass", value=args.value, max_k=args.max_k, batch_size=args.batch_size)
cpu, wall = common.cpu_seconds() - cpu, time.perf_counter() - wall
print(json.dumps({
    "program": f"moscot {moscot.__version__}", "rows": len(x), "columns": len(y), "cpu_seconds": cpu, "seconds": wall,
    "ns_per_pair": cpu * 1e9 / len(x) / len(y), "nonzeros": int(result.transport_matrix.nnz), "peak_gib": common.peak_gib()}))
