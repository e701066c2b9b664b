#!/usr/bin/env python3
"""`cellferry map` against the reference program's stored answers, on real cells, and as users open what it writes.

check_map.py CELLFERRY MPIEXEC TESTS PBMC68K.h5ad [REAL]: oracles from TESTS/oracle at one and two ranks; the real sets
only where the folder REAL has them. Exit code 77: no anndata here."""
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
    import scipy.sparse as sp
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

cellferry, mpiexec = sys.argv[1:3]
tests, cells_path = (os.path.abspath(path) for path in sys.argv[3:5])
real = os.path.abspath(sys.argv[5]) if len(sys.argv) > 5 else ""
failures = 0


def check(condition, what):
    global failures
    if not condition:
        failures += 1
        print(f"check_map: {what}", file=sys.stderr)


def close(a, b, tolerance, what):
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        check(False, f"{what}: shape {a.shape}, not {b.shape}")
        return
    check(np.array_equal(np.isnan(a), np.isnan(b)), f"{what}: NaN elsewhere")
    worst = np.nanmax(np.abs(a - b) / np.maximum(np.abs(b), 1), initial=0)
    check(worst <= tolerance, f"{what}: difference {worst:.3g} is above {tolerance:g}")


def run(ranks, *words):
    return subprocess.run([mpiexec, "-n", str(ranks), cellferry, *words], capture_output=True, text=True)


def ferry(ranks, *words):
    done = run(ranks, *words, "--overwrite", "--json")
    if done.returncode != 0:
        sys.exit(f"cellferry {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def refused(words, code, text):
    done = run(1, "map", *words)
    check(done.returncode == code and text in done.stderr,
          f"map {' '.join(words)}: {done.returncode}, '{done.stderr.strip()}', not {code} with '{text}'")


def opened(path):
    """Whole, by rows from disk, and through anndata's own writing."""
    whole = anndata.read_h5ad(path)
    backed = anndata.read_h5ad(path, backed="r")
    check(backed.shape == whole.shape, f"{path}: read by rows it has shape {backed.shape}")
    backed.file.close()
    whole.copy().write_h5ad("copy.h5ad")
    check(anndata.read_h5ad("copy.h5ad").shape == whole.shape, f"{path}: does not survive anndata's own writing")
    return whole


def text(values):
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values])


# ---- the reference program ----

def labels_agree(mapped, oracle, tag, what):
    check(list(mapped.obs.cell_type_pred.cat.categories) == ["T cell", "B cell", "NK", "Mono", "DC"],
          f"{what}: the categories are not the reference's, in its order")
    check(np.array_equal(mapped.obs.cell_type_pred.astype(str), text(oracle[f"{tag}_pred"][:])),
          f"{what}: other predictions")
    close(mapped.obs.cell_type_conf, oracle[f"{tag}_conf"][:], 1e-6, f"{what}: confidence")
    check(mapped.obs.cell_type_conf.dtype == np.float32, f"{what}: confidences are {mapped.obs.cell_type_conf.dtype}")
    if "cell_type_prob" in mapped.obsm:
        prob, names = mapped.obsm["cell_type_prob"], list(mapped.uns["cell_type_prob_names"])
        check(sp.issparse(prob), f"{what}: probabilities are not sparse")
        order = [names.index(name) for name in text(oracle[f"{tag}_prob_cols"][:])]
        close(prob.toarray()[:, order], oracle[f"{tag}_prob"][:], 1e-6, f"{what}: probabilities")
    if "score_pred" in mapped.obs:
        close(mapped.obs.score_pred, oracle[f"{tag}_score"][:], 2e-6, f"{what}: numbers")


def csr(group, name, columns):
    indptr = group[f"{name}_indptr"][:]
    return sp.csr_matrix((group[f"{name}_data"][:], group[f"{name}_indices"][:], indptr), (len(indptr) - 1, columns))


