"""The classes of ground truths or predictions as samples: one branch of SQL a task type."""

from __future__ import annotations

from collections.abc import Iterable

from katiml.query.fields import quoted

__all__ = ["class_samples"]


def class_samples(table: str, rows: str, task_types: Iterable[str]) -> str:
    """SQL of datapoint, task_type, bucket, weight for the rows of `table` that meet `rows`.

    Labels count by class, boxes by their class, masks by pixels, lanes by their number and
    completions by their words. Only `task_types` are looked for.

    >>> print(class_samples("groundtruths", "TRUE", ["CLASSIFICATION"]))
    WITH picked AS NOT MATERIALIZED (SELECT id, datapoint, task_type, class_name, metrics \
FROM {groundtruths} WHERE TRUE) SELECT datapoint, task_type, class_name AS bucket, 1 AS weight \
FROM picked WHERE task_type = 'CLASSIFICATION'
    """
    key = quoted(table.removesuffix("s"))
    branches = [
        branch.replace("«key»", key).replace("«type»", f"'{task_type}'")
        for task_type in sorted(task_types)
        for branch in _BRANCHES.get(task_type, ())
    ]
    if not branches:
        return (
            "SELECT CAST(NULL AS UUID) AS datapoint, CAST(NULL AS VARCHAR) AS task_type, "
            "CAST(NULL AS VARCHAR) AS bucket, 1 AS weight WHERE FALSE"
        )
    # One branch reads only what it needs; several share what the filters found.
    kept = "MATERIALIZED" if len(branches) > 1 and rows != "TRUE" else "NOT MATERIALIZED"
    return (
        f"WITH picked AS {kept} (SELECT id, datapoint, task_type, class_name, metrics "
        f"FROM {{{table}}} WHERE {rows}) {' UNION ALL '.join(branches)}"
    )


_OWN = (
    "SELECT datapoint, task_type, class_name AS bucket, 1 AS weight FROM picked "
    "WHERE task_type = «type»"
)
# A detection without boxes may be a box itself.
_BOXED = (
    f"{_OWN} AND class_name IS NOT NULL "
    "AND id NOT IN (SELECT «key» FROM {bboxes} WHERE «key» IS NOT NULL)",
    "SELECT picked.datapoint, task_type, boxes.class_name AS bucket, 1 AS weight "
    "FROM picked JOIN {bboxes} AS boxes ON boxes.«key» = picked.id WHERE task_type = «type»",
)
_BRANCHES = {
    "CLASSIFICATION": (_OWN,),
    "NER": (_OWN,),
    "OBJECT_DETECTION": _BOXED,
    "INSTANCE_SEGMENTATION": _BOXED,
    "SEGMENTATION": (
        "SELECT datapoint, task_type, entry.key AS bucket, entry.value AS weight FROM ("
        "SELECT datapoint, task_type, unnest(map_entries(CAST("
        "json_extract(metrics, '/distribution') AS MAP(VARCHAR, DOUBLE)))) AS entry "
        "FROM picked WHERE task_type = «type»)",
    ),
    "LANE_DETECTION": (
        "SELECT any_value(picked.datapoint) AS datapoint, «type» AS task_type, "
        "CAST(count(lanes.id) AS VARCHAR) AS bucket, 1 AS weight "
        "FROM picked LEFT JOIN {lanes} AS lanes ON lanes.«key» = picked.id "
        "WHERE task_type = «type» GROUP BY picked.id",
    ),
    "COMPLETION": (
        "SELECT picked.datapoint, task_type, "
        "CAST(len(string_split(texts.text, ' ')) AS VARCHAR) AS bucket, 1 AS weight "
        "FROM picked JOIN {completions} AS texts ON texts.«key» = picked.id "
        "WHERE task_type = «type»",
    ),
}
