"""A miner for devices from what a lake knows: thresholds from its scores, a reference from its
vectors. This module needs the lake; what it makes needs NumPy alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import katiml
from katiml.edge.kit import Kit, narrowed
from katiml.edge.miner import COMPARED, LOWEST, METRICS, STRATEGIES, Miner, of_kit
from katiml.errors import InvalidInput
from katiml.query.fields import shown

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["export"]

Floats = NDArray[np.float64]
# Vectors that a threshold is taken from: with so many a share of 0.001 is known within a tenth.
_CALIBRATION = 100_000
_BLOCK = 4_096


def export(
    scope: Scope,
    strategy: str,
    filters: Any = None,
    *,
    model_name: str | None = None,
    rate: float | None = None,
    threshold: float | None = None,
    size: int | None = None,
    reference_filters: Any = None,
    reference_size: int = 1_000,
    metric: str = "euclidean",
    neighbors: int = 5,
    embeddings_field: str = "embeddings",
    aggregate: str = "sum",
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> Miner:
    """A `katiml.edge.Miner` with thresholds and a reference from a lake; `save` makes the file.

    With `rate`, the threshold is the score that this share of the datapoints that pass `filters`
    reach (of at most 100,000 of them, drawn by `seed`, where embeddings are scored). The reference
    is what passes `reference_filters`, as at most `reference_size` vectors: for NOVELTY drawn by
    `seed`, so that dense regions stay dense; otherwise spread by k-center, so that nothing lies far
    from them; for ACTIVATION the usual activation of each unit.

    Raises InvalidInput for what the lake does not have, or settings that do not belong together.

    >>> import katiml
    >>> def said(lead):
    ...     return {"type": "IMAGE", "predictions": [
    ...         {"task_type": "CLASSIFICATION", "model_name": "net", "logits": [lead, 0.0]}]}
    >>> with katiml.connect(getfixture("tmp_path")) as lake:
    ...     _ = lake.ingest([said(float(lead)) for lead in range(10)])
    ...     miner = export(lake.scope, "MARGIN", model_name="net", rate=0.2)
    >>> miner.offer(said(1.0)), miner.offer(said(2.0))
    (True, False)
    """
    name = str(strategy).strip().upper().replace("-", "_")
    if name not in STRATEGIES:
        raise InvalidInput(
            f"no strategy {shown(strategy)} on a device", hint=f"one of {', '.join(STRATEGIES)}"
        )
    if rate is not None and (threshold is not None or not 0 < _number(rate) <= 1):
        raise InvalidInput(
            f"rate is {shown(rate)}" if threshold is None else "both a rate and a threshold",
            hint="the share of the stream to keep, over 0 and at most 1; or a threshold",
        )
    if reference_filters is None and name in COMPARED:
        raise InvalidInput(
            f"{name} needs a reference",
            hint="reference_filters choose it: what is labelled already, or what to look for",
        )
    made = {
        "katiml": katiml.__version__,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "organization_id": scope.organization_id,
        "filters": filters,
        "rate": rate,
    }
    kit = Kit(
        strategy=name,
        model_name=model_name,
        size=size,
        threshold=threshold,
        metric=metric,
        neighbors=neighbors,
        embeddings_field=embeddings_field,
        aggregate=aggregate,
        seed=seed,
        made=made,
    )
    reached = on_progress or _ignore
    if name in METRICS:
        return of_kit(_with_metric(scope, kit, filters, rate))
    if name == "RANDOM":
        bar = threshold if rate is None else 1.0 - rate
        return of_kit(replace(kit, threshold=bar))
    if reference_filters is not None:
        kit = _with_reference(scope, kit, reference_filters, reference_size)
    reached(0.5)
    if rate is not None and name != "CORESET":
        kit = _with_threshold(scope, kit, filters, rate, lambda share: reached(0.5 + share / 2))
    reached(1.0)
    return of_kit(kit)


def _with_metric(scope: Scope, kit: Kit, filters: Any, rate: float | None) -> Kit:
    """A threshold by one statement of SQL."""
    from katiml.miners.measures import nothing_measured, ranked, resolve_model, without_value
    from katiml.query import count
    from katiml.vectors import Select

    select, metric = Select(filters), METRICS[kit.strategy]
    model = resolve_model(scope, select.chosen(), kit.model_name)
    kit = replace(kit, model_name=model)
    if rate is None:
        return kit
    total = count(scope, "datapoints", filters) - without_value(scope, select, metric, model)
    if total <= 0:
        raise nothing_measured(scope, kit.strategy, metric, model)
    place = max(1, round(rate * total))
    found = ranked(scope, select.chosen(), metric, model, size=place + 1, aggregate=kit.aggregate)
    bar = _between(found["score"].to_numpy(), place)
    return replace(kit, threshold=bar, made={**kit.made, "calibrated_on": total})


def _with_reference(scope: Scope, kit: Kit, filters: Any, most: int) -> Kit:
    from katiml.vectors import Select, load_vectors

    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InvalidInput(f"reference_size is {shown(most)}", hint="a whole number from 1")
    loaded = load_vectors(
        scope, Select(filters), model_name=kit.model_name, field=kit.embeddings_field
    )
    made = {**kit.made, "reference_filters": filters, "reference_rows": len(loaded)}
    made["reference_state"] = loaded.state
    rows = narrowed(_summary(kit, loaded.matrix, most))
    return replace(kit, model_name=loaded.name, reference=rows, made=made)


def _summary(kit: Kit, matrix: NDArray[Any], most: int) -> NDArray[Any]:
    from katiml.miners.activation import usual_activation
    from katiml.miners.coreset import k_center

    if kit.strategy == "ACTIVATION":
        return usual_activation(matrix)[None]
    if len(matrix) <= most:
        return np.asarray(matrix)
    random = np.random.default_rng(kit.seed)
    if kit.strategy == "NOVELTY":
        return np.asarray(matrix[np.sort(random.choice(len(matrix), most, replace=False))])
    first = int(random.integers(len(matrix)))
    positions, _, _ = k_center(matrix, most, metric=kit.metric, first=first)
    return np.asarray(matrix[np.sort(positions)])


def _with_threshold(
    scope: Scope, kit: Kit, filters: Any, rate: float, reached: Callable[[float], None]
) -> Kit:
    from katiml.vectors import Select, load_vectors

    select = Select(filters)
    loaded = load_vectors(scope, select, model_name=kit.model_name, field=kit.embeddings_field)
    matrix = loaded.matrix
    if len(matrix) > _CALIBRATION:
        random = np.random.default_rng(kit.seed)
        chosen = np.sort(random.choice(len(matrix), _CALIBRATION, replace=False))
    else:
        chosen = np.arange(len(matrix))
    values = np.empty(len(chosen))
    for start in range(0, len(chosen), _BLOCK):
        rows = chosen[start : start + _BLOCK]
        values[start : start + len(rows)] = _scores(kit, np.asarray(matrix[rows]))
        reached((start + len(rows)) / len(chosen))
    ordered = np.sort(values) if kit.strategy in LOWEST else -np.sort(-values)
    bar = _between(ordered, max(1, round(rate * len(values))))
    made = {**kit.made, "calibrated_on": len(values), "state": loaded.state}
    return replace(kit, model_name=loaded.name, threshold=bar, made=made)


def _scores(kit: Kit, rows: NDArray[Any]) -> Floats:
    """What the lake's miners give (N, D) vectors."""
    from katiml.miners import scores
    from katiml.miners.novelty import novelty
    from katiml.vectors import nearest

    if kit.strategy == "ACTIVATION":
        usual = None if kit.reference is None else kit.reference[0]
        return np.asarray(scores.activation(rows, usual))
    if kit.reference is None:
        raise InvalidInput(f"{kit.strategy} needs a reference")
    if rows.shape[1] != kit.reference.shape[1]:
        raise InvalidInput(
            f"vectors of {rows.shape[1]} values beside a reference of {kit.reference.shape[1]}"
        )
    if kit.strategy == "NOVELTY":
        return novelty(rows, kit.reference, kit.neighbors, metric=kit.metric)[0]
    return nearest(rows, kit.reference, 1, kit.metric)[0][:, 0]


def _between(ordered: Floats, place: int) -> float:
    """A threshold that the first `place` of some values reach, and no more where they differ.

    Half way to the next one, so that rounding on a device changes nothing."""
    last = float(ordered[place - 1])
    if place < len(ordered):
        return (last + float(ordered[place])) / 2
    return last + (last - float(ordered[0])) * 1e-9


def _number(value: Any) -> float:
    try:
        return float("nan") if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        return float("nan")


def _ignore(_: float) -> None:
    """Nobody wants to know."""
