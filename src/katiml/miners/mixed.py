"""MIXED: strategies one behind the other, each choosing from what the one before left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput
from katiml.miners.registry import get_strategy
from katiml.miners.strategy import Inputs, Parameter, Picks, Run, Strategy

__all__ = ["DEFAULT_STAGES", "MAX_STAGES", "Mixed", "Opinion", "Stage", "opinions"]

MAX_STAGES = 5
DEFAULT_STAGES = ({"strategy": "ENTROPY", "factor": 10.0}, {"strategy": "CORESET"})
_KEYS = {"strategy", "factor", "settings"}


@dataclass(frozen=True)
class Stage:
    """One strategy, and how many times the final size it keeps."""

    strategy: Strategy
    factor: float

    def keeps(self, size: int) -> int:
        """How many datapoints it hands on when `size` are wanted in the end."""
        return max(size, round(self.factor * size))


class Mixed(Strategy):
    """A pipeline of two to five strategies: `stages` are `{"strategy", "factor", "settings"}`.

    A stage keeps `factor` times the size (10 unless told, and 1 in the last). So the default picks
    the 10 x size most uncertain and spreads over them: uncertain, but not ten times the same. Score
    and reasons are those of the last stage, with the score and rank of each stage before.

    >>> stages = [{"strategy": "MARGIN", "factor": 3}, {"strategy": "DENSITY"}]
    >>> [stage.strategy.name for stage in Mixed(stages=stages).stages]
    ['MARGIN', 'DENSITY']
    """

    name = "MIXED"
    summary = "Strategies in a row: by default the most uncertain, then spread over them."
    paper = "Settles, Active Learning Literature Survey, 2009, section 5 (combinations)"
    parameters = (
        Parameter(
            "stages",
            list,
            list(DEFAULT_STAGES),
            "the strategies, first to last, each with factor and settings",
        ),
    )

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        given = self.settings["stages"]
        if not 2 <= len(given) <= MAX_STAGES:
            raise InvalidInput(f"MIXED has {len(given)} stages", hint=f"from 2 to {MAX_STAGES}")
        last = len(given) - 1
        self.stages = [_stage(item, number == last) for number, item in enumerate(given)]
        strategies = [stage.strategy for stage in self.stages]
        self.needs = tuple(dict.fromkeys(need for one in strategies for need in one.needs))
        self.uses = tuple(dict.fromkeys(use for one in strategies for use in one.uses))
        self.highest = strategies[-1].highest

    def _require(self, inputs: Inputs) -> None:
        for stage in self.stages:
            stage.strategy._require(inputs)

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        left = np.arange(len(inputs))
        before: list[Opinion] = []
        for stage, seed in zip(self.stages, self.seeds(run.random), strict=True):
            last = stage is self.stages[-1]
            left = np.sort(left)
            part = inputs if len(left) == len(inputs) else inputs.take(left)
            wanted = size if last else stage.keeps(size)
            picks = stage.strategy.pick(part, wanted, seed=seed, progress=run.progress)
            left = left[picks.positions]
            if last:
                return Picks(left, picks.scores, {**picks.reasons, **opinions(left, before)})
            before.append(Opinion(stage.strategy.name, left, picks.scores))
        raise AssertionError("a pipeline has a last stage")

    def seeds(self, random: np.random.Generator) -> list[int]:
        """A seed for each stage."""
        return [int(random.integers(2**63)) for _ in self.stages]


class Opinion(NamedTuple):
    """What a stage said: (n,) keys of its picks (positions or ids), the best first, and scores."""

    name: str
    keys: NDArray[Any]
    scores: NDArray[np.float64]


def opinions(chosen: NDArray[Any], before: Sequence[Opinion]) -> dict[str, NDArray[Any]]:
    """Columns of the score and the rank (from 0) that earlier stages gave what was chosen.

    >>> said = opinions(np.array([7]), [Opinion("MARGIN", np.array([9, 7]), np.array([0.9, 0.8]))])
    >>> {name: column.tolist() for name, column in said.items()}
    {'margin_score': [0.8], 'margin_rank': [1]}
    """
    columns: dict[str, NDArray[Any]] = {}
    for number, (name, keys, scores) in enumerate(before, 1):
        label = name.lower()
        if f"{label}_score" in columns:
            label = f"{label}_{number}"
        order = np.argsort(keys)
        ranks = order[np.searchsorted(keys, chosen, sorter=order)]
        columns[f"{label}_score"], columns[f"{label}_rank"] = scores[ranks], ranks
    return columns


def _stage(item: Any, last: bool) -> Stage:
    if isinstance(item, str):
        item = {"strategy": item}
    if not isinstance(item, Mapping) or "strategy" not in item or set(item) - _KEYS:
        raise InvalidInput(
            f"a stage of MIXED is {item!r:.100}",
            hint="a stage is {'strategy': 'ENTROPY', 'factor': 10, 'settings': {}}",
        )
    settings = item.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise InvalidInput(f"settings of a stage are {settings!r:.100}, not names and values")
    strategy = get_strategy(
        item["strategy"], **{str(key): value for key, value in settings.items()}
    )
    if isinstance(strategy, Mixed):
        raise InvalidInput("a stage of MIXED cannot be MIXED itself")
    factor = Parameter("factor", float, 1.0 if last else 10.0, "", 1, 1_000_000)
    return Stage(strategy, factor.checked("MIXED", item.get("factor")))