def two_sets(oracle, folder, ranks):
    query, reference = f"{folder}/neighbors_cross_query.h5ad", f"{folder}/neighbors_cross_ref.h5ad"
    sides = [query, reference, "--rep", "X_emb", "-k", "15", "--exact"]
    for kernel in ("gauss", "scarches", "inverse_distance", "equal", "jaccard", "hnoca"):
        ferry(ranks, "map", *sides, "-o", "m.h5ad", "--obs", "cell_type,score", "--kernel", kernel, "--probabilities")
        labels_agree(opened("m.h5ad"), oracle["cross"], kernel, f"{kernel} at {ranks}")
    ferry(ranks, "map", *sides, "-o", "m.h5ad", "--obs", "cell_type", "--probabilities",
          *[word for name in ("B cell", "T cell", "DC") for word in ("--subset", name)])
    labels_agree(opened("m.h5ad"), oracle["cross"], "subset", f"subset at {ranks}")
    for method in ("pearson", "spearman", "js", "rmse"):
        record = ferry(ranks, "map", *sides, "-o", "m.h5ad", "--obsm", "X_umap", "--layer", "counts",
                       "--evaluate-layer", "counts", "--evaluate-method", method)
        mapped = opened("m.h5ad")
        close(mapped.var[f"metric_{method}"], oracle[f"cross/expr_metric_{method}"][:], 2e-6, f"{method} at {ranks}")
        close(record["figures"]["expression"]["mean"], oracle.attrs[f"cases.cross_expr_{method}"], 2e-6, method)
    close(mapped.obsm["X_umap_pred"], oracle["cross/obsm_X_umap_pred"][:], 2e-6, f"embedding at {ranks}")
    check(mapped.obsm["X_umap_pred"].dtype == np.float32, "an embedding of float32 is mapped to another type")
    close(mapped.X.toarray(), csr(oracle["cross"], "layer_counts_pred", 40).toarray(), 2e-6, f"layer at {ranks}")
    check(list(mapped.var_names) == [f"g{i}" for i in range(40)], "var is not the reference's genes")
    ferry(ranks, "map", *sides, "-o", "m.h5ad", "--layer", "counts", "--target-libsize", "counts")
    sized = opened("m.h5ad")
    close(sized.X.toarray(), csr(oracle["cross"], "layer_counts_libsize_pred", 40).toarray(), 2e-6, "library sizes")
    with open("genes.txt", "w") as names:
        names.write("g7\ng3\r\nnone\n\ng39\n")
    ferry(ranks, "map", *sides, "-o", "g.h5ad", "--layer", "X", "--genes", "genes.txt")
    some = opened("g.h5ad")
    check(list(some.var_names) == ["g3", "g7", "g39"], f"--genes gives {list(some.var_names)}")
    close(some.X.toarray(), mapped.X.toarray()[:, [3, 7, 39]], 0, "--genes changes values")
    presence(oracle, sides, ranks)


def presence(oracle, sides, ranks):
    for case in range(5):
        setting = {k: oracle.attrs[f"cases.presence{case}.{k}"] for k in ("log", "minmax", "percentile")}
        low, high = setting["percentile"]
        words = ["--presence", "batch", "--presence-percentile", f"{low},{high}"]
        words += ["--presence-log"] * bool(setting["log"]) + ["--presence-minmax"] * bool(setting["minmax"])
        ferry(ranks, "map", *sides, "-o", "p.h5ad", *words)
        scores = opened("p.presence.h5ad")
        close(scores.obs.presence_score, oracle[f"cross/presence{case}_all"][:], 1e-6, f"presence {case}")
        columns = list(text(oracle[f"cross/presence{case}_cols"][:]))
        close(scores.obsm["presence_score"][columns], oracle[f"cross/presence{case}_groups"][:], 1e-6,
              f"presence of groups {case}")
        check(list(scores.obs_names) == [f"r{i}" for i in range(300)], "presence is not of the reference's cells")


