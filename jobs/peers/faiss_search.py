#!/usr/bin/env python3
"""faiss's inverted lists on the points of .h5ad files; prints one JSON line per number of probes, with recall against the
exact neighbours of a result of `cellferry neighbors --exact`:
  faiss_search.py REFERENCE.h5ad QUERY.h5ad|self EXACT.h5ad --k 30 --factory IVF1000,Flat --probes 8,16,32 --threads 2
CPU seconds of the search alone; training and adding are separate. --queries N: the first N of the queries."""
import argparse
import json
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("reference")
parser.add_argument("query")
parser.add_argument("exact")
parser.add_argument("--k", type=int, default=30)
parser.add_argument("--factory", default="IVF1000,Flat")
parser.add_argument("--probes", default="16")
parser.add_argument("--queries", type=int, default=0)
parser.add_argument("--train", type=int, default=0, help="rows to train on (0: faiss decides)")
parser.add_argument("--iterations", type=int, default=0, help="of k-means (0: faiss decides)")
parser.add_argument("--threads", type=int, required=True)
args = parser.parse_args()

import common  # noqa: E402

common.limit_threads(args.threads)
import faiss  # noqa: E402
import h5py  # noqa: E402
import numpy as np  # noqa: E402

faiss.omp_set_num_threads(args.threads)


def points(path):
    with h5py.File(path, "r") as file:
        return np.ascontiguousarray(file["obsm/X_pca"][...], np.float32)


def recall(found, exact, drop_self):
    hits = 0
    for i, (mine, true) in enumerate(zip(found, exact)):
        if drop_self:
            mine = mine[mine != i][: len(true)]
        hits += len(np.intersect1d(mine, true, assume_unique=False))
    return hits / exact.size


x = points(args.reference)
self_search = args.query == "self"
q = x if self_search else points(args.query)
with h5py.File(args.exact, "r") as file:
    exact = file["obsm/neighbors"][: args.queries or None, : args.k]
if args.queries:
    q = q[: args.queries]
index = faiss.index_factory(x.shape[1], args.factory)
hnsw = "HNSW" in args.factory
if not hnsw and args.iterations:
    faiss.extract_index_ivf(index).cp.niter = args.iterations
sample = x
if args.train:
    sample = x[np.random.default_rng(0).choice(len(x), min(args.train, len(x)), replace=False)]
cpu = common.cpu_seconds()
if not index.is_trained:
    index.train(sample)
train = common.cpu_seconds() - cpu
index.add(x)
build = common.cpu_seconds() - cpu
for setting in (int(p) for p in args.probes.split(",")):
    faiss.ParameterSpace().set_index_parameter(index, "efSearch" if hnsw else "nprobe", setting)
    cpu, wall = common.cpu_seconds(), time.perf_counter()
    _, found = index.search(q, args.k + self_search)
    cpu, wall = common.cpu_seconds() - cpu, time.perf_counter() - wall
    few = min(len(q), 20000)
    print(json.dumps({
        "program": f"faiss {faiss.__version__}", "factory": args.factory, "setting": setting, "rows": len(x),
        "queries": len(q), "train_cpu_seconds": train, "build_cpu_seconds": build, "cpu_seconds": cpu, "seconds": wall,
        "us_per_query": cpu * 1e6 / len(q), "recall": recall(found[:few], exact[:few], self_search),
        "peak_gib": common.peak_gib()}), flush=True)
