"""Classes of datapoints against their ground truths: one statement of SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from katiml.evaluation.metrics import Confusion, confusion_of
from katiml.evaluation.selection import Coverage, coverage
from katiml.query.fields import Parameters

if TYPE_CHECKING:
    import pyarrow as pa

    from katiml.evaluation.selection import Selected

__all__ = ["count_confusions", "list_mistakes"]


def count_confusions(selected: Selected) -> tuple[Confusion, Coverage]:
    """How often each class was taken for which. A prediction without a class counts as none."""
    found = selected.scope.query(
        "WITH truths AS NOT MATERIALIZED (SELECT datapoint, class_name FROM {groundtruths} "
        f"WHERE {selected.condition} AND class_name IS NOT NULL), said AS NOT MATERIALIZED ("
        "SELECT datapoint, class_name, TRUE AS there FROM {predictions} "
        "WHERE task_type = $task_type AND model_name = $model_name) "
        "SELECT truths.class_name AS truth, said.class_name AS predicted, said.there AS there, "
        "count(*) AS count FROM truths LEFT JOIN said ON said.datapoint = truths.datapoint "
        "GROUP BY truths.class_name, said.class_name, said.there",
        selected.parameters,
    ).to_pylist()
    labelled = sum(row["count"] for row in found)
    covered = coverage(selected, labelled, sum(row["count"] for row in found if row["there"]))
    counted = [row for row in found if row["there"] or selected.count_missing]
    confusion = confusion_of(
        [row["truth"] for row in counted],
        [row["predicted"] for row in counted],
        [row["count"] for row in counted],
    )
    return confusion, covered


def list_mistakes(
    selected: Selected, truth: str | None, predicted: str | None, limit: int, nothing: str
) -> pa.Table:
    """Datapoints of one cell of the confusion matrix, the most confident first.

    Without `truth` or `predicted`, of all cells of that column or row where they differ;
    `nothing` is the name of a class that was not predicted.
    """
    parameters = Parameters("m")
    wheres = ["truths.class_name IS NOT NULL"]
    if truth is not None:
        wheres.append(f"truths.class_name = {parameters.add(truth)}")
    if predicted == nothing:
        wheres.append("said.class_name IS NULL")
    elif predicted is not None:
        wheres.append(f"said.class_name = {parameters.add(predicted)}")
    if truth is None or predicted is None:
        wheres.append("said.class_name IS DISTINCT FROM truths.class_name")
    wheres.append("truths.datapoint IN (SELECT datapoint FROM used)")
    values: dict[str, Any] = {**selected.parameters, **parameters.values}
    return selected.scope.query(
        selected.with_pairs("class_name", "class_name, confidence")
        + "SELECT CAST(truths.datapoint AS VARCHAR) AS datapoint, truths.class_name AS truth, "
        "said.class_name AS predicted, said.confidence AS confidence, "
        "CAST(said.id AS VARCHAR) AS prediction "
        "FROM truths LEFT JOIN said ON said.datapoint = truths.datapoint "
        f"WHERE {' AND '.join(wheres)} "
        f"ORDER BY confidence DESC NULLS LAST, datapoint LIMIT {int(limit)}",
        values,
    )