def missing_labels(oracle, folder, ranks):
    reference = anndata.read_h5ad(f"{folder}/neighbors_cross_ref.h5ad")
    label = reference.obs.cell_type.copy()
    label.iloc[:60] = np.nan
    reference.obs["cell_type"] = label
    reference.write_h5ad("missing.h5ad")
    sides = [f"{folder}/neighbors_cross_query.h5ad", "missing.h5ad", "--rep", "X_emb", "-k", "15", "--exact",
             "--kernel", "equal", "--obs", "cell_type", "--probabilities"]
    ferry(ranks, "map", *sides, "-o", "m.h5ad")
    mapped = opened("m.h5ad")
    labels_agree(mapped, oracle["edge"], "nan", f"missing labels at {ranks}")
    ferry(ranks, "map", *sides, "-o", "d.h5ad", "--drop-missing")
    dropped = opened("d.h5ad")
    check(dropped.obsm["cell_type_prob"].shape[1] == 5, "--drop-missing: the missing class is still there")
    close(dropped.obsm["cell_type_prob"].toarray(), mapped.obsm["cell_type_prob"].toarray()[:, :5], 0, "--drop-missing")


def one_set(oracle, folder, ranks):
    cells = [f"{folder}/neighbors_self.h5ad", "--rep", "X_emb", "-k", "14", "--exact"]
    ferry(ranks, "map", *cells, "-o", "m.h5ad", "--obs", "cell_type,score", "--probabilities")
    labels_agree(opened("m.h5ad"), oracle["self"], "umap_sym1_self1", f"defaults of one set at {ranks}")
    for kernel in ("gauss", "scarches", "inverse_distance", "equal", "jaccard"):
        for symmetric in (0, 1):
            ferry(ranks, "map", *cells, "-o", "m.h5ad", "--obs", "cell_type,score", "--kernel", kernel,
                  "--symmetrize", ("none", "max")[symmetric])
            labels_agree(opened("m.h5ad"), oracle["self"], f"{kernel}_sym{symmetric}_self1", f"self {kernel}")
    ferry(ranks, "map", *cells, "-o", "m.h5ad", "--obs", "cell_type", "--steps", "3", "--presence")
    mapped = opened("m.h5ad")
    labels_agree(mapped, oracle["diffusion"], "umap_t3", f"three steps at {ranks}")
    check("presence_score" in mapped.obs, "presence of one set is not in the result")
    for kernel in ("umap", "gauss"):
        for steps in ("1", "3", "10"):
            for words in ([], ["--diffusion", "spectral", "--eigenvectors", "250"]):
                if steps == "1" and not words:
                    continue  # one step needs no diffusion
                ferry(ranks, "map", *cells, "-o", "m.h5ad", "--obsm", "X_emb", "--kernel", kernel, "--steps", steps,
                      *words)
                # float32 in the file
                close(opened("m.h5ad").obsm["X_emb_pred"], oracle[f"diffusion/{kernel}_iter_t{steps}"][:],
                      1e-5 if words else 1e-6, f"{kernel} {steps} {' '.join(words)}")


# ---- real cells, and what the files are ----

def same_bits(folder, sides, name):
    """The datasets that a run writes do not depend on the ranks."""
    results = []
    for ranks in (1, 3):
        ferry(ranks, "map", *sides, "-o", name)
        found = {}
        with h5py.File(name, "r") as result:
            result.visititems(lambda path, item: found.__setitem__(path, item[()])
                              if isinstance(item, h5py.Dataset) and "cellferry" not in path else None)
        results.append(found)
    check(results[0].keys() == results[1].keys(), f"{name}: other datasets at 3 ranks")
    for path, value in results[0].items():
        check(np.array_equal(np.asarray(value), np.asarray(results[1][path])), f"{name}: {path} differs at 3 ranks")


