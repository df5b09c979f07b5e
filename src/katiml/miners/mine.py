"""Running a strategy on a lake: from a request to datapoint ids that say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import check_device
from katiml.miners.inputs import Request, load_inputs, one_name
from katiml.miners.measured import Measured
from katiml.miners.measures import nothing_measured, ranked, resolve_model
from katiml.miners.mixed import Mixed, Opinion, opinions
from katiml.miners.registry import get_strategy
from katiml.miners.strategy import Progress, Strategy, checked_size
from katiml.vectors.select import Select
from katiml.vectors.state import state_of

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["Mined", "Request", "mine"]


@dataclass(frozen=True)
class Mined:
    """What was picked: (n,) ids of 36 characters, the best first, (n,) float64 scores, columns of
    reasons, and what the run rested on: enough to repeat it and get the same ids."""

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
    checked_size(request.size)
    check_device(request.device)
    fixed = replace(request, select=request.select.fixed(scope))
    mined = _run(scope, strategy, fixed, progress)
    return replace(mined, provenance={**_told(strategy, request), **mined.provenance})


def _run(scope: Scope, strategy: Strategy, request: Request, progress: Progress | None) -> Mined:
    if isinstance(strategy, Mixed):
        return _mixed(scope, strategy, request, progress)
    if isinstance(strategy, Measured):
        found = _measured(scope, strategy, request)
        if found is not None:
            return found
    loaded = load_inputs(scope, strategy, request, progress=progress)
    picks = strategy.pick(loaded.inputs, request.size, seed=request.seed, progress=progress)
    facts = {"pool": len(loaded.ids), **loaded.facts}
    if "state" not in facts:
        facts["state"] = _state(scope, request.select)
    return Mined(loaded.ids[picks.positions], picks.scores, picks.reasons, facts)


def _measured(scope: Scope, strategy: Measured, request: Request) -> Mined | None:
    """One statement ranks them; None where the numbers can be had another way."""
    chosen = request.select.chosen()
    model = resolve_model(scope, chosen, one_name(request))
    state = _state(scope, request.select)
    found = ranked(
        scope,
        chosen,
        strategy.metric,
        model,
        size=request.size,
        aggregate=strategy.settings["aggregate"],
        highest=strategy.highest,
    )
    if not found.num_rows:
        if strategy.computed:
            return None
        raise nothing_measured(scope, strategy.name, strategy.metric, model)
    return Mined(
        np.array(found["id"].to_pylist(), "S36"),
        found["score"].to_numpy(),
        {"items": found["items"].to_numpy()},
        {"model_name": model, "state": state},
    )


def _mixed(scope: Scope, strategy: Mixed, request: Request, progress: Progress | None) -> Mined:
    """Stage by stage: only what a stage left is loaded for the next."""
    select, skip = request.select, request.skip_caching
    before: list[Opinion] = []
    said: list[Mapping[str, Any]] = []
    seeds = strategy.seeds(np.random.default_rng(request.seed))
    for stage, seed in zip(strategy.stages, seeds, strict=True):
        last = stage is strategy.stages[-1]
        part = replace(
            request,
            strategy=stage.strategy.name,
            size=request.size if last else stage.keeps(request.size),
            settings=stage.strategy.settings,
            select=select,
            seed=seed,
            skip_caching=skip,
        )
        mined = _run(scope, stage.strategy, part, progress)
        said.append({"strategy": stage.strategy.name, "kept": len(mined), **mined.provenance})
        if last:
            reasons = {**mined.reasons, **opinions(mined.ids, before)}
            return replace(mined, reasons=reasons, provenance={"stages": said})
        before.append(Opinion(stage.strategy.name, mined.ids, mined.scores))
        # What one run alone asks for would only fill the cache.
        select, skip = Select.of(mined.ids), True
    raise AssertionError("a pipeline has a last stage")


def _state(scope: Scope, select: Select) -> str:
    return state_of(scope, {"predictions", *select.chosen().tables})


def _told(strategy: Strategy, request: Request) -> dict[str, Any]:
    """What the run was asked, and by which code."""
    from katiml import __version__

    return {
        "strategy": strategy.name,
        "settings": strategy.settings,
        "size": request.size,
        "select": request.select.told(),
        "select_reference": None if request.reference is None else request.reference.told(),
        "model_name": request.model_name,
        "embeddings_field": request.embeddings_field,
        "seed": request.seed,
        "device": request.device,
        "version": __version__,
    }
