"""What is simulated: the labelled data, the task model and the rounds, checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.backtest.models import Codes, Floats, task_model
from katiml.errors import InvalidInput
from katiml.evaluation.metrics import averages, confusion_of

__all__ = ["SCORES", "Labelled", "Setting", "checked_seeds", "labelled_data", "whole"]


def _accuracy(truth: Codes, predicted: Codes) -> float:
    return float((truth == predicted).mean())


def _f1_macro(truth: Codes, predicted: Codes) -> float:
    names = [str(code) for code in range(int(max(truth.max(), predicted.max())) + 1)]
    said = confusion_of([names[a] for a in truth], [names[b] for b in predicted], names=names)
    return averages(said)["f1_macro"]


SCORES: dict[str, Callable[[Codes, Codes], float]] = {
    "accuracy": _accuracy,
    "f1_macro": _f1_macro,
}


@dataclass(frozen=True)
class Labelled:
    """(N, D) vectors with (N,) codes, indexes into `class_names`, and ids; perhaps a test set."""

    vectors: Floats
    codes: Codes
    class_names: list[str]
    ids: NDArray[Any]
    test: tuple[Floats, Codes] | None = None


@dataclass(frozen=True)
class Setting:
    """What stays the same over all runs. `counts` are the numbers of labels, round by round."""

    data: Labelled
    model: Any
    score: Callable[[Codes, Codes], float]
    initial: int
    counts: NDArray[np.intp]
    pool_size: int

    @classmethod
    def of(
        cls,
        data: Labelled,
        model: Any,
        score: str,
        test_share: float,
        initial: int,
        batch: int,
        budget: int,
    ) -> Setting:
        """Raises InvalidInput for what cannot be simulated."""
        if score not in SCORES:
            raise InvalidInput(f"score is {score!r:.100}", hint=f"one of {', '.join(SCORES)}")
        size = len(data.codes)
        if data.test is None:
            try:
                share = float(test_share)
            except (TypeError, ValueError):
                share = -1.0
            if not 0 < share < 1:
                raise InvalidInput(f"test_share is {test_share!r:.100}", hint="between 0 and 1")
            size -= max(1, round(share * size))
        first, step = whole("initial", initial, 2), whole("batch", batch, 1)
        last = min(whole("budget", budget, first), size)
        if first >= size:
            raise InvalidInput(
                f"{first:,} initial labels of a pool of {size:,}", hint="fewer, or more datapoints"
            )
        counts = np.unique(np.append(np.arange(first, last + 1, step), last)).astype(np.intp)
        return cls(data, task_model(model), SCORES[score], first, counts, size)

    @property
    def vectors(self) -> Floats:
        """(N, D)."""
        return self.data.vectors

    @property
    def codes(self) -> Codes:
        """(N,)."""
        return self.data.codes

    @property
    def class_names(self) -> list[str]:
        """What the codes mean."""
        return self.data.class_names


def labelled_data(
    embeddings: Any,
    labels: Any,
    *,
    ids: Any = None,
    test: tuple[Any, Any] | None = None,
    standardize: bool = True,
) -> Labelled:
    """Arrays as they are simulated; the scale of `standardize` is that of `embeddings`.

    >>> labelled_data([[1.0], [3.0]], ["b", "a"]).codes.tolist()
    [1, 0]
    """
    vectors, names = _matrix(embeddings), [str(label) for label in labels]
    if len(vectors) != len(names):
        raise InvalidInput(f"{len(names):,} labels for {len(vectors):,} embeddings")
    if len(set(names)) < 2:
        raise InvalidInput("all labels are alike", hint="labels of at least two classes")
    test_vectors = None if test is None else _matrix(test[0])
    test_names = [] if test is None else [str(label) for label in test[1]]
    if test_vectors is not None and test_vectors.shape != (len(test_names), vectors.shape[1]):
        raise InvalidInput(
            f"test embeddings of shape {test_vectors.shape} for {len(test_names):,} labels",
            hint=f"a row a label, of {vectors.shape[1]} values",
        )
    class_names = sorted({*names, *test_names})
    code = {name: place for place, name in enumerate(class_names)}
    if standardize:
        mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
        deviation[deviation == 0] = 1.0
        vectors = (vectors - mean) / deviation
        if test_vectors is not None:
            test_vectors = (test_vectors - mean) / deviation
    tested = None
    if test_vectors is not None:
        tested = (test_vectors, np.array([code[name] for name in test_names], np.intp))
    # Ties are broken by id; without ids by position.
    every = np.char.zfill(np.arange(len(names)).astype(str), 12)
    return Labelled(
        vectors,
        np.array([code[name] for name in names], np.intp),
        class_names,
        every if ids is None else np.asarray(ids),
        tested,
    )


def checked_seeds(seeds: Any) -> list[int]:
    """0 … seeds - 1, or the seeds themselves.

    >>> checked_seeds(3), checked_seeds([7, 1])
    ([0, 1, 2], [7, 1])
    """
    if isinstance(seeds, int | np.integer):
        return list(range(whole("seeds", seeds, 1)))
    try:
        found = [] if isinstance(seeds, str) else [whole("seeds", seed, 0) for seed in seeds]
    except TypeError:
        found = []
    if not found or len(set(found)) < len(found):
        raise InvalidInput(f"seeds is {seeds!r:.100}", hint="how many, or a list of different ones")
    return found


def whole(name: str, value: Any, least: int) -> int:
    """A whole number from `least`; InvalidInput for anything else."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise InvalidInput(f"{name} is {value!r:.100}", hint=f"a whole number from {least}")
    return int(value)


def _matrix(values: Any) -> Floats:
    matrix = np.asarray(values, np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise InvalidInput(f"embeddings of shape {matrix.shape}", hint="(N, D) numbers")
    if not np.isfinite(matrix).all():
        raise InvalidInput("embeddings hold NaN or infinity", hint="leave such datapoints out")
    return matrix