def pbmc68k(folder):
    cells = anndata.read_h5ad(cells_path)
    cells.obs["n_genes_float"] = cells.obs.n_genes.astype(float)
    query, reference = cells[::4].copy(), cells[np.arange(cells.n_obs) % 4 != 0].copy()
    query.uns.pop("bulk_labels_colors", None)
    before = query.obs.columns.tolist()
    query.write_h5ad("query.h5ad")
    reference.write_h5ad("reference.h5ad")
    with open("query.h5ad", "rb") as file:
        bytes_before = file.read()
    sides = ["query.h5ad", "reference.h5ad", "--exact", "--obs", "bulk_labels", "--obs", "n_genes_float"]
    record = ferry(2, "map", *sides, "-o", "m.h5ad", "--evaluate", "bulk_labels", "--unknown-quantile", "0.95",
                   "--confidence-cutoff", "0.5")
    mapped = opened("m.h5ad")
    truth = query.obs.bulk_labels.astype(str).values
    kept = mapped.obs.bulk_labels_conf.values >= 0.5
    right = (mapped.obs.bulk_labels_pred.astype(str).values == truth)[kept].mean()
    figures = record["figures"]["evaluation"]
    close(figures["accuracy"], right, 1e-12, "accuracy")
    check(right > 0.75, f"accuracy {right} on pbmc68k")
    close(figures["excluded_fraction"], 1 - kept.mean(), 1e-12, "excluded")
    table = pd.read_csv("m.bulk_labels.confusion.csv", index_col=0)
    check(table.loc[:, table.index].to_numpy().sum() == kept.sum(), "the confusion matrix is not of all kept cells")
    check(np.array_equal(table.loc[:, table.index].to_numpy(), mapped.uns["bulk_labels_evaluation"]["confusion"]),
          "the confusion matrices differ")
    close(sum(record["figures"]["bulk_labels"]["shares"].values()), 1, 1e-12, "shares")
    check(mapped.uns["bulk_labels_pred_colors"].tolist() == reference.uns["bulk_labels_colors"].tolist(),
          "colours are not the reference's")
    share = mapped.obs.bulk_labels_unknown.mean()
    check(mapped.obs.bulk_labels_unknown.dtype == bool and 0 < share < 0.25, f"unknown: {share}")
    check(record["figures"]["unknown"] == mapped.obs.bulk_labels_unknown.sum(), "unknown: another number in the record")
    same_bits(folder, [*sides, "--probabilities", "--layer", "X", "--obsm", "X_umap", "--kernel", "jaccard",
                       "--unknown-quantile", "0.9"], "bits.h5ad")
    into(sides, before, bytes_before, mapped)
    given_neighbors(sides, mapped)


def into(sides, before, bytes_before, mapped):
    ferry(2, "map", *sides, "-o", "into.h5ad", "--into", "--probabilities", "--obsm", "X_umap")
    copy, query = opened("into.h5ad"), anndata.read_h5ad("query.h5ad")
    new = ["bulk_labels_pred", "bulk_labels_conf", "n_genes_float_pred"]
    check(copy.obs.columns.tolist() == before + new, f"--into: obs has {copy.obs.columns.tolist()}")
    check((copy.X != query.X).sum() == 0 and list(copy.obsm) != list(query.obsm), "--into: X changed, or obsm has not")
    check((copy.obs.bulk_labels_pred == mapped.obs.bulk_labels_pred).all(), "--into: other predictions")
    check(len(copy.uns["bulk_labels_pred_colors"]) == copy.obs.bulk_labels_pred.cat.categories.size, "--into: colours")
    check(copy.obs.bulk_labels.equals(query.obs.bulk_labels), "--into: an old column changed")
    with open("query.h5ad", "rb") as file:
        check(file.read() == bytes_before, "--into touched the original")
    ferry(2, "map", "into.h5ad", *sides[1:], "-o", "again.h5ad", "--into", "-k", "5")
    again = opened("again.h5ad")
    check(again.obs.columns.tolist() == before + new, f"--into again: obs has {again.obs.columns.tolist()}")
    check((again.obs.bulk_labels_conf != copy.obs.bulk_labels_conf).any(), "--into again: nothing was replaced")


