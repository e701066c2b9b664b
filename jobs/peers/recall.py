#!/usr/bin/env python3
"""The share of the neighbours of one result that another has: recall.py FOUND.h5ad EXACT.h5ad. Needs numpy and h5py."""
import sys

import h5py
import numpy as np

with h5py.File(sys.argv[1]) as found, h5py.File(sys.argv[2]) as exact:
    hits = total = 0
    for first in range(0, exact["obsm/neighbors"].shape[0], 20000):
        a = np.sort(found["obsm/neighbors"][first : first + 20000], axis=1)
        b = np.sort(exact["obsm/neighbors"][first : first + 20000], axis=1)
        both = np.sort(np.concatenate([a, b], axis=1), axis=1)
        hits += int((both[:, 1:] == both[:, :-1]).sum())
        total += b.size
print(hits / total)
