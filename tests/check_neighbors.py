#!/usr/bin/env python3
"""Neighbours of real cells: the true ones, in a file that scanpy goes on with.

check_neighbors.py CELLFERRY MPIEXEC CELLS.h5ad FOLDER: searches the cells of a file (and of one in FOLDER, where there
is one) at one and two ranks; compares neighbours with scikit-learn's, connectivities with scanpy's, and runs umap and
leiden on the result. Exit code 77: no anndata, scanpy or scikit-learn here."""
import json
import os
import subprocess
import sys
import tempfile
import warnings

try:
    warnings.simplefilter("ignore")
    import anndata
    import numpy as np
    import scanpy as sc
    from sklearn.neighbors import NearestNeighbors
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

cellferry, mpiexec, cells_path, real = sys.argv[1:5]
failures = 0


def check(condition, what):
    global failures
    if not condition:
        failures += 1
        print(f"check_neighbors: {what}", file=sys.stderr)


def ferry(ranks, *words):
    done = subprocess.run([mpiexec, "-n", str(ranks), cellferry, *words, "--overwrite", "--json"], capture_output=True,
                          text=True)
    if done.returncode != 0:
        sys.exit(f"cellferry {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def same_bytes(a, b):
    for key in ("neighbors", "distances"):
        if not np.array_equal(a.obsm[key], b.obsm[key]):
            return False
    return all((a.obsp[key] != b.obsp[key]).nnz == 0 for key in a.obsp)


def true_neighbors(queries, reference, k, metric, one_set):
    found = NearestNeighbors(n_neighbors=min(k + 1, len(reference)), metric=metric, algorithm="brute").fit(reference)
    distances = found.kneighbors(queries)[0]
    return distances[:, 1:] if one_set else distances[:, :k]


def check_truth(graph, queries, reference, k, metric, one_set, what):
    """Distances agree with scikit-learn's, and the cells named are at them: so ties may be named in any order there."""
    cells, distances = graph.obsm["neighbors"], graph.obsm["distances"]
    check(cells.dtype == np.int64 and distances.dtype == np.float32 and cells.shape == (len(queries), k),
          f"{what}: types or shapes of obsm")
    x, y = queries.astype(np.float64), reference.astype(np.float64)
    if metric == "cosine":
        x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    truth = true_neighbors(x, y, k, "euclidean", one_set)
    away = np.linalg.norm(x[:, None] - y[cells], axis=2)
    if metric == "cosine":
        truth, away = truth ** 2 / 2, away ** 2 / 2
    scale = np.abs(truth).max()
    check(np.abs(distances - truth).max() < 1e-5 * scale, f"{what}: other distances than scikit-learn's")
    check(np.abs(away - distances).max() < 1e-5 * scale, f"{what}: cells are not at the distances given")
    check((np.diff(distances, axis=1) >= 0).all(), f"{what}: distances are not ascending")
    if one_set:
        check((cells != np.arange(len(cells))[:, None]).all(), f"{what}: a cell is its own neighbour")


def check_scanpy(graph, cells, rep, k, metric, what):
    """The fuzzy graph is scanpy's own, and umap and leiden go on from it."""
    plain = anndata.AnnData(obs=cells.obs[[]].copy(), obsm={rep: np.asarray(cells.obsm[rep], dtype=np.float32)})
    plain.obsm["exact"] = plain.obsm[rep].astype(np.float64)  # so that scanpy rounds no more than we do
    sc.pp.neighbors(plain, n_neighbors=k + 1, use_rep="exact", metric=metric, method="umap", transformer=None)
    params = graph.uns["neighbors"]["params"]
    for key in ("method", "metric", "random_state"):
        check(params[key] == plain.uns["neighbors"]["params"][key], f"{what}: uns/neighbors/params/{key}")
    check(params["use_rep"] == rep, f"{what}: uns/neighbors/params/use_rep")
    check(params["n_neighbors"] == k + 1, f"{what}: n_neighbors")
    check((graph.obsp["distances"].getnnz(axis=1) == k).all(), f"{what}: rows of obsp/distances")
    if len(cells) < 4096:  # above, scanpy's own neighbours are not exact
        apart = abs(graph.obsp["connectivities"] - plain.obsp["connectivities"]).max()
        check(apart < 1e-5, f"{what}: connectivities differ from scanpy's by {apart}")
        apart = abs(graph.obsp["distances"] - plain.obsp["distances"]).max()
        check(apart < 1e-4, f"{what}: obsp/distances differ from scanpy's by {apart}")
    check(np.array_equal(graph.obsm[rep], plain.obsm[rep]), f"{what}: the representation is not copied")


def run_scanpy(graph, what):
    sc.tl.umap(graph, maxiter=20)
    check(np.isfinite(graph.obsm["X_umap"]).all() and len(graph.obsm["X_umap"]) == graph.n_obs, f"{what}: umap")
    try:
        import igraph  # noqa: F401
        import leidenalg  # noqa: F401
    except ImportError as missing:
        print(f"{what}: leiden skipped: {missing}")
        return
    sc.tl.leiden(graph)
    check(1 < graph.obs["leiden"].nunique() < graph.n_obs / 2, f"{what}: leiden")


def one_set(path, rep, k, metric, *words):
    what = f"{os.path.basename(path)} {metric} {' '.join(words)}"
    cells = anndata.read_h5ad(path)
    graphs = []
    for ranks in (1, 2):
        out = f"graph{ranks}.h5ad"
        record = ferry(ranks, "neighbors", path, "--rep", rep, "-k", str(k), "--metric", metric, "-o", out, *words)
        figures = record["figures"]
        check(figures["neighbors"] == k and figures["queries"] == cells.n_obs and figures["one_set"] is True,
              f"{what}: the record's figures")
        if "--exact" in words:
            check(figures["rule"] == "exact", f"{what}: the record's rule")
        else:
            check(figures["recall"]["mean"] >= 0.99, f"{what}: recall {figures['recall']['mean']}")
        graphs.append(anndata.read_h5ad(out))
    check(same_bytes(*graphs), f"{what}: one and two ranks differ")
    graph = graphs[1]
    check(list(graph.obs_names) == list(cells.obs_names), f"{what}: names of the cells")
    if "--exact" in words:
        points = np.asarray(cells.obsm[rep], dtype=np.float32)
        check_truth(graph, points, points, k, metric, True, what)
        check_scanpy(graph, cells, rep, k, metric, what)
    run_scanpy(graph, what)
    return graph


def two_sets(path, rep, k):
    """G1 against the rest, from one file."""
    cells = anndata.read_h5ad(path)
    query, reference = cells[cells.obs.phase == "G1"], cells[cells.obs.phase != "G1"]
    graphs = []
    for ranks in (1, 2):
        ferry(ranks, "neighbors", path, "--query-where", "phase=G1", "--reference-where", "phase=S,G2M", "--rep", rep,
              "-k", str(k), "--exact", "-o", f"cross{ranks}.h5ad")
        graphs.append(anndata.read_h5ad(f"cross{ranks}.h5ad"))
    check(same_bytes(*graphs), "two sets: one and two ranks differ")
    graph = graphs[0]
    check(list(graph.obs_names) == list(query.obs_names), "two sets: names of the queries")
    check(list(graph.uns["cellferry"]["reference_names"]) == list(reference.obs_names),
          "two sets: names of the reference")
    check("neighbors" not in graph.uns and not len(graph.obsp), "two sets: a graph of one set is written")
    check_truth(graph, query.obsm[rep], reference.obsm[rep], k, "euclidean", False, "two sets")


def by_index(path, rep, k):
    """A stored index gives what a search from the start gives, for its own cells and for others."""
    ferry(2, "index", path, "--rep", rep, "-o", "cells.index.h5")
    ferry(2, "neighbors", path, "--rep", rep, "-k", str(k), "--exact", "-o", "direct.h5ad")
    figures = ferry(1, "neighbors", path, "--index", "cells.index.h5", "-k", str(k), "--exact", "-o", "own.h5ad")["figures"]
    check(figures["one_set"] is True, "index: its own cells are not recognized")
    check(same_bytes(anndata.read_h5ad("direct.h5ad"), anndata.read_h5ad("own.h5ad")), "index: other neighbours")
    figures = ferry(2, "neighbors", path, "--where", "phase=G1", "--index", "cells.index.h5", "-k", str(k + 1), "--exact",
                    "-o", "other.h5ad")["figures"]
    check(figures["one_set"] is False, "index: a part of its cells is taken for all of them")
    other, cells = anndata.read_h5ad("other.h5ad"), anndata.read_h5ad(path)
    check(list(other.uns["cellferry"]["reference_names"]) == list(cells.obs_names), "index: names of its cells")
    rows = np.flatnonzero((cells.obs.phase == "G1").to_numpy())
    check((other.obsm["distances"][:, 0] == 0).all() and
          (other.obsm["neighbors"] == rows[:, None]).any(axis=1).mean() > 0.99, "index: a cell does not find itself")


def refused(code, text, *words):
    done = subprocess.run([mpiexec, "-n", "2", cellferry, "neighbors", *words, "-o", "none.h5ad"], capture_output=True,
                          text=True)
    check(done.returncode == code and text in done.stderr,
          f"neighbors {' '.join(words)}: ended with {done.returncode}, not {code}: {done.stderr[:300]}")
    check(not os.path.exists("none.h5ad") and not os.path.exists("none.h5ad.partial"), f"{words}: a file is left")


def mistakes(path, rep):
    refused(3, "the query has 50 columns (X_pca of", path, path, "--rep", rep, "--reference-dims", "20")
    refused(3, "the query has 20 columns", path, "--index", "cells.index.h5", "--dims", "20", "--rep", rep)
    refused(2, "--metric euclidean", path, "--index", "cells.index.h5", "--metric", "cosine")
    refused(2, "takes the place of", path, path, "--index", "cells.index.h5")
    refused(2, "--exact and --recall", path, "--exact", "--recall", "0.9")
    refused(2, "at most 89", path, "-k", "90")
    refused(2, "--reach is 1.5", path, "--reach", "1.5")
    refused(2, "euclidean|cosine", path, "--metric", "manhattan")
    refused(3, "no obsp/nothing", path, "--from-distances", "nothing")
    refused(2, "takes all cells as they are", path, "--from-distances", "distances", "--where", "phase=G1")
    refused(5, "raise --memory", path, "--memory", "20M")


def from_distances(path, rep, k):
    """What scanpy found, taken over: the same neighbours, the same connectivities."""
    cells = anndata.read_h5ad(path)
    sc.pp.neighbors(cells, n_neighbors=k + 1, use_rep=rep, method="umap")
    cells.write_h5ad("scanpy.h5ad")
    ferry(2, "neighbors", "scanpy.h5ad", "--from-distances", "distances", "-o", "taken.h5ad")
    taken = anndata.read_h5ad("taken.h5ad")
    apart = abs(taken.obsp["distances"] - cells.obsp["distances"]).max()
    check(apart < 1e-5 * cells.obsp["distances"].max(), f"--from-distances: distances differ by {apart}")
    apart = abs(taken.obsp["connectivities"] - cells.obsp["connectivities"]).max()
    check(apart < 1e-5, f"--from-distances: connectivities differ by {apart}")


def main(folder):
    os.chdir(folder)
    one_set(cells_path, "X_pca", 15, "euclidean", "--exact")
    one_set(cells_path, "X_pca", 15, "cosine", "--exact")
    one_set(cells_path, "X_pca", 15, "euclidean")
    two_sets(cells_path, "X_pca", 10)
    from_distances(cells_path, "X_pca", 15)
    by_index(cells_path, "X_pca", 10)
    mistakes(cells_path, "X_pca")
    other = os.path.join(real, REAL)
    if os.path.exists(other):
        one_set(other, "X_pca", 15, "euclidean", "--exact")
    else:
        print(f"the second data set is skipped: no {other}")


REAL = "pbmc_3500_pcs.h5ad"
with tempfile.TemporaryDirectory() as scratch:
    cells_path, real = os.path.abspath(cells_path), os.path.abspath(real)
    cellferry = os.path.abspath(cellferry)
    main(scratch)
print("check_neighbors: good" if not failures else f"check_neighbors: {failures} failures")
sys.exit(1 if failures else 0)