def given_neighbors(sides, mapped):
    ferry(1, "neighbors", *sides[:3], "-o", "graph.h5ad")
    ferry(2, "map", *sides[:2], *sides[3:], "-o", "given.h5ad", "--neighbors", "graph.h5ad")
    given = opened("given.h5ad")
    check((given.obs.bulk_labels_pred == mapped.obs.bulk_labels_pred).all(), "--neighbors: other predictions")
    close(given.obs.bulk_labels_conf, mapped.obs.bulk_labels_conf, 0, "--neighbors: confidence")
    refused(["reference.h5ad", "query.h5ad", "-o", "x.h5ad", "--obs", "bulk_labels", "--neighbors", "graph.h5ad"], 3,
            "make it again")


def stored_index(folder):
    ferry(1, "index", "reference.h5ad", "-o", "index.h5")
    sides = ["--exact", "--obs", "bulk_labels"]
    ferry(2, "map", "query.h5ad", "reference.h5ad", *sides, "-o", "searched.h5ad")
    ferry(2, "map", "query.h5ad", "reference.h5ad", *sides, "-o", "indexed.h5ad", "--index", "index.h5")
    ferry(1, "map", "query.h5ad", *sides, "-o", "alone.h5ad", "--index", "index.h5")
    searched = anndata.read_h5ad("searched.h5ad").obs
    for name in ("indexed.h5ad", "alone.h5ad"):
        close(anndata.read_h5ad(name).obs.bulk_labels_conf, searched.bulk_labels_conf, 0, name)


def joint(folder):
    """The query has no embedding that fits; most labels agree with those through the shared one."""
    searched = anndata.read_h5ad("searched.h5ad").obs.bulk_labels_pred
    for method in ("pca", "cca"):
        record = ferry(2, "map", "query.h5ad", "reference.h5ad", "--exact", "--obs", "bulk_labels", "-o", "joint.h5ad",
                       "--joint", method, "--components", "20")
        check(record["figures"]["joint_components"] == 20 and record["figures"]["joint_genes"] == 765, method)
        same = (opened("joint.h5ad").obs.bulk_labels_pred == searched).mean()
        check(same > 0.7, f"--joint {method}: only {same:.2f} of the labels are those of the shared embedding")


def manners(folder):
    query, reference = f"{folder}/neighbors_cross_query.h5ad", f"{folder}/neighbors_cross_ref.h5ad"
    sides = [query, reference, "--rep", "X_emb", "-o", "x.h5ad"]
    refused(sides, 2, "nothing to map")
    refused([*sides, "--obs", "cell_type", "--kernel", "umap"], 2, "one set")
    refused([*sides, "--obs", "cell_type", "--steps", "3"], 2, "one file")
    refused([*sides, "--obs", "cell_type", "--symmetrize", "max"], 2, "one set")
    refused([*sides, "--obs", "cell_type", "--kernel", "gauss2"], 2, "gauss|umap")
    refused([*sides, "--obs", "score", "--probabilities"], 2, "only numbers")
    refused([*sides, "--obs", "cell_types"], 3, "cell_type")
    refused([*sides, "--obs", "cell_type", "--subset", "B cel"], 3, "did you mean 'B cell'")
    refused([*sides, "--obs", "cell_type", "--evaluate", "truth"], 3, "no obs/truth")
    refused([*sides, "--obs", "cell_type", "--genes", "genes.txt"], 2, "--layer")
    refused([*sides, "--obs", "cell_type", "--presence-log"], 2, "--presence")
    refused([*sides, "--obs", "cell_type", "--layer", "counts", "--into"], 2, "without --into")
    refused([*sides, "--presence", "nothing"], 3, "no obs/nothing")
    refused([*sides[:2], "--query-rep", "X_emb", "--reference-rep", "X_umap", "-o", "x.h5ad", "--obs", "cell_type"], 3,
            "--joint")
    refused([cells_path, "-o", "x.h5ad", "--obs", "bulk_labels", "--into"], 3, "without --into")
    refused([*sides, "--presence", "--presence-percentile", "99,1"], 2, "LOW,HIGH")
    refused([query, "missing_file.h5ad", "-o", "x.h5ad", "--obs", "cell_type"], 3, "missing_file")
    refused([*sides, "--obs", "cell_type", "--memory", "1M"], 5, "--memory")
    check(not os.path.exists("x.h5ad") and not os.path.exists("x.h5ad.partial"), "a refused run left a file")
    plan = run(2, "map", *sides, "--obs", "cell_type", "--layer", "counts", "--presence", "--plan")
    for word in ("search", "weights", "labels", "layer", "presence"):
        check(plan.returncode == 0 and word in plan.stdout, f"--plan does not speak of {word}: {plan.stderr}")


