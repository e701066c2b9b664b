#!/usr/bin/env python3
"""The Waddington-OT couplings stored in moscot's test data, reproduced.

  check_waddington.py CELLFERRY MPIRUN DATA_FOLDER

The stored couplings (uns/tmap_*) come from uniform weights, squared Euclidean cost divided by its mean, epsilon .5,
lambda1 1 and lambda2 10 (tau_a = 1 / 1.5, tau_b = 10 / 10.5), on 50 principal components of the two days' cells together.
They carry the early stop of their solver; 1e-6 absolute is asked for.  Exit code 77: skipped."""
import os
import subprocess
import sys
import tempfile

try:
    import anndata
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed")
    sys.exit(77)

program, mpirun, folder = sys.argv[1:4]
path = os.path.join(folder, "moscot_temporal_tests.h5ad")
if not os.path.exists(path):
    print(f"skipped: no {path}")
    sys.exit(77)

data = anndata.read_h5ad(path)
day = data.obs["day"].astype(float).to_numpy()
worst = 0.0
with tempfile.TemporaryDirectory() as work:
    for name, early, late in (("tmap_10_105", 10.0, 10.5), ("tmap_105_11", 10.5, 11.0), ("tmap_10_11", 10.0, 11.0)):
        stored = np.asarray(data.uns[name], float)
        both = data[(day == early) | (day == late)].copy()
        x = both.X.toarray() if hasattr(both.X, "toarray") else np.asarray(both.X)
        x = x.astype(float) - x.astype(float).mean(0)
        u, s, _ = np.linalg.svd(x, full_matrices=False)
        small = anndata.AnnData(obs=both.obs[["day"]].copy())
        small.obsm["X_pca"] = u[:, :50] * s[:50]
        file = os.path.join(work, f"{name}.h5ad")
        small.write_h5ad(file)
        plan, coupling = os.path.join(work, f"{name}.plan.h5"), os.path.join(work, f"{name}.coupling.h5ad")
        for ranks in (1, 2):
            start = [mpirun, "-n", str(ranks), program]
            subprocess.run(start + ["transport", file, "-o", plan, "--overwrite", "--rep", "X_pca",
                                    "--source-where", f"day={early}", "--target-where", f"day={late}",
                                    "--scale-cost", "mean", "--epsilon", ".5", "--tau-a", str(1 / 1.5),
                                    "--tau-b", str(10 / 10.5), "--threshold", "1e-9", "--precision", "double", "-q"],
                           check=True, stdout=subprocess.DEVNULL)
            subprocess.run(start + ["sparsify", plan, "-o", coupling, "--overwrite", "--mode", "mass", "--value", "1",
                                    "-q"], check=True, stdout=subprocess.DEVNULL)
            ours = anndata.read_h5ad(coupling)
            assert list(ours.obs_names) == list(both.obs_names[both.obs["day"].astype(float) == early])
            difference = np.abs(ours.X.toarray() - stored).max()
            print(f"{name}: {stored.shape[0]} x {stored.shape[1]}, {ranks} ranks, mass {stored.sum():.6f}, "
                  f"largest difference {difference:.2e}")
            worst = max(worst, difference)
sys.exit(0 if worst < 1e-6 else 1)
