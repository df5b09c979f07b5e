"""The numbers that measured strategies rank by, as SQL over a lake's predictions.

A prediction's own number counts; where it has none, those of its boxes, lanes or completions do,
summed, averaged or the largest of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from katiml.errors import InvalidInput
from katiml.miners.measured import top
from katiml.query.aggregate import distinct_values, metric_names
from katiml.query.fields import Field, Parameters, resolve, shown
from katiml.query.filters import Condition
from katiml.schema import TABLES
from katiml.tasks.executors import Executor, current, cut
from katiml.vectors.select import Chosen, Select

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["nothing_measured", "ranked", "resolve_model", "without_value"]

_CHILDREN = ("bboxes", "lanes", "completions")
_AGGREGATES = {"sum": "sum", "mean": "avg", "max": "max"}
_LARGEST = "list_max(confidences)"
_PLACE = f"list_position(confidences, {_LARGEST})"
# The largest before and behind the largest: a third of the time of sorting the list.
_SECOND = f"greatest(list_max(confidences[1:{_PLACE} - 1]), list_max(confidences[{_PLACE} + 1:]))"
# Numbers that follow from a column rather than from `metrics`.
_OF_COLUMN = {
    "least_confidence": ("confidence", "1 - confidence"),
    "margin": ("confidences", f"1 - ({_LARGEST} - {_SECOND})"),
}
# Each classification of a lane has its own.
_LANE_ENTROPY = "list_sum(CAST(json_extract(classifications, '$[*].metrics.entropy') AS DOUBLE[]))"


def resolve_model(scope: Scope, chosen: Chosen, model_name: str | None) -> str:
    """The model meant: `model_name` (with `:layer` perhaps), or the only one there is.

    Raises InvalidInput, naming the models there are.
    """
    condition = Condition(chosen.within(), chosen.parameters)
    names = distinct_values(scope, resolve("predictions", "model_name"), condition)
    if model_name is not None and not isinstance(model_name, str):
        raise InvalidInput(f"model_name is {shown(model_name)}, not a text")
    if model_name is None and len(names) == 1:
        return str(names[0])
    if model_name is not None:
        for name in (model_name, model_name.rpartition(":")[0]):
            if name in names:
                return name
    there = ", ".join(map(repr, names[:20])) or "none"
    wrong = (
        "model_name is missing" if model_name is None else f"no predictions of {shown(model_name)}"
    )
    raise InvalidInput(wrong, hint=f"models with predictions in this selection: {there}")


def ranked(
    scope: Scope,
    chosen: Chosen,
    metric: str,
    model_name: str,
    *,
    size: int,
    aggregate: str = "sum",
    highest: bool = True,
) -> pa.Table:
    """The `size` datapoints with the highest (or lowest) `metric`: id, score, items.

    `items` is how many numbers a score is made of. Ties come in the order of ids; datapoints
    without such a number do not come at all.
    """
    sql, parameters = _scores(scope, chosen, metric, model_name, aggregate)
    direction = "DESC" if highest else "ASC"
    executor = current()
    if executor is not None:
        found = scope.query(
            f"SELECT CAST(datapoint AS VARCHAR) AS id, score, items FROM ({sql}) "
            "ORDER BY datapoint",
            parameters,
        )
        return _ranked_in_parts(found, executor, size, highest)
    return scope.query(
        f"SELECT CAST(datapoint AS VARCHAR) AS id, score, items FROM ({sql}) "
        f"ORDER BY score {direction}, datapoint LIMIT $size",
        {**parameters, "size": size},
    )


def _ranked_in_parts(found: pa.Table, executor: Executor, size: int, highest: bool) -> pa.Table:
    """The best of each part, and the best of those; rows come sorted by id."""
    scores = found["score"].to_numpy()
    bounds = cut(len(scores), executor.width)
    best = executor.map(_top, [(scores[start:stop], size, highest) for start, stop in bounds])
    rows = np.concatenate([own + start for own, (start, _) in zip(best, bounds, strict=True)])
    order = top(scores[rows], size, highest=highest)
    return found.take(pa.array(rows[order]))


def _top(scores: NDArray[np.float64], size: int, highest: bool) -> NDArray[np.intp]:
    return top(scores, size, highest=highest)


def without_value(scope: Scope, select: Select, metric: str, model_name: str) -> int:
    """How many datapoints of the selection have no such number."""
    chosen = select.chosen()
    sql, parameters = _scores(scope, chosen, metric, model_name, "max")
    found = scope.query(
        f"SELECT (SELECT count(*) FROM ({chosen.sql})) - (SELECT count(*) FROM ({sql})) AS n",
        {**parameters, **chosen.parameters},
    )
    return int(found.column(0)[0].as_py())


def nothing_measured(scope: Scope, strategy: str, metric: str, model_name: str) -> InvalidInput:
    """What to say when no prediction has such a number."""
    names = ", ".join(metric_names(scope)) or "none"
    return InvalidInput(
        f"{strategy}: no prediction of {model_name!r} in the selection has a value for {metric}",
        hint="send predictions with logits or confidences (several passes for variance and bald); "
        f"metrics in this lake: {names}",
    )


def _scores(
    scope: Scope, chosen: Chosen, metric: str, model_name: str, aggregate: str
) -> tuple[str, dict[str, Any]]:
    """SQL of datapoint, score, items."""
    parameters = Parameters("m")
    model = parameters.add(model_name)
    picked = (
        f"SELECT id, datapoint, {_number('predictions', metric, parameters)} AS value "
        f"FROM {{predictions}} WHERE model_name = {model} AND {chosen.within()}"
    )
    numbers = {child: _number(child, metric, parameters) for child in _CHILDREN}
    known = _predicted(scope, [child for child, number in numbers.items() if number != "NULL"])
    # A condition on `value` would compute it once more.
    rows = ["SELECT datapoint, value FROM picked"]
    rows += [
        f"SELECT picked.datapoint, child.value FROM picked JOIN (SELECT prediction, "
        f"{numbers[child]} AS value FROM {{{child}}} WHERE prediction IS NOT NULL) AS child "
        "ON child.prediction = picked.id WHERE picked.value IS NULL"
        for child in known
    ]
    together, kept = f"{_AGGREGATES[aggregate]}(value)", "NOT MATERIALIZED"
    if len(rows) > 1:
        kept = "MATERIALIZED"
        # Threads add up in any order: what that changes in the last digits must not matter.
        together = f"round({together}, 12)"
    return (
        f"WITH picked AS {kept} ({picked}) SELECT datapoint, {together} AS score, "
        f"count(value) AS items FROM ({' UNION ALL '.join(rows)}) GROUP BY datapoint "
        "HAVING count(value) > 0",
        {**chosen.parameters, **parameters.values},
    )


def _number(table: str, metric: str, parameters: Parameters) -> str:
    if metric in _OF_COLUMN:
        column, sql = _OF_COLUMN[metric]
        return sql if column in TABLES[table].columns else "NULL"
    number = Field(table, TABLES[table].columns["metrics"], (metric,)).number(parameters)
    if table == "lanes" and metric == "entropy":
        return f"coalesce({number}, {_LANE_ENTROPY})"
    return number


def _predicted(scope: Scope, tables: list[str]) -> list[str]:
    """Those of the tables in which any row belongs to a prediction."""
    found = scope.query(
        "SELECT "
        + ", ".join(
            f"EXISTS (SELECT 1 FROM {{{table}}} WHERE prediction IS NOT NULL) AS {table}"
            for table in tables
        )
    )
    return [table for table in tables if found.column(table)[0].as_py()]
