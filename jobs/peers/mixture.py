#!/usr/bin/env python3
"""Writes made-up cells that are as hard to search as real ones: mixture.py FILE.h5ad CELLS [--seed S] [--noise 1.0]

200 cell types in 20 lineages (Pareto sizes), each a mildly curved patch of 5 to 10 dimensions in 50, with a spectrum that
falls off as that of principal components does, plus noise of the same spectrum. The types do not depend on the seed, so
files of different seeds are samples of one population: a reference, its queries, or the parts of a larger set. Written in
blocks: any number of cells in little memory. obsm/X_pca float32, obs/cell_type. Needs numpy and h5py."""
import argparse

import h5py
import numpy as np

DIMS, TYPES, LINEAGES, BLOCK = 50, 200, 20, 65536


def model(seed=12345):
    """Centre, tangent and curvature of every type, and the share of cells in it."""
    random = np.random.default_rng(seed)
    spectrum = 1 / np.sqrt(1 + np.arange(DIMS) / 3)
    lineage = random.normal(size=(LINEAGES, DIMS)) * spectrum * 6
    centre = np.repeat(lineage, TYPES // LINEAGES, 0) + random.normal(size=(TYPES, DIMS)) * spectrum * 2.5
    dims = random.integers(5, 11, TYPES)
    tangent, curve = [], []
    for t in range(TYPES):
        basis = np.linalg.qr(random.normal(size=(DIMS, int(dims[t]))) * spectrum[:, None])[0]
        scale = random.uniform(0.4, 1.6, int(dims[t]))
        tangent.append((basis * scale).T.astype(np.float32))
        curve.append((random.normal(size=(int(dims[t]), DIMS)) * spectrum * 0.15).astype(np.float32))
    share = random.pareto(1.2, TYPES) + 0.05
    return centre.astype(np.float32), tangent, curve, share / share.sum(), spectrum.astype(np.float32)


def cells(types, count, noise, random):
    centre, tangent, curve, share, spectrum = types
    label = random.choice(TYPES, count, p=share).astype(np.int32)
    points = centre[label]
    order = np.argsort(label, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        t = label[rows[0]]
        z = random.standard_normal((len(rows), len(tangent[t])), dtype=np.float32)
        points[rows] += z @ tangent[t] + (z * z - 1) @ curve[t]
    points += noise * random.standard_normal((count, DIMS), dtype=np.float32) * spectrum
    return points, label


def text(file, path, values):
    dataset = file.create_dataset(path, data=values, dtype=h5py.string_dtype())
    dataset.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("cells", type=lambda s: int(float(s)))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--noise", type=float, default=1.0)
    args = parser.parse_args()
    types = model()
    with h5py.File(args.file, "w", libver=("earliest", "v110")) as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for group in ("obs", "var", "obsm", "uns", "layers", "obsp", "varm", "varp"):
            kind = ("dataframe", "0.2.0") if group in ("obs", "var") else ("dict", "0.1.0")
            file.create_group(group).attrs.update({"encoding-type": kind[0], "encoding-version": kind[1]})
        file["obs"].attrs.update({"_index": "_index", "column-order": ["cell_type"]})
        file["var"].attrs.update({"_index": "_index", "column-order": np.array([], dtype=h5py.string_dtype())})
        text(file, "var/_index", np.array([], dtype=object))
        name = file.create_dataset("obs/_index", args.cells, dtype=h5py.string_dtype(), chunks=min(BLOCK, args.cells))
        name.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
        label = file.create_group("obs/cell_type")
        label.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
        text(file, "obs/cell_type/categories", [f"type {t:03d}" for t in range(TYPES)])
        codes = label.create_dataset("codes", args.cells, dtype=np.int16)
        points = file.create_dataset("obsm/X_pca", (args.cells, DIMS), dtype=np.float32)
        for array in (codes, points):
            array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for first in range(0, args.cells, BLOCK):
            count = min(BLOCK, args.cells - first)
            x, t = cells(types, count, args.noise, np.random.default_rng([args.seed, first // BLOCK]))
            points[first : first + count] = x
            codes[first : first + count] = t
            name[first : first + count] = [f"s{args.seed}c{i}" for i in range(first, first + count)]


if __name__ == "__main__":
    main()
