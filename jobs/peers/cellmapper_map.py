#!/usr/bin/env python3
"""CellMapper's label transfer on two .h5ad files; prints one JSON line with CPU seconds by stage and peak memory.
  cellmapper_map.py REFERENCE.h5ad QUERY.h5ad --obs cell_type --k 30 --method faiss-cpu|sklearn --threads 2 [--save FILE.csv]"""
import argparse
import json

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("reference")
parser.add_argument("query")
parser.add_argument("--obs", default="cell_type")
parser.add_argument("--rep", default="X_pca")
parser.add_argument("--k", type=int, default=30)
parser.add_argument("--method", default="faiss-cpu")
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--save")
args = parser.parse_args()

import common  # noqa: E402

common.limit_threads(args.threads)
import anndata  # noqa: E402
from cellmapper import CellMapper  # noqa: E402

reference, query = anndata.read_h5ad(args.reference), anndata.read_h5ad(args.query)
mapper = CellMapper(query, reference)
out = {"program": "CellMapper", "method": args.method, "rows": reference.n_obs, "queries": query.n_obs,
       "base_gib": common.peak_gib()}
stages = {
    "neighbors": lambda: mapper.compute_neighbors(
        n_neighbors=args.k, use_rep=args.rep, n_comps=reference.obsm[args.rep].shape[1], knn_method=args.method,
        only_yx=True),
    "matrix": lambda: mapper.compute_mapping_matrix("gauss"),
    "labels": lambda: mapper.map_obs(args.obs),
    "presence": mapper.compute_presence_score,
}
start = common.cpu_seconds()
for name, work in stages.items():
    cpu = common.cpu_seconds()
    work()
    out[name + "_cpu_seconds"] = common.cpu_seconds() - cpu
out["cpu_seconds"] = common.cpu_seconds() - start
out["peak_gib"] = common.peak_gib()
if args.obs in query.obs:
    out["accuracy"] = float((query.obs[args.obs].astype(str) == query.obs[args.obs + "_pred"].astype(str)).mean())
if args.save:
    query.obs[[args.obs + "_pred", args.obs + "_conf"]].to_csv(args.save)
print(json.dumps(out))
