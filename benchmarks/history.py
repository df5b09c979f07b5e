"""Reading through a view of members and of the past, deleting with history, and undoing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyroaring import BitMap

import katiml
from benchmarks.common import Measure, Sizes, Topic, seconds
from katiml.store import Moment, Scope, ScopedTransaction, View
from katiml.store.ids import uuid7

__all__ = ["run"]

_READ = "SELECT id, metadata, created_at FROM {datapoints}"


def run(sizes: Sizes, _folder: Path) -> Topic:
    """Half of the datapoints, chosen at random, beside the same select without a view."""
    count = sizes.of(2_000_000)
    members = count // 2
    topic = Topic(f"History: {count:,} datapoints with a tag each", "without history")
    with tempfile.TemporaryDirectory(prefix="katiml-bench-") as home, katiml.connect(home) as lake:
        scope = lake.scope
        _fill(scope, count)
        chosen = np.sort(np.random.default_rng(0).choice(count, members, replace=False))
        whole = View(None, Moment.read(scope))
        some = View(BitMap(chosen.astype(np.uint32)), Moment.read(scope))
        # Every hundredth tag is set again, so that the past differs from the present.
        scope.transact(_retag)
        half = f'{_READ} WHERE "row" % 2 = 0'
        tags = "SELECT datapoint, value FROM {tags}"
        for what, here, beside, aim in (
            ("all, as of a moment", _query(scope.at(whole), _READ), _query(scope, _READ), ""),
            (
                f"{members:,} members, as of a moment",
                _query(scope.at(some), _READ),
                _query(scope, half),
                "1.3",
            ),
            ("all tags, as of a moment", _query(scope.at(whole), tags), _query(scope, tags), ""),
        ):
            topic.measures.append(_compared(what, here, beside, sizes.repeats, aim))
        few = max(count // 100, 10)
        filters = [{"left": "row", "op": "<", "right": few}]
        deleted = _timed(lambda: lake.datapoints.delete(filters))
        undone = _timed(lake.undo)
        again = _timed(lambda: scope.transact(lambda tx: _delete_for_good(tx, few)))
        topic.measures += [
            Measure(
                f"delete {few:,} datapoints", seconds(deleted), seconds(again), deleted / again
            ),
            Measure("undo that", seconds(undone), seconds(again), undone / again),
        ]
    return topic


def _fill(scope: Scope, count: int) -> None:
    step = 200_000
    for first in range(0, count, step):
        rows = np.arange(first, min(first + step, count))
        ids = uuid7(len(rows))
        datapoints = pa.table(
            {
                "id": ids,
                "row": rows,
                "type": ["IMAGE"] * len(rows),
                "metadata": [f'{{"uri":"s3://bucket/images/{row}.jpg"}}' for row in rows],
            }
        )
        tags = pa.table(
            {"id": uuid7(len(rows)), "datapoint": ids, "name": ["split"] * len(rows)}
        ).append_column("value", pa.array([str(row % 3) for row in rows]))

        def work(
            tx: ScopedTransaction, datapoints: pa.Table = datapoints, tags: Any = tags
        ) -> None:
            tx.append("datapoints", datapoints)
            tx.append("tags", tags)

        scope.transact(work)


def _retag(transaction: ScopedTransaction) -> None:
    chosen = 'datapoint IN (SELECT id FROM {datapoints} WHERE "row" % 100 = 0)'
    before = transaction.query(f"SELECT datapoint, name FROM {{tags}} WHERE {chosen}")
    transaction.remove("tags", chosen)
    fresh = {"id": uuid7(before.num_rows), "value": ["new"] * before.num_rows}
    for name, values in fresh.items():
        before = before.append_column(name, pa.array(values) if name == "value" else values)
    transaction.append("tags", before)


def _delete_for_good(transaction: ScopedTransaction, few: int) -> None:
    chosen = '(SELECT id FROM {datapoints} WHERE "row" < $few)'
    for table in ("tags", "groundtruths", "predictions", "bboxes", "lanes", "completions"):
        transaction.delete(table, f"datapoint IN {chosen}", {"few": few})
    transaction.delete("datapoints", '"row" < $few', {"few": few})


def _query(scope: Scope, sql: str) -> Callable[[], object]:
    return lambda: scope.query(sql)


def _compared(
    what: str, here: Callable[[], object], beside: Callable[[], object], repeats: int, aim: str
) -> Measure:
    """The best of alternating runs: another process may take the cores at any time."""
    times = [(_timed(here), _timed(beside)) for _ in range(repeats + 1)]
    own, floor = (min(column) for column in zip(*times[1:], strict=True))
    return Measure(what, seconds(own), seconds(floor), own / floor, aim)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
