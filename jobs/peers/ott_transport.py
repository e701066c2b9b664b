#!/usr/bin/env python3
"""OTT-JAX on the points of a file of points.py; prints one JSON line. Reading the file and compiling are not counted."""
import argparse
import json
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file")
parser.add_argument("--epsilon", type=float, default=0.05, help="of the cost scaled by its mean")
parser.add_argument("--threshold", type=float, default=1e-3)
parser.add_argument("--batch-size", type=int, default=0, help="0: the whole cost matrix in memory")
parser.add_argument("--max-iterations", type=int, default=2000)
parser.add_argument("--tau", type=float, default=1, help="of both sides; below 1: unbalanced")
parser.add_argument("--setting", default="shipped", choices=["shipped", "momentum", "adaptive", "anderson"],
                    help="as shipped; momentum 1.5; adaptive momentum from 20 on; Anderson of memory 5")
parser.add_argument("--threads", type=int, required=True)
args = parser.parse_args()

import common  # noqa: E402

common.limit_threads(args.threads)
import jax  # noqa: E402

common.mend_jax()
import jax.numpy as jnp  # noqa: E402
import ott  # noqa: E402
from ott.geometry import pointcloud  # noqa: E402
from ott.problems.linear import linear_problem  # noqa: E402
from ott.solvers.linear import acceleration, sinkhorn  # noqa: E402

x, y = (jnp.asarray(points) for points in common.read_points(args.file))
helped = {
    "shipped": {},
    "momentum": {"momentum": acceleration.Momentum(start=0, value=1.5)},
    "adaptive": {"momentum": acceleration.Momentum(start=20, value=1.0)},
    "anderson": {"anderson": acceleration.AndersonAcceleration(memory=5)},
}[args.setting]
solver = sinkhorn.Sinkhorn(threshold=args.threshold, max_iterations=args.max_iterations, **helped)


@jax.jit
def solve(x, y):
    geometry = pointcloud.PointCloud(x, y, epsilon=args.epsilon, scale_cost="mean", batch_size=args.batch_size or None)
    return solver(linear_problem.LinearProblem(geometry, tau_a=args.tau, tau_b=args.tau))


compiled = solve.lower(x, y).compile()
cpu, wall = common.cpu_seconds(), time.perf_counter()
out = compiled(x, y)
jax.block_until_ready((out.f, out.g, out.reg_ot_cost))
cpu, wall = common.cpu_seconds() - cpu, time.perf_counter() - wall
errors = [float(e) for e in out.errors if e >= 0]
print(json.dumps({
    "program": f"ott-jax {ott.__version__}, jax {jax.__version__}",
    "iterations": int(out.n_iters), "converged": bool(out.converged), "error": errors[-1] if errors else None, "setting": args.setting,
    "reg_ot_cost": float(out.reg_ot_cost), "cpu_seconds": cpu, "seconds": wall, "peak_gib": common.peak_gib()}))
