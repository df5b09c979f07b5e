"""Running a strategy on a lake: from a request to datapoint ids that say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput
from katiml.miners.measured import Measured
from katiml.miners.measures import nothing_measured, ranked, resolve_model
from katiml.miners.registry import get_strategy
from katiml.miners.strategy import Inputs, Progress, checked_size
from katiml.vectors.select import Select, datapoint_ids

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["Mined", "Request", "mine"]


@dataclass(frozen=True)
class Request:
    """What to mine: a strategy's wire name, how many datapoints, and from which."""

    strategy: str
    size: int
    select: Select = field(default_factory=Select)
    # What is labelled already, or what to look like.
    reference: Select | None = None
    # `model` or `model:layer`; a list of them for QUERY_BY_COMMITTEE.
    model_name: str | list[str] | None = None
    # "embeddings", "grad_embeddings" or "logits".
    embeddings_field: str = "embeddings"
    # What the strategy is told: its `parameters`.
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    # "cpu", or "cuda" where torch has it.
    device: str = "cpu"
    skip_caching: bool = False


@dataclass(frozen=True)
class Mined:
    """What was picked: (n,) ids of 36 characters, the best first, (n,) float64 scores, columns of
    reasons, and what the run rested on."""

    ids: NDArray[np.bytes_]
    scores: NDArray[np.float64]
    reasons: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.ids)


def mine(scope: Scope, request: Request, *, progress: Progress | None = None) -> Mined:
    """Run a strategy on an organization's datapoints.

    `progress(done, total)` is called now and then; what it raises ends the run. Raises InvalidInput
    and InvalidFilter for a request that cannot be carried out, with what there is instead.

    >>> import katiml
    >>> lake = katiml.connect()
    >>> _ = lake.ingest([{"type": "TEXT", "text": str(number)} for number in range(9)])
    >>> len(mine(lake.scope, Request("RANDOM", 3)))
    3
    """
    strategy = get_strategy(request.strategy, **request.settings)
    size = checked_size(request.size)
    select = request.select.fixed(scope)
    if isinstance(strategy, Measured):
        return _measured(scope, strategy, size, select, request)
    ids = datapoint_ids(scope, select)
    picks = strategy.pick(Inputs(ids=ids), size, seed=request.seed, progress=progress)
    return Mined(ids[picks.positions], picks.scores, picks.reasons, {})


def _measured(
    scope: Scope, strategy: Measured, size: int, select: Select, request: Request
) -> Mined:
    """One statement ranks them."""
    if isinstance(request.model_name, list):
        raise InvalidInput(f"{strategy.name} is about one model, not a list of them")
    chosen = select.chosen()
    model = resolve_model(scope, chosen, request.model_name)
    found = ranked(
        scope,
        chosen,
        strategy.metric,
        model,
        size=size,
        aggregate=strategy.settings["aggregate"],
        highest=strategy.highest,
    )
    if not found.num_rows:
        raise nothing_measured(scope, strategy.name, strategy.metric, model)
    return Mined(
        np.array(found["id"].to_pylist(), "S36"),
        found["score"].to_numpy(),
        {"items": found["items"].to_numpy()},
        {"model_name": model},
    )
