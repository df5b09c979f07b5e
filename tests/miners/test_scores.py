"""Scores of uncertainty against references and by their properties."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from katiml.miners import scores
from katiml.miners.weighted_entropy import rarity_weights
from katiml.records import derived

CLASSES = 5


def distributions(rows: int = 12, classes: int = CLASSES, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), rows)


def raw(shape: tuple[int, ...]) -> st.SearchStrategy[NDArray[np.float64]]:
    return arrays(np.float64, shape, elements=st.floats(0.0, 1.0)).filter(
        lambda values: bool((values.sum(axis=-1) > 1e-3).all())
    )


def normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values / values.sum(axis=-1, keepdims=True)


# -- against references ----------------------------------------------------------------------


def test_entropy_is_scipys() -> None:
    from scipy.stats import entropy

    probabilities = distributions(100)
    probabilities[0] = [1, 0, 0, 0, 0]
    np.testing.assert_allclose(scores.entropy(probabilities), entropy(probabilities, axis=1))


@pytest.mark.parametrize(
    ("method", "ours"),
    [
        ("entropy", scores.entropy),
        ("least_confident", scores.least_confidence),
        ("margin_sampling", scores.margin),
    ],
)
def test_uncertainty_is_scikit_activemls(method: str, ours: Any) -> None:
    from skactiveml.pool import uncertainty_scores

    probabilities = distributions(200, seed=1)
    np.testing.assert_allclose(
        ours(probabilities), uncertainty_scores(probabilities, method=method), atol=1e-12
    )


@pytest.mark.parametrize(
    ("method", "ours"),
    [
        ("KL_divergence", scores.consensus_divergence),
        ("vote_entropy", scores.vote_entropy),
    ],
)
def test_disagreement_is_scikit_activemls(method: str, ours: Any) -> None:
    from skactiveml.pool import average_kl_divergence, vote_entropy

    committee = np.stack([distributions(60, 4, seed) for seed in range(5)])
    if method == "KL_divergence":
        expected = average_kl_divergence(committee)
    else:
        expected = vote_entropy(committee.argmax(axis=-1).T, np.arange(4))
    np.testing.assert_allclose(ours(committee), expected, atol=1e-9)


def test_variance_and_bald_are_as_baal_defines_them() -> None:
    """Baal's arrays are (N, C, T); its BALD adds 1e-5 inside the logarithm, which is left out."""
    passes = np.stack([distributions(40, 4, seed) for seed in range(7)], axis=1)
    baal = passes.transpose(0, 2, 1)
    np.testing.assert_allclose(scores.variance(passes), np.var(baal, axis=-1).mean(axis=-1))
    mean = baal.mean(axis=-1)
    predictive = -(mean * np.log(mean)).sum(axis=-1)
    expected = -(baal * np.log(baal)).sum(axis=1).mean(axis=-1)
    np.testing.assert_allclose(scores.bald(passes), predictive - expected)


def test_normalised_scores_are_what_the_lake_keeps() -> None:
    """A miner on a device must agree with metrics.entropy, variance and bald of the lake."""
    logits = np.random.default_rng(0).standard_normal((30, 6, 4)) * 5
    passes = derived.softmax(logits)
    kept = derived.classification_from_passes(logits)
    np.testing.assert_allclose(
        scores.entropy(passes.mean(axis=1), normalized=True), kept.entropy, rtol=1e-12
    )
    assert kept.variance is not None and kept.bald is not None
    np.testing.assert_allclose(scores.variance(passes), kept.variance, rtol=1e-12)
    np.testing.assert_allclose(scores.bald(passes, normalized=True), kept.bald, atol=1e-12)
    one = np.ones((3, 1))
    np.testing.assert_array_equal(scores.entropy(one, normalized=True), derived.entropy(one))


# -- properties ------------------------------------------------------------------------------


@given(raw((6, CLASSES)).map(normalised), st.permutations(range(CLASSES)))
def test_the_order_of_classes_does_not_matter(
    probabilities: NDArray[np.float64], order: list[int]
) -> None:
    for score in (scores.entropy, scores.least_confidence, scores.margin):
        np.testing.assert_allclose(
            score(probabilities), score(probabilities[:, order]), rtol=1e-9, atol=1e-9
        )


