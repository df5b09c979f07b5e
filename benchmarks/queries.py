"""Queries on a million datapoints, beside the best SQL we can write by hand for the same answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import katiml
from benchmarks import data
from benchmarks.common import Measure, Sizes, Topic, median_time, seconds
from katiml.schema import SCHEMA_VERSION

__all__ = ["BEST_FIELDS", "JOINED_FIELDS", "THREE_FILTERS", "build_lake", "run"]

THREE_FILTERS = [
    {"left": "tags.name", "op": "=", "right": "source"},
    {"left": "tags.value", "op": "=", "right": "camera_7"},
    {"left": "groundtruths.class_name", "op": "=", "right": "class_7"},
]
JOINED_FIELDS = [
    "id",
    "type",
    "metadata",
    "created_at",
    "groundtruths.id",
    "groundtruths.task_type",
    "groundtruths.class_name",
]
BEST_FIELDS = ["id", "datapoint", "class_name", "confidence", "metrics"]

_MATCHING = """
    FROM lake.datapoints d
    WHERE d.organization_id = 'default'
      AND d.id IN (SELECT datapoint FROM lake.tags
                   WHERE organization_id = 'default' AND name = 'source' AND value = 'camera_7')
      AND d.id IN (SELECT datapoint FROM lake.groundtruths
                   WHERE organization_id = 'default' AND class_name = 'class_7')
"""
_BY_HAND = {
    "select": f"""
        WITH chosen AS MATERIALIZED (SELECT d.id, d.type, d.metadata, d.created_at {_MATCHING})
        SELECT chosen.*, truths.truths
        FROM chosen JOIN (
            SELECT datapoint,
                   list({{'id': id, 'task_type': task_type, 'class_name': class_name}}) AS truths
            FROM lake.groundtruths
            WHERE organization_id = 'default' AND datapoint IN (SELECT id FROM chosen)
            GROUP BY datapoint
        ) truths ON truths.datapoint = chosen.id
        ORDER BY chosen.created_at, chosen.id
    """,
    "count": f"SELECT count(*) {_MATCHING}",
    "best": """
        SELECT id, datapoint, class_name, confidence, metrics
        FROM lake.predictions
        WHERE organization_id = 'default'
        ORDER BY CAST(metrics ->> 'entropy' AS DOUBLE) DESC NULLS LAST, created_at, id
        LIMIT 1000
    """,
}


def run(sizes: Sizes, folder: Path) -> Topic:
    """Three filters with joined ground truths, a count, and the most uncertain thousand."""
    count = sizes.of(1_000_000)
    topic = Topic(f"Queries on {count:,} datapoints", "SQL by hand, same engine")
    with katiml.connect(build_lake(folder, count)) as lake:
        store = lake.scope.store
        for name, what, ask in (
            (
                "select",
                "3 filters + ground truths",
                lambda: lake.datapoints.select(THREE_FILTERS, JOINED_FIELDS, form="arrow"),
            ),
            ("count", "count, the same 3 filters", lambda: lake.datapoints.count(THREE_FILTERS)),
            ("best", "top 1,000 by entropy", lambda: most_uncertain(lake)),
        ):
            check(name, ask(), store.query(_BY_HAND[name]))
            here = median_time(ask, sizes.repeats + 2, warm=1)
            floor = median_time(lambda name=name: store.query(_BY_HAND[name]), sizes.repeats + 2, 1)
            topic.measures.append(Measure(what, seconds(here), seconds(floor), here / floor, "1.5"))
    return topic


def most_uncertain(lake: Any) -> Any:
    """The thousand predictions with the highest entropy."""
    return lake.predictions.select(
        None, BEST_FIELDS, order_by="metrics.entropy", desc=True, limit=1000, form="arrow"
    )


def check(name: str, ours: Any, theirs: Any) -> None:
    """A comparison means something only where both give the same answer."""
    if name == "count":
        same = ours == theirs.column(0)[0].as_py()
    else:
        same = ours["id"].to_pylist() == theirs["id"].to_pylist() and ours.num_rows > 0
    if not same:
        raise RuntimeError(f"KatiML and the SQL by hand disagree on {name!r}")


def build_lake(folder: Path, count: int) -> str:
    """The lake the queries ask, ingested once and kept in `folder`."""
    home = folder / f"lake-{count}-schema-{SCHEMA_VERSION}"
    done = home / "complete"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        with katiml.connect(str(home)) as lake:
            upload = lake.ingest(data.pool_file(folder, count)).wait()
            if upload.status != "SUCCEEDED":
                raise RuntimeError(f"the lake could not be built: {upload.error}")
        done.touch()
    return str(home)
