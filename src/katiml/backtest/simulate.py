"""Labelling rounds, simulated: what each strategy would have chosen, and what a model made of it.

Everything is paired: of one seed all strategies have the same test set, the same first labels and
the same randomness of the task model, so that differences are those of the choices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.backtest.models import Codes, Floats, Trained, train
from katiml.backtest.result import Backtest
from katiml.backtest.setting import Setting, checked_seeds, labelled_data, whole
from katiml.errors import InvalidInput
from katiml.miners import Inputs, Strategy, get_strategy
from katiml.miners.measured import Measured

__all__ = ["backtest"]

# Models of the ensemble that QUERY_BY_COMMITTEE, VARIANCE and BALD look at.
_COMMITTEE = 5
# What is made of a round: strategies that need anything else cannot be simulated.
_OFFERED = {"vectors", "reference", "probabilities", "passes", "committee", "class_names", "models"}


def backtest(
    embeddings: Any,
    labels: Sequence[Any] | NDArray[Any],
    strategies: Sequence[str | Strategy] | Mapping[str, str | Strategy] = ("RANDOM", "MARGIN"),
    *,
    model: Any = "logistic-regression",
    initial: int = 20,
    batch: int = 20,
    budget: int = 300,
    seeds: int | Sequence[int] = 10,
    score: str = "accuracy",
    test: tuple[Any, Any] | None = None,
    test_share: float = 0.4,
    standardize: bool = True,
    ids: Sequence[str] | NDArray[Any] | None = None,
    workers: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Backtest:
    """Simulate labelling (N, D) `embeddings` of (N,) known `labels`, by several strategies.

    Of each seed a share `test_share` is set aside for scoring (or `test`, embeddings and labels, is
    used), `initial` labels are drawn, and until `budget` labels each strategy chooses `batch` more,
    looking at what a `model` trained on the labels so far says of the rest. The first strategy is
    what the others are compared with. `strategies` are wire names or `Strategy` objects, or such by
    label. QUERY_BY_COMMITTEE, VARIANCE and BALD see an ensemble of 5 models trained on bootstrap
    samples. `standardize` gives each feature mean 0 and deviation 1, for model and strategies.
    `score` is "accuracy" or "f1_macro". `workers` threads share the runs; results are the same.

    Raises InvalidInput for a strategy that cannot be simulated, classes or labels that do not
    suffice, and a model that cannot be fitted.

    >>> random = np.random.default_rng(0)
    >>> labels = np.repeat(["cat", "dog"], 60)
    >>> embeddings = random.normal(size=(120, 4)) + 2 * (labels == "dog")[:, None]
    >>> found = backtest(embeddings, labels, initial=4, batch=4, budget=20, seeds=3)
    >>> found.counts.tolist(), found.scores["MARGIN"].shape
    ([4, 8, 12, 16, 20], (3, 5))
    """
    chosen = _strategies(strategies)
    data = labelled_data(embeddings, labels, ids=ids, test=test, standardize=standardize)
    setting = Setting.of(data, model, score, test_share, initial, batch, budget)
    numbers = checked_seeds(seeds)
    runs = [(name, strategy, seed) for seed in numbers for name, strategy in chosen.items()]
    total, done = len(runs) * len(setting.counts), 0

    def reached() -> None:
        nonlocal done
        done += 1
        if on_progress:
            on_progress(min(1.0, done / total))

    def run(job: tuple[str, Strategy, int]) -> tuple[Floats, float]:
        return _run(setting, job[1], job[2], reached)

    with _one_thread_each(), ThreadPoolExecutor(whole("workers", workers, 1)) as pool:
        found = list(pool.map(run, runs))
    shape = (len(numbers), len(setting.counts))
    scores = {name: np.empty(shape) for name in chosen}
    seconds = dict.fromkeys(chosen, 0.0)
    for (name, _, seed), (curve, spent) in zip(runs, found, strict=True):
        scores[name][numbers.index(seed)] = curve
        seconds[name] += spent
    return Backtest(
        counts=setting.counts,
        scores=scores,
        seeds=numbers,
        score=score,
        seconds=seconds,
        about={
            "model": model if isinstance(model, str) else repr(model),
            "datapoints": len(setting.codes),
            "classes": len(setting.class_names),
            "strategies": {name: repr(strategy) for name, strategy in chosen.items()},
            "standardize": standardize,
        },
    )


def _one_thread_each() -> AbstractContextManager[Any]:
    """Matrices of some hundred rows: threads of BLAS would cost twenty times what they compute."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def _run(
    setting: Setting, strategy: Strategy, seed: int, reached: Callable[[], None]
) -> tuple[Floats, float]:
    """The score at each number of labels, and the seconds that choosing took."""
    random = np.random.default_rng(seed)
    pool, test_vectors, test_codes = _split(setting, random)
    labelled = pool[_first(setting.codes[pool], setting.initial, random)]
    curve = np.empty(len(setting.counts))
    seconds = 0.0
    trained = _train(setting, labelled, seed)
    for place, count in enumerate(setting.counts.tolist()):
        if place:
            rest = np.setdiff1d(pool, labelled, assume_unique=True)
            inputs = _inputs(setting, strategy, trained, labelled, rest, seed)
            start = time.perf_counter()
            picks = strategy.pick(inputs, count - len(labelled), seed=seed + place)
            seconds += time.perf_counter() - start
            labelled = np.concatenate([labelled, rest[picks.positions]])
            trained = _train(setting, labelled, seed)
        curve[place] = setting.score(test_codes, trained.predict(test_vectors))
        reached()
    return curve, seconds


