#!/usr/bin/env python3
"""POT's log-domain Sinkhorn (float64, the whole cost matrix) on the first rows of a file of points.py: prints one JSON
line with its core-nanoseconds per pair and full iteration. Reading the file and forming the costs are not counted."""
import argparse
import json
import warnings

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file")
parser.add_argument("--rows", type=int, default=4000, help="of each side")
parser.add_argument("--epsilon", type=float, default=0.05, help="of the cost scaled by its mean")
parser.add_argument("--iterations", type=int, default=20)
parser.add_argument("--threads", type=int, required=True)
args = parser.parse_args()

import common  # noqa: E402

common.limit_threads(args.threads)
import numpy as np  # noqa: E402
import ot  # noqa: E402

x, y = (points[: args.rows].astype(np.float64) for points in common.read_points(args.file))
cost = ot.dist(x, y)
cost /= cost.mean()
a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
warnings.simplefilter("ignore")  # it stops before it has converged: only the rate is wanted
cpu = common.cpu_seconds()
ot.bregman.sinkhorn_log(a, b, cost, args.epsilon, numItermax=args.iterations, stopThr=0)
cpu = common.cpu_seconds() - cpu
print(json.dumps({"program": f"POT {ot.__version__}", "iterations": args.iterations, "cpu_seconds": cpu,
                  "ns_per_pair": cpu * 1e9 / args.iterations / len(x) / len(y)}))
