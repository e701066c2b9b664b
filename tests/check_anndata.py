"""Opens the file that `test_write FILE` leaves with anndata, scanpy and h5py and compares it with what was written.

check_anndata.py FILE MPIEXEC ARGUMENT... TEST_WRITE: makes FILE, then checks it. Ends with 77 (skipped) without anndata.
"""
import subprocess
import sys

CELLS, GENES = 1003, 37


def cell_name(i):
    kind = ("cell", "Zähler", "細胞", "c")[i % 4]
    return f"{kind}-{i}" + ("-a-rather-longer-name-than-others" if i == 77 else "")


def matrix(np):
    x = np.zeros((CELLS, GENES), np.float32)
    for i in range(CELLS):
        n = GENES if i % 35 == 34 else i % 6
        start = i * 1234567891 % (GENES - n + 1)
        for j in range(start, start + n):
            x[i, j] = i % 1000 + (j % 64) / 64
    return x


def check(path):
    import anndata
    import h5py
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp

    a = anndata.read_h5ad(path)
    i = np.arange(CELLS)
    assert a.shape == (CELLS, GENES)
    assert list(a.obs_names) == [cell_name(k) for k in i]
    assert list(a.var_names) == [f"gene{k}" for k in range(GENES)]
    for x in (a.X, a.layers["same"]):
        assert sp.issparse(x) and x.format == "csr" and x.dtype == np.float32
        x.check_format(full_check=True)
        x.has_sorted_indices = False
        x.sort_indices()  # in place: fails where indices and indptr differ in width
        assert x.has_sorted_indices and (x.toarray() == matrix(np)).all()
    obs = a.obs
    assert list(obs.columns) == ["mass", "number", "CD4+_CD8-", "type", "empty"]
    assert (obs["mass"] == 1.0 / (i + 1)).all() and (obs["number"] == i * 2**33).all()
    assert obs["CD4+_CD8-"].dtype == bool and (obs["CD4+_CD8-"] == (i % 3 == 0)).all()
    kinds = ["T cell", "", "β cell"]
    assert isinstance(obs["type"].dtype, pd.CategoricalDtype) and obs["type"].cat.ordered
    assert list(obs["type"].cat.categories) == kinds and (obs["type"].cat.codes == i % 4 - 1).all()
    assert obs["empty"].isna().all()
    pca = (np.arange(CELLS * 3, dtype=np.float32) / 8).reshape(CELLS, 3)
    for key in ("X_pca", "parts", "blocks"):
        assert (a.obsm[key] == pca).all() and a.obsm[key].dtype == np.float32
    uns = a.uns
    assert uns["cellferry"]["epsilon"] == 0.05 and uns["cellferry"]["iterations"] == 2**40
    assert uns["cellferry"]["record"] == '{"name": "Größe"}' and uns["deep"]["er"]["nothing"] == ""
    assert list(uns["texts"]) == ["wörter"] and len(uns["no_texts"]) == 0
    with h5py.File(path) as f:
        assert "cellferry_partial" not in f.attrs and f["X/indptr"].dtype == np.int64
        assert f["X/indices"].dtype == np.int64 and f["X/data"].compression == "gzip" and f["X/data"].shuffle
        assert f["uns/cellferry"].attrs["pi"] == 3.25 and f["uns/cellferry"].attrs["note"] == "a note"
    backed = anndata.read_h5ad(path, backed="r")
    assert (np.asarray(backed[34:36].X.toarray()) == matrix(np)[34:36]).all()
    backed.file.close()
    return a


def check_scanpy(path, a):
    try:
        import scanpy
    except ImportError:
        print("scanpy is not installed: anndata alone was checked")
        return
    b = scanpy.read_h5ad(path)
    assert (b.X != a.X).nnz == 0
    scanpy.pp.normalize_total(b)  # works on it as on any other
    b.write_h5ad(path + ".again")


def main():
    try:
        import anndata  # noqa: F401
    except ImportError:
        print("skipped: anndata is not installed")
        return 77
    path = sys.argv[1]
    subprocess.run(sys.argv[2:] + [path], check=True)
    check_scanpy(path, check(path))
    print("anndata reads what was written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
