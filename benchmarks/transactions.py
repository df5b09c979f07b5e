"""A thousand records sent one by one, each durable when the call returns."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

import katiml
from benchmarks.common import Measure, Sizes, Topic, seconds

__all__ = ["run"]


def run(sizes: Sizes, _folder: Path) -> Topic:
    """Beside the engine's own transaction of one inserted row."""
    count = sizes.of(1000)
    topic = Topic(f"{count:,} single-record transactions", "one row, one commit, same engine")
    with tempfile.TemporaryDirectory(prefix="katiml-bench-") as home, katiml.connect(home) as lake:
        start = time.perf_counter()
        for index in range(count):
            lake.ingest([{"type": "TEXT", "text": f"record {index}", "tags": {"split": "pool"}}])
        here = (time.perf_counter() - start) / count
        if lake.datapoints.count() != count:
            raise RuntimeError("records are missing")
        start = time.perf_counter()
        for index in range(count):
            row = pa.table({"name": [f"row {index}"], "value": [str(index)]})
            lake.scope.store.transact(lambda transaction, row=row: _insert(transaction, row))
        floor = (time.perf_counter() - start) / count
    topic.measures.append(
        Measure("a datapoint with a tag", seconds(here), seconds(floor), here / floor)
    )
    return topic


def _insert(transaction: Any, row: pa.Table) -> None:
    transaction.append("settings", row)
