"""What is compared: the ground truths of a selection, and one model's predictions of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from katiml.errors import InvalidInput, NotFound
from katiml.query.aggregate import model_names, within
from katiml.query.fields import shown, suggestion
from katiml.query.filters import compile_filters
from katiml.query.values import plain
from katiml.schema import LOOKUPS, TASK_TYPES

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = [
    "BOXED",
    "EVALUATED",
    "Coverage",
    "Selected",
    "coverage",
    "coverage_of",
    "select_truths",
]

BOXED = ("OBJECT_DETECTION", "INSTANCE_SEGMENTATION")
EVALUATED = ("CLASSIFICATION", *BOXED, "SEGMENTATION")


@dataclass(frozen=True)
class Selected:
    """Ground truths and predictions of one task type, as SQL with its parameters.

    `with_pairs` begins a statement that has `truths` and `said`, each with the columns of its
    table, and `used` with the datapoints that are compared.
    """

    scope: Scope
    model_name: str
    task_type: str
    condition: str
    parameters: dict[str, Any]
    count_missing: bool

    def with_pairs(self, truth: str, prediction: str) -> str:
        """`WITH truths, said, used`: the columns `truth` and `prediction` beside id, datapoint."""
        among = "" if self.count_missing else " WHERE datapoint IN (SELECT datapoint FROM said)"
        # Each is read several times, and a filter on tags or boxes costs a join each time.
        return (
            f"WITH truths AS MATERIALIZED (SELECT id, datapoint, {truth} FROM {{groundtruths}} "
            f"WHERE {self.condition}), said AS MATERIALIZED (SELECT id, datapoint, {prediction} "
            "FROM {predictions} WHERE task_type = $task_type AND model_name = $model_name "
            "AND datapoint IN (SELECT datapoint FROM truths)), "
            f"used AS (SELECT DISTINCT datapoint FROM truths{among}) "
        )


def select_truths(
    scope: Scope,
    model_name: str,
    filters: Any = None,
    task_type: str | None = None,
    *,
    count_missing: bool = False,
    also_predicted_by: Sequence[str] = (),
) -> Selected:
    """The comparison of `model_name` with the ground truths of datapoints that pass `filters`.

    With `also_predicted_by`, only of datapoints that all those models have predicted too. Raises
    NotFound for a model without predictions, InvalidInput where there is nothing to compare.
    """
    if not isinstance(model_name, str):
        raise InvalidInput(f"model_name is {shown(model_name)}", hint="give the name of a model")
    chosen = compile_filters("datapoints", filters)
    condition = within("datapoints", "groundtruths", chosen).sql
    parameters = {**chosen.parameters, "model_name": plain(model_name)}
    kind = _task_type(scope, model_name, condition, parameters, task_type)
    parameters["task_type"] = kind
    condition = f"task_type = $task_type AND {condition}"
    others = [name for name in dict.fromkeys(also_predicted_by) if name != model_name]
    if others:
        parameters |= {"others": [plain(name) for name in others], "other_count": len(others)}
        condition += (
            " AND datapoint IN (SELECT datapoint FROM {predictions} WHERE task_type = $task_type "
            "AND model_name IN (SELECT unnest($others)) GROUP BY datapoint "
            "HAVING count(DISTINCT model_name) = $other_count)"
        )
    return Selected(scope, model_name, kind, condition, parameters, count_missing)


@dataclass(frozen=True)
class Coverage:
    """How many datapoints are compared, and how many have ground truths but no prediction."""

    datapoints: int
    without_prediction: int


def coverage_of(selected: Selected) -> Coverage:
    """Counted by a statement of its own. Raises InvalidInput where none was predicted."""
    counts = selected.scope.query(
        selected.with_pairs("task_type", "task_type")
        + "SELECT count(DISTINCT datapoint) AS labelled, count(DISTINCT datapoint) FILTER "
        "(WHERE datapoint IN (SELECT datapoint FROM said)) AS predicted FROM truths",
        selected.parameters,
    ).to_pylist()[0]
    return coverage(selected, counts["labelled"], counts["predicted"])


def coverage(selected: Selected, labelled: int, predicted: int) -> Coverage:
    """The same from counts. Raises InvalidInput where none was predicted."""
    if not predicted:
        raise InvalidInput(
            f"{shown(selected.model_name)} has predicted none of the {labelled:,} datapoints"
            f" with ground truths of {selected.task_type}",
            hint="other filters, or predictions with its logits, classes or boxes",
        )
    compared = labelled if selected.count_missing else predicted
    return Coverage(compared, labelled - predicted)


def _task_type(
    scope: Scope,
    model_name: str,
    condition: str,
    parameters: dict[str, Any],
    task_type: str | None,
) -> str:
    """The task type asked for, or the only one there is."""
    known = LOOKUPS["task_type"].get(task_type or "", task_type)
    if known is not None and known not in EVALUATED:
        raise InvalidInput(
            f"{shown(task_type)} cannot be evaluated"
            if known in TASK_TYPES
            else f"task_type is {shown(task_type)}",
            hint=f"task types that can be: {', '.join(EVALUATED)}",
        )
    predicted = scope.query(
        "SELECT DISTINCT task_type FROM {predictions} WHERE model_name = $model_name",
        {"model_name": parameters["model_name"]},
    )["task_type"].to_pylist()
    if not predicted:
        names = model_names(scope)
        near = suggestion(model_name, names)
        listed = ", ".join(map(repr, names[:20])) or "none"
        raise NotFound(
            f"no predictions of a model {shown(model_name)}",
            hint=f"did you mean {near!r}?" if near else f"models with predictions: {listed}",
        )
    labelled = scope.query(
        f"SELECT DISTINCT task_type FROM {{groundtruths}} WHERE {condition}",
        {name: value for name, value in parameters.items() if name != "model_name"},
    )["task_type"].to_pylist()
    both = [kind for kind in EVALUATED if kind in predicted and kind in labelled]
    if known is None and len(both) == 1:
        return both[0]
    if known is not None and known in both:
        return known
    if known is None and len(both) > 1:
        raise InvalidInput(
            f"{shown(model_name)} has predictions of {' and '.join(both)}",
            hint=f"choose one: task_type={both[0]!r}",
        )
    kinds = [known] if known else [kind for kind in predicted if kind in EVALUATED]
    missing = "predictions" if set(kinds) & set(labelled) else "ground truths"
    raise InvalidInput(
        f"nothing to compare: no {missing} of {' or '.join(kinds) or ' or '.join(EVALUATED)}"
        f" in the selection for {shown(model_name)}",
        hint=f"ground truths there: {', '.join(sorted(filter(None, labelled))) or 'none'}; "
        f"predictions: {', '.join(sorted(filter(None, predicted)))}",
    )