# ---- baselines on real sets (15 neighbours, equal votes, exact) ----

def baseline(name, query, reference, label, wanted):
    query.write_h5ad("bq.h5ad")
    reference.write_h5ad("br.h5ad")
    for ranks in (1, 2):
        record = ferry(ranks, "map", "bq.h5ad", "br.h5ad", "-o", "b.h5ad", "--rep", "X_base", "-k", "15", "--exact",
                       "--kernel", "equal", "--obs", label, "--evaluate", label)
        found = record["figures"]["evaluation"]["accuracy"]
        check(abs(found - wanted) <= 0.003, f"{name} at {ranks}: accuracy {found:.4f}, not {wanted}")
    print(f"{name}: accuracy {found:.4f} (baseline {wanted})")


def plain(cells, label, points):
    obs = pd.DataFrame({label: pd.Categorical(cells.obs[label].astype(str))}, index=cells.obs_names.astype(str))
    return anndata.AnnData(obs=obs, obsm={"X_base": np.ascontiguousarray(points, dtype=np.float32)})


def baselines():
    cells = anndata.read_h5ad(f"{real}/pbmc_facs_zheng_pca50.h5ad")
    cells = plain(cells, "celltype", cells.obsm["X_pca"])
    fold = np.arange(cells.n_obs) % 5 == 0
    baseline("pbmc_facs_zheng_pca50", cells[fold].copy(), cells[~fold].copy(), "celltype", 0.878)
    cells = anndata.read_h5ad(f"{real}/tabula_muris_droplet_tsne.h5ad")
    named = cells.obs.cell_ontology_class.notna().values
    fold = np.arange(cells.n_obs) % 10 == 0
    cells = plain(cells, "cell_ontology_class", cells.obsm["X_tsne"])
    baseline("tabula_muris_droplet_tsne", cells[fold & named].copy(), cells[~fold & named].copy(),
             "cell_ontology_class", 0.952)
    cells = anndata.read_h5ad(f"{real}/pbmc_3tech_symphony.h5ad")
    values, old = cells.X.toarray(), (cells.obs.donor != "5p").values
    centre = values[old].mean(axis=0)
    axes = np.linalg.svd(values[old] - centre, full_matrices=False)[2][:30]
    cells = plain(cells, "cell_type", (values - centre) @ axes.T)
    baseline("pbmc_3tech_symphony", cells[~old].copy(), cells[old].copy(), "cell_type", 0.956)


def main(folder):
    os.chdir(folder)
    oracles = f"{tests}/oracle"
    with h5py.File(f"{oracles}/neighbors.h5", "r") as oracle:
        two_sets(oracle, oracles, 2)
        missing_labels(oracle, oracles, 1)
        one_set(oracle, oracles, 2)
    manners(oracles)
    pbmc68k(folder)
    stored_index(folder)
    joint(folder)
    if real and os.path.exists(f"{real}/tabula_muris_droplet_tsne.h5ad"):
        baselines()
    else:
        print("baselines skipped: no folder of real sets")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        main(work)
        os.chdir("/")
    print(f"{failures} failures")
    sys.exit(1 if failures else 0)
