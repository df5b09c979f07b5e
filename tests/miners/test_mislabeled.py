"""MISLABELED against cleanlab, the authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from katiml.errors import InvalidInput
from katiml.miners import Inputs, get_strategy
from katiml.miners.mislabeled import confident_joint, confident_thresholds, label_issues


def noisy(seed: int, rows: int = 300, classes: int = 4) -> tuple[Any, Any]:
    """(labels, probabilities) of which some disagree; every class occurs."""
    random = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), random.integers(classes, size=rows - classes)])
    probabilities = random.dirichlet(np.full(classes, 0.7), rows)
    probabilities += np.eye(classes)[truth] * random.uniform(0, 1.5, (rows, 1))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.where(random.random(rows) < 0.15, random.integers(classes, size=rows), truth)
    labels[:classes] = np.arange(classes)
    return labels, probabilities


@pytest.mark.parametrize("seed", range(6))
def test_issues_and_thresholds_are_cleanlabs(seed: int) -> None:
    from cleanlab.count import compute_confident_joint, get_confident_thresholds

    labels, probabilities = noisy(seed)
    np.testing.assert_allclose(
        confident_thresholds(labels, probabilities), get_confident_thresholds(labels, probabilities)
    )
    joint, issues = compute_confident_joint(
        labels, probabilities, calibrate=False, return_indices_of_off_diagonals=True
    )
    assert confident_joint(labels, probabilities).tolist() == joint.tolist()
    assert np.flatnonzero(label_issues(labels, probabilities)).tolist() == list(issues)


@pytest.mark.parametrize("seed", range(3))
def test_the_ranking_is_cleanlabs(seed: int) -> None:
    from cleanlab.filter import find_label_issues

    labels, probabilities = noisy(seed)
    expected = find_label_issues(
        labels,
        probabilities,
        filter_by="confident_learning",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    inputs = Inputs(labels=labels, probabilities=probabilities)
    picks = get_strategy("MISLABELED").pick(inputs, len(expected))
    assert picks.positions.tolist() == list(expected)
    assert all(picks.reasons["issue"])


def test_planted_errors_are_found() -> None:
    random = np.random.default_rng(9)
    truth = random.integers(3, size=200)
    probabilities = 0.9 * np.eye(3)[truth] + 0.1 / 3
    labels = truth.copy()
    wrong = random.permutation(200)[:15]
    labels[wrong] = (labels[wrong] + 1) % 3
    inputs = Inputs(labels=labels, probabilities=probabilities, class_names=["a", "b", "c"])
    picks = get_strategy("MISLABELED").pick(inputs, 15)
    assert sorted(picks.positions.tolist()) == sorted(wrong.tolist())
    names = np.array(["a", "b", "c"])
    assert picks.reasons["suggested"] == names[truth[picks.positions]].tolist()
    assert picks.reasons["label"] == names[labels[picks.positions]].tolist()


def test_what_has_no_label_is_not_picked() -> None:
    labels, probabilities = noisy(1)
    labels[::2] = -1
    picks = get_strategy("MISLABELED").pick(Inputs(labels=labels, probabilities=probabilities), 999)
    assert sorted(picks.positions.tolist()) == list(range(1, 300, 2))
    with pytest.raises(InvalidInput, match="no datapoint of the pool has a label"):
        get_strategy("MISLABELED").pick(
            Inputs(labels=np.full(300, -1), probabilities=probabilities), 3
        )
