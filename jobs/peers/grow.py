#!/usr/bin/env python3
"""Writes more cells made from real ones: grow.py REAL.h5ad FILE.h5ad CELLS [--rep X_pca] [--seed 0]

A new cell is a real one x, plus 0.5 sum_j g_j (x_j - x) / sqrt(15) over its 15 nearest x_j with g normal, plus noise whose
vector has half the length of the distance to the nearest neighbour. That keeps how many cells a search has to look at
(copies with noise alone would make every neighbour a clone of the same cell). obs columns are copied. Prints the copies
per cell. Needs numpy, scikit-learn and anndata."""
import argparse

import anndata
import numpy as np
from sklearn.neighbors import NearestNeighbors

NEAREST, BLOCK = 15, 65536

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("real")
parser.add_argument("file")
parser.add_argument("cells", type=lambda s: int(float(s)))
parser.add_argument("--rep", default="X_pca")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

real = anndata.read_h5ad(args.real)
x = np.ascontiguousarray(real.obsm[args.rep], dtype=np.float32)
distance, near = NearestNeighbors(n_neighbors=NEAREST + 1).fit(x).kneighbors(x)
step = distance[:, 1].astype(np.float32)
step[step < 1e-6] = np.median(step[step >= 1e-6])
random = np.random.default_rng(args.seed)
row = random.integers(0, len(x), args.cells)
points = np.empty((args.cells, x.shape[1]), np.float32)
for first in range(0, args.cells, BLOCK):
    r = row[first : first + BLOCK]
    g = random.normal(size=(len(r), NEAREST)).astype(np.float32)
    noise = random.normal(size=(len(r), x.shape[1])).astype(np.float32)
    noise *= 0.5 * step[r, None] / np.linalg.norm(noise, axis=1, keepdims=True)
    points[first : first + BLOCK] = (
        x[r] + 0.5 / np.sqrt(NEAREST) * np.einsum("ij,ijk->ik", g, x[near[r, 1:]] - x[r][:, None]) + noise
    )
obs = real.obs.iloc[row].reset_index(drop=True)
obs.index = [f"s{args.seed}c{i}" for i in range(args.cells)]
anndata.AnnData(obs=obs, obsm={"X_pca": points}).write_h5ad(args.file)
print(f"{args.cells} cells from {len(x)} real ones: {args.cells / len(x):.1f} copies per cell")