def _train(setting: Setting, labelled: NDArray[np.intp], seed: int) -> Trained:
    vectors, codes = setting.vectors[labelled], setting.codes[labelled]
    return train(setting.model, vectors, codes, len(setting.class_names), seed)


def _split(setting: Setting, random: np.random.Generator) -> tuple[NDArray[np.intp], Floats, Codes]:
    order = random.permutation(len(setting.codes))
    if setting.data.test is not None:
        return order, *setting.data.test
    cut = len(order) - setting.pool_size
    return order[cut:], setting.vectors[order[:cut]], setting.codes[order[:cut]]


def _first(codes: Codes, count: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Positions of the first labels; drawn again until there are two classes among them."""
    while True:
        chosen = random.permutation(len(codes))[:count]
        if len(np.unique(codes[chosen])) > 1:
            return chosen


def _inputs(
    setting: Setting,
    strategy: Strategy,
    trained: Trained,
    labelled: NDArray[np.intp],
    rest: NDArray[np.intp],
    seed: int,
) -> Inputs:
    """What a strategy may look at; probabilities and ensembles only where it does."""
    wanted = _wanted(strategy)
    vectors = setting.vectors[rest]
    given: dict[str, Any] = {
        "ids": setting.data.ids[rest],
        "vectors": vectors,
        "reference": setting.vectors[labelled],
        "reference_ids": setting.data.ids[labelled],
        "class_names": setting.class_names,
    }
    if "probabilities" in wanted:
        given["probabilities"] = trained.probabilities(vectors)
    if wanted & {"passes", "committee"}:
        said = np.stack([one.probabilities(vectors) for one in _ensemble(setting, labelled, seed)])
        given["committee"], given["passes"] = said, said.swapaxes(0, 1)
    return Inputs(**given)


def _ensemble(setting: Setting, labelled: NDArray[np.intp], seed: int) -> list[Trained]:
    random = np.random.default_rng([seed, len(labelled)])
    models = []
    for number in range(_COMMITTEE):
        drawn = labelled[random.integers(len(labelled), size=len(labelled))]
        while len(np.unique(setting.codes[drawn])) < 2:
            drawn = labelled[random.integers(len(labelled), size=len(labelled))]
        models.append(_train(setting, drawn, seed + number))
    return models


# -- what was asked --------------------------------------------------------------------------


def _wanted(strategy: Strategy) -> set[str]:
    """The fields of Inputs that a strategy looks at."""
    stages = getattr(strategy, "stages", None)
    if stages:
        return set().union(*(_wanted(stage.strategy) for stage in stages))
    if isinstance(strategy, Measured):
        return set(strategy.sources)
    return {*strategy.needs, *strategy.uses}


def _strategies(
    given: Sequence[str | Strategy] | Mapping[str, str | Strategy],
) -> dict[str, Strategy]:
    if isinstance(given, str | Strategy):
        given = [given]
    items = list(given.items()) if isinstance(given, Mapping) else [(None, one) for one in given]
    found: dict[str, Strategy] = {}
    for label, one in items:
        strategy = one if isinstance(one, Strategy) else get_strategy(one)
        missing = sorted(
            need for need in _required(strategy) if need not in _OFFERED and need != "gradients"
        )
        if missing:
            raise InvalidInput(
                f"{strategy.name} cannot be simulated: it needs {' and '.join(missing)}",
                hint="strategies that choose among unlabelled datapoints can",
            )
        name = label or strategy.name
        number = 2
        while name in found:
            name = f"{label or strategy.name} {number}"
            number += 1
        found[name] = strategy
    if not found:
        raise InvalidInput("no strategy is named", hint="for example ['RANDOM', 'MARGIN']")
    return found


def _required(strategy: Strategy) -> set[str]:
    stages = getattr(strategy, "stages", None)
    if stages:
        return set().union(*(_required(stage.strategy) for stage in stages))
    return set() if isinstance(strategy, Measured) else set(strategy.needs)
