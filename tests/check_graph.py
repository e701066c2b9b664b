"""The graph that test_weights writes must be what scanpy itself makes of the same cells, and scanpy must go on from it.
   check_graph.py FILE CELLS COMMAND...   COMMAND FILE writes the graph of CELLS (obsm/X_emb, k = 14)"""
import subprocess
import sys
import warnings

import anndata
import numpy as np
import scanpy as sc

warnings.filterwarnings("ignore")
path, cells, *command = sys.argv[1:]
subprocess.run([*command, path], check=True, timeout=100)
ours = anndata.read_h5ad(path)
truth = anndata.read_h5ad(cells)
sc.pp.neighbors(truth, n_neighbors=15, use_rep="X_emb", random_state=7)
assert ours.uns["neighbors"] == truth.uns["neighbors"], ours.uns["neighbors"]
for key, tolerance in (("distances", 1e-6), ("connectivities", 1e-5)):  # scanpy stops its bisection at 1e-5 as well
    a, b = ours.obsp[key], truth.obsp[key].tocsr()
    b.sort_indices()
    assert a.dtype == np.float32 and a.indptr.dtype == np.int64 and a.has_sorted_indices, key
    assert np.array_equal(a.indptr, b.indptr) and np.array_equal(a.indices, b.indices), key
    assert np.abs(a.data - b.data).max() < tolerance * max(1, b.data.max()), (key, np.abs(a.data - b.data).max())
assert abs(ours.obsp["connectivities"] - ours.obsp["connectivities"].T).max() == 0
assert (np.diff(ours.obsp["distances"].indptr) == 14).all()

ours.obsm["X_emb"] = truth.obsm["X_emb"]
sc.tl.umap(ours)
assert np.isfinite(ours.obsm["X_umap"]).all()
sc.tl.diffmap(ours)
try:
    sc.tl.leiden(ours, flavor="igraph", n_iterations=2, directed=False)
    sc.tl.leiden(truth, flavor="igraph", n_iterations=2, directed=False)
except ImportError:
    print("no igraph: leiden was not tried")
else:
    same = (ours.obs["leiden"].to_numpy() == truth.obs["leiden"].to_numpy()).mean()
    assert same > 0.99, same
    print("leiden: %d clusters, %.3f as scanpy's own" % (ours.obs["leiden"].nunique(), same))
print("graph as scanpy's: distances, connectivities, uns; umap and diffmap run")