@given(raw((6, CLASSES)).map(normalised))
def test_scores_lie_in_their_range(probabilities: NDArray[np.float64]) -> None:
    least = -1e-12
    assert (
        (scores.entropy(probabilities) >= least)
        & (scores.entropy(probabilities) <= np.log(CLASSES) + 1e-12)
    ).all()
    assert (scores.least_confidence(probabilities) <= 1 - 1 / CLASSES + 1e-12).all()
    assert ((scores.margin(probabilities) >= least) & (scores.margin(probabilities) <= 1)).all()


@given(raw((4, 6, CLASSES)).map(normalised))
def test_bald_is_never_negative_and_identical_passes_give_nothing(
    passes: NDArray[np.float64],
) -> None:
    assert (scores.bald(passes) >= 0).all()
    assert (scores.variance(passes) >= 0).all()
    same = np.repeat(passes[:, :1], 6, axis=1)
    np.testing.assert_allclose(scores.bald(same), 0, atol=1e-9)
    np.testing.assert_allclose(scores.variance(same), 0, atol=1e-15)


@given(raw((3, 4, CLASSES)).map(normalised))
def test_a_committee_that_agrees_scores_nothing(committee: NDArray[np.float64]) -> None:
    assert (scores.consensus_divergence(committee) >= 0).all()
    same = np.repeat(committee[:1], 3, axis=0)
    np.testing.assert_allclose(scores.consensus_divergence(same), 0, atol=1e-9)
    np.testing.assert_allclose(scores.vote_entropy(same), 0, atol=1e-12)


def test_extremes() -> None:
    uniform, sure = np.full(CLASSES, 1 / CLASSES), np.eye(CLASSES)[2]
    assert scores.entropy(uniform) == pytest.approx(np.log(CLASSES))
    assert scores.entropy(sure) == 0
    assert scores.margin(sure) == 0 and scores.margin(uniform) == pytest.approx(1)
    assert scores.least_confidence(sure) == 0


def test_of_two_classes_all_uncertainties_order_alike() -> None:
    probabilities = distributions(50, 2)
    orders = [
        np.argsort(score(probabilities)).tolist()
        for score in (scores.entropy, scores.margin, scores.least_confidence)
    ]
    assert orders[0] == orders[1] == orders[2]


def test_equal_weights_reproduce_entropy() -> None:
    probabilities = distributions(20)
    np.testing.assert_allclose(
        scores.weighted_entropy(probabilities, np.ones(CLASSES)), scores.entropy(probabilities)
    )
    np.testing.assert_allclose(rarity_weights(np.full((9, 3), 1 / 3)), 1.0)


def test_rare_classes_weigh_more() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05]] * 8 + [[0.1, 0.8, 0.1]])
    weights = rarity_weights(probabilities)
    assert weights[2] > weights[1] > weights[0]
    assert np.isfinite(rarity_weights([[1.0, 0.0]])).all()


@pytest.mark.parametrize("how", scores.AGGREGATES)
def test_children_add_up_to_their_datapoints(how: str) -> None:
    random = np.random.default_rng(3)
    values, owners = random.standard_normal(200), random.integers(0, 40, 200)
    owners[owners == 7] = 8
    found = scores.aggregate(values, owners, 40, how)
    reduce: Any = {"sum": np.sum, "mean": np.mean, "max": np.max}[how]
    for owner in range(40):
        own = values[owners == owner]
        assert found[owner] == pytest.approx(reduce(own)) if len(own) else np.isnan(found[owner])
    assert np.isnan(found[7])


def test_torch_tensors_stay_tensors() -> None:
    torch = pytest.importorskip("torch")
    passes = np.stack([distributions(9, 4, seed) for seed in range(3)], axis=1)
    tensor = torch.from_numpy(passes)
    for score in (scores.variance, scores.bald, scores.entropy, scores.margin):
        found = score(tensor)
        assert isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found.numpy(), score(passes), rtol=1e-9)


def test_scores_and_strategies_need_numpy_alone() -> None:
    """A miner on a device imports them, and has nothing else installed."""
    code = (
        "import sys\n"
        "for name in ('pandas', 'pyarrow', 'duckdb', 'array_api_compat', 'scipy', 'msgspec'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from katiml.miners import Inputs, get_strategy, scores\n"
        "from katiml.miners.coreset import k_center\n"
        "from katiml.miners.novelty import novelty\n"
        "from katiml.vectors import nearest\n"
        "vectors = np.eye(4)\n"
        "print(k_center(vectors, 2)[0], nearest(vectors, vectors)[1].ravel())\n"
        "print(get_strategy('ENTROPY').pick(Inputs(probabilities=vectors), 1).positions)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
