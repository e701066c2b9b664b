#!/usr/bin/env python3
"""Every output opens with anndata, scanpy and pandas, and says what the plan says.

check_outputs.py CELLFERRY MPIEXEC CELLS.h5ad: runs the commands on real cells at two ranks, opens what they wrote, and
compares it with the plan made whole from the stored potentials by numpy. Exit code 77: no anndata or scanpy here."""
import json
import os
import subprocess
import sys
import tempfile
import warnings

try:
    warnings.simplefilter("ignore")
    import anndata
    import h5py
    import numpy as np
    import pandas as pd
    import scanpy as sc
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

cellferry, mpiexec, cells_path = sys.argv[1:4]
failures = 0


def check(condition, what):
    global failures
    if not condition:
        failures += 1
        print(f"check_outputs: {what}", file=sys.stderr)


def close(a, b, tolerance, what):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        check(False, f"{what}: shape {a.shape}, not {b.shape}")
        return
    worst = np.abs(a - b).max() / max(np.abs(b).max(), 1e-300)
    check(worst <= tolerance, f"{what}: relative difference {worst:.3g} is above {tolerance:g}")


def ferry(*words):
    done = subprocess.run([mpiexec, "-n", "2", cellferry, *words, "--overwrite"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"cellferry {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def opened(path):
    """Read as users do: whole, by rows from disk, and with what scanpy does first."""
    whole = anndata.read_h5ad(path)
    backed = anndata.read_h5ad(path, backed="r")
    check(backed.shape == whole.shape, f"{path}: read by rows it has shape {backed.shape}")
    backed.file.close()
    check(sc.read_h5ad(path).shape == whole.shape, f"{path}: scanpy reads another shape")
    record = json.loads(whole.uns["cellferry"]["record"])
    check(record["ranks"] == 2 and record["stages"], f"{path}: its run record is incomplete")
    check(whole.obs_names.is_unique, f"{path}: obs names are not unique")
    copy = path + ".copy.h5ad"
    whole.write_h5ad(copy)
    check(anndata.read_h5ad(copy).shape == whole.shape, f"{path}: does not survive anndata's own writing")
    return whole


def main(folder):
    os.chdir(folder)
    cells = anndata.read_h5ad(cells_path)
    source, target = cells[cells.obs.phase == "G1"], cells[cells.obs.phase.isin(["S", "G2M"])]
    x, y = (side.obsm["X_pca"].astype(np.float64) for side in (source, target))
    record = json.loads(ferry("transport", cells_path, "--source-where", "phase=G1", "--target-where", "phase=S,G2M",
                              "--rep", "X_pca", "--tau-a", "0.95", "--tau-b", "0.95", "-o", "plan.h5", "--json"))
    with h5py.File("plan.h5", "r") as plan:
        f, g = plan["source/potential"][:], plan["target/potential"][:]
        epsilon, scale = plan.attrs["epsilon"], plan["cost"].attrs["inv_scale"]
        check(bool(plan.attrs["converged"]), "plan.h5: not converged")
        check(json.loads(plan["uns/cellferry/record"][()])["command"] == "transport", "plan.h5: its record is another's")
        check(len(plan["errors"]) > 0, "plan.h5: no error trace")
    check(record["figures"]["converged"] is True, "the record on stdout says that it did not converge")
    cost = scale * ((x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T)
    close(cost.mean(), 1, 1e-5, "mean of the scaled cost")
    p = np.exp((f[:, None] + g[None] - cost) / epsilon)
    close(p.sum(), record["figures"]["mass"], 1e-5, "mass of the plan")

    for mode in (["mass"], ["mass", "--max-k", "20"], ["threshold", "--value", "1e-6"], ["percentile", "--value", "90"],
                 ["min_row"]):
        what = "sparsify --mode " + " ".join(mode)
        ferry("sparsify", "plan.h5", "--mode", *mode, "-o", "coupling.h5ad", "-q")
        coupling = opened("coupling.h5ad")
        check(list(coupling.obs_names) == list(source.obs_names), f"{what}: obs names are not the source's")
        check(list(coupling.var_names) == list(target.obs_names), f"{what}: var names are not the target's")
        close(coupling.obs["mass"], p.sum(1), 1e-5, f"{what}: obs/mass")
        close(coupling.obs["kept_mass"], np.asarray(coupling.X.sum(1)).ravel(), 1e-5, f"{what}: obs/kept_mass")
        kept = coupling.X.toarray()
        close(kept, np.where(kept > 0, p, 0), 1e-5, f"{what}: entries")
        check(coupling.X.has_sorted_indices, f"{what}: columns are not ascending")

    ferry("sparsify", "plan.h5", "--mode", "mass", "--value", "1", "-o", "all.h5ad", "-q")
    full = opened("all.h5ad").X.astype(np.float64)
    labels = pd.get_dummies(source.obs.bulk_labels)
    for values, columns in (("ones", np.ones((len(x), 1))), ("obs:bulk_labels", labels.values), ("obs:n_counts", source.obs[["n_counts"]].values),
                            ("obsm:X_pca", x), ("X", np.asarray(source.X))):
        ferry("push", "plan.h5", "--values", values, "-o", "push.h5ad", "-q")
        pushed = opened("push.h5ad")
        check(list(pushed.obs_names) == list(target.obs_names), f"push {values}: obs names are not the target's")
        close(pushed.X, full.T @ columns, 2e-6, f"push {values} against the coupling")
    check(list(pushed.var_names) == list(cells.var_names), "push X: var names are not the genes")
    ferry("pull", "plan.h5", "--values", "obsm:X_pca", "--scale-by-marginals", "--normalize", "-o", "pull.h5ad", "-q")
    pulled = opened("pull.h5ad")
    check(list(pulled.obs_names) == list(source.obs_names), "pull: obs names are not the source's")

    table_of = pd.DataFrame(p, index=source.obs.bulk_labels.astype(str), columns=target.obs.bulk_labels.astype(str))
    sums = table_of.groupby(level=0).sum().T.groupby(level=0).sum().T
    for direction in ("forward", "backward"):
        ferry("transition", "plan.h5", "--source-key", "bulk_labels", "--target-key", "bulk_labels", "--direction",
              direction, "-o", "table.csv", "-q")
        table = pd.read_csv("table.csv", index_col=0)
        check(list(table.index) == list(cells.obs.bulk_labels.cat.categories), f"transition {direction}: order of groups")
        expected = sums.loc[table.index, table.columns]
        expected = expected.div(expected.sum(1), axis=0) if direction == "forward" else expected / expected.sum(0)
        close(table.values, expected.values, 1e-5, f"transition {direction}")
    ferry("transition", "plan.h5", "--target-key", "bulk_labels", "--aggregation", "cell", "-o", "fates.h5ad", "-q")
    fates = opened("fates.h5ad")
    check(list(fates.obs_names) == list(source.obs_names), "transition cell: obs names are not the source's")
    close(fates.X.sum(1), np.ones(len(x)), 1e-5, "transition cell: rows sum to 1")

    # The coupling is an AnnData like any other: scanpy works on it.
    coupling = anndata.read_h5ad("all.h5ad")
    sc.pp.calculate_qc_metrics(coupling, percent_top=None, inplace=True)
    coupling.obs = coupling.obs.join(source.obs[["bulk_labels"]])
    check(coupling.obs.bulk_labels.notna().all(), "the coupling's cells do not join the source's annotations")


with tempfile.TemporaryDirectory() as temporary:
    main(temporary)
print(f"anndata {anndata.__version__}, scanpy {sc.__version__}: " + (f"{failures} checks failed" if failures else "all outputs open and agree"))
sys.exit(1 if failures else 0)
