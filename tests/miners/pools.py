"""Pools with everything that any strategy needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from katiml.miners import Inputs
from katiml.store.ids import uuid7_strings

ROWS, WIDTH, CLASSES = 60, 8, 4


def pool(seed: int = 0, rows: int = ROWS, **changes: Any) -> Inputs:
    """A pool in which every array is filled; `changes` replace some."""
    random = np.random.default_rng(seed)
    ids = uuid7_strings(rows + 12)
    vectors = random.standard_normal((rows + 12, WIDTH)).astype(np.float32)
    probabilities = random.dirichlet(np.ones(CLASSES), rows).astype(np.float32)
    inputs = Inputs(
        ids=ids[:rows],
        probabilities=probabilities,
        passes=random.dirichlet(np.ones(CLASSES), (rows, 5)),
        committee=random.dirichlet(np.ones(CLASSES), (3, rows)),
        models=["first", "second", "third"],
        class_names=["cat", "dog", "fox", "owl"],
        vectors=vectors[:rows],
        reference=vectors[rows:],
        reference_ids=ids[rows:],
        labels=random.integers(CLASSES, size=rows),
    )
    return replace(inputs, **changes)


def shuffled(inputs: Inputs, seed: int = 1) -> Inputs:
    """The same datapoints in another order."""
    return inputs.take(np.random.default_rng(seed).permutation(len(inputs)))
