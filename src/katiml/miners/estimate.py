"""What a run would work on: how many datapoints, what is missing and why, how much memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from katiml.errors import InvalidInput
from katiml.miners.inputs import Request, models_of, one_name
from katiml.miners.measured import Measured
from katiml.miners.measures import resolve_model, without_value
from katiml.miners.mixed import Mixed
from katiml.miners.registry import get_strategy
from katiml.miners.strategy import Strategy
from katiml.vectors.load import estimate_vectors

if TYPE_CHECKING:
    from katiml.store import Scope
    from katiml.vectors.select import Select

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """`datapoints` in the selection, of which `usable` have what the strategy needs; the others are
    counted in `missing` by reason. `reference` is the size of the reference, `bytes` roughly the
    memory of a run."""

    strategy: str
    datapoints: int
    usable: int
    missing: Mapping[str, int] = field(default_factory=dict)
    reference: int | None = None
    model_name: str | list[str] | None = None
    bytes: int = 0


def estimate(scope: Scope, request: Request) -> Estimate:
    """What `mine` would work on; of MIXED its first stage. Raises what `mine` would for names.

    >>> import katiml
    >>> lake = katiml.connect()
    >>> _ = lake.ingest([{"type": "TEXT", "text": "hello"}])
    >>> estimate(lake.scope, Request("RANDOM", 3)).usable
    1
    """
    strategy = get_strategy(request.strategy, **request.settings)
    if isinstance(strategy, Mixed):
        first = strategy.stages[0].strategy
        stage = replace(request, strategy=first.name, settings=first.settings)
        return replace(_estimate(scope, first, stage), strategy=strategy.name)
    return _estimate(scope, strategy, request)


def _estimate(scope: Scope, strategy: Strategy, request: Request) -> Estimate:
    select = request.select.fixed(scope)
    chosen = select.chosen()
    if isinstance(strategy, Measured):
        model = resolve_model(scope, chosen, one_name(request))
        count = _count(scope, select)
        lacking = without_value(scope, select, strategy.metric, model)
        if lacking == count and strategy.computed:
            return _classified(scope, strategy, select, [model])
        missing = {f"no {strategy.metric} of {model!r}": lacking} if lacking else {}
        return Estimate(strategy.name, count, count - lacking, missing, model_name=model)
    if "committee" in strategy.needs:
        models = [resolve_model(scope, chosen, name) for name in models_of(request)]
        return _classified(scope, strategy, select, models)
    if "probabilities" in strategy.needs:
        return _classified(
            scope, strategy, select, [resolve_model(scope, chosen, one_name(request))]
        )
    if "vectors" in strategy.needs or "gradients" in strategy.needs:
        return _with_vectors(scope, strategy, select, request)
    count = _count(scope, select)
    return Estimate(strategy.name, count, count, bytes=count * 44)


def _with_vectors(scope: Scope, strategy: Strategy, select: Select, request: Request) -> Estimate:
    others = (*strategy.needs, *strategy.uses)
    reference = request.reference if "reference" in others else None
    name = one_name(request)
    if "gradients" in strategy.needs:
        try:
            found = estimate_vectors(scope, select, model_name=name, field="grad_embeddings")
        except InvalidInput:
            found = estimate_vectors(scope, select, model_name=name)
    else:
        pool = select if reference is None else replace(select, without=reference.fixed(scope))
        found = estimate_vectors(scope, pool, model_name=name, field=request.embeddings_field)
    count = None if reference is None else _count(scope, reference)
    total = found.bytes + found.vectors * 60 + (count or 0) * found.width * 4
    return Estimate(
        strategy.name, found.datapoints, found.vectors, found.missing, count, found.name, total
    )


def _classified(scope: Scope, strategy: Strategy, select: Select, models: list[str]) -> Estimate:
    chosen = select.chosen()
    labels = "labels" in strategy.needs
    found = scope.query(
        f"SELECT count(*) AS datapoints, count(*) FILTER (classified) AS classified, "
        "count(*) FILTER (classified AND labelled) AS labelled, max(classes) AS classes FROM ("
        "SELECT id, coalesce(own.models, 0) = $models AS classified, own.classes, "
        "id IN (SELECT datapoint FROM {groundtruths} WHERE task_type = 'CLASSIFICATION' "
        f"AND class_name IS NOT NULL) AS labelled FROM ({chosen.sql}) LEFT JOIN ("
        "SELECT datapoint, count(DISTINCT model_name) AS models, max(len(confidences)) AS classes "
        "FROM {predictions} WHERE task_type = 'CLASSIFICATION' AND len(confidences) > 0 "
        "AND list_contains($names, model_name) GROUP BY datapoint) AS own ON own.datapoint = id)",
        {**chosen.parameters, "names": models, "models": len(models)},
    ).to_pylist()[0]
    missing = {"no classification with confidences": found["datapoints"] - found["classified"]}
    usable = found["classified"]
    if labels:
        missing["no ground truth"] = found["classified"] - found["labelled"]
        usable = found["labelled"]
    size = found["classified"] * (found["classes"] or 0) * 4 * len(models)
    return Estimate(
        strategy.name,
        found["datapoints"],
        usable,
        {reason: count for reason, count in missing.items() if count},
        model_name=models if len(models) > 1 else models[0],
        bytes=size,
    )


def _count(scope: Scope, select: Select) -> int:
    chosen = select.chosen()
    found = scope.query(f"SELECT count(*) AS n FROM ({chosen.sql})", chosen.parameters)
    return int(found.column(0)[0].as_py())
