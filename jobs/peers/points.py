#!/usr/bin/env python3
"""Writes two populations of made-up cells into one .h5ad, for benchmarks: points.py FILE.h5ad N D SEED

Two Gaussian mixtures that share twenty centres, the second one shifted; the scale of the components falls off as that of
principal components does. obs/side tells "source" from "target", obsm/X_pca holds the points. The same bits for the same
arguments. Needs numpy and anndata."""
import sys

import anndata
import numpy as np
import pandas as pd

path, n, d, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
random = np.random.RandomState(seed)
clusters = 20
scale = 1 / np.sqrt(1 + 0.2 * np.arange(d))
centre = 3 * random.randn(clusters, d)
shift = 0.5 * random.randn(clusters, d)
points = []
for moved in (0, 1):
    weight = random.dirichlet(2 * np.ones(clusters))
    cluster = random.choice(clusters, n, p=weight)
    points.append((centre[cluster] + moved * shift[cluster] + random.randn(n, d)) * scale)
obs = pd.DataFrame({"side": pd.Categorical(["source"] * n + ["target"] * n)}, index=[f"cell{i}" for i in range(2 * n)])
cells = anndata.AnnData(obs=obs, obsm={"X_pca": np.concatenate(points).astype(np.float32)})
cells.write_h5ad(path)
