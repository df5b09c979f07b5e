"""Versions of datasets: how long they take, and what they weigh on disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import katiml
from benchmarks.common import Measure, Sizes, Topic, median_time, seconds
from katiml.lake import Lake

__all__ = ["run"]

_HALF = {"left": "type", "op": "=", "right": "IMAGE"}
_APART = 10_000
_COMMITS, _CHANGES = 1000, 100
_FULL = (10_000, 1_000_000, 10_000_000)
_MAIN = 1_000_000


def run(sizes: Sizes, _folder: Path) -> Topic:
    """Beside copying a row for each member, as versions of datasets are commonly kept."""
    topic = Topic("Dataset versions", "a row a member, same engine")
    for full in _FULL:
        count = sizes.of(full)
        with (
            tempfile.TemporaryDirectory(prefix="katiml-bench-") as home,
            katiml.connect(home) as lake,
        ):
            _fill(lake, 2 * count)
            _versions(topic, lake, count, sizes.repeats if full <= _MAIN else 1)
            if full == _MAIN:
                _reading(topic, lake, sizes.repeats)
        if full == _MAIN:
            _many_commits(topic, count, sizes.of(_COMMITS), sizes.of(_CHANGES))
    return topic


def _fill(lake: Lake, rows: int) -> None:
    """Datapoints of which every other one, at random, is an image: the worst case for bitmaps."""
    lake.scope.store.transact(
        lambda transaction: transaction.execute(
            "INSERT INTO lake.datapoints (id, organization_id, type, metadata, created_at, row, "
            "since) SELECT uuidv7(), 'default', CASE hash(range) % 2 WHEN 0 THEN 'IMAGE' ELSE "
            "'TEXT' END, json_object('uri', 's3://bucket/' || range, 'width', range % 1000), now(),"
            " range, 0 FROM range($rows)",
            {"rows": rows},
        )
    )


def _other_ids(lake: Lake, count: int) -> list[str]:
    """Ids of datapoints that are no images, spread over the lake."""
    found = lake.datapoints.select(
        {"left": "type", "op": "=", "right": "TEXT"}, fields=["id"], form="arrow"
    )["id"].to_pylist()
    chosen = np.random.default_rng(0).choice(len(found), min(count, len(found)), replace=False)
    return [found[index] for index in chosen]


def _versions(topic: Topic, lake: Lake, count: int, repeats: int) -> None:
    dataset = lake.datasets.create("all")
    start = time.perf_counter()
    dataset.add(filters=_HALF)
    adding = time.perf_counter() - start
    first = dataset.commit("first")
    rows = _Rows(lake)
    floor = _once(lambda: rows.copy(0, 1))
    size = f"{first.size:,} members"
    measures = topic.measures
    measures.append(_compared(f"add by filter, {size}", adding, floor))

    apart = min(_APART, count // 10)
    changes = _other_ids(lake, apart * repeats)
    commits = []
    for number in range(repeats):
        dataset.add(changes[number * apart : (number + 1) * apart])
        commits.append(_once(lambda: dataset.commit("more")))
    taken = float(np.median(commits))
    aim = "< 20 ms" if count == _MAIN else ""
    measures.append(_compared(f"commit, {size}", taken, floor, aim))

    head = dataset.at("HEAD")

    def checkouts() -> None:
        dataset.checkout(first)
        dataset.checkout(head)

    taken = median_time(checkouts, repeats) / 2
    measures.append(_compared(f"checkout, {size}", taken, floor))

    pair = (dataset.at("HEAD~1").id, head.id)
    floor = median_time(lambda: rows.difference(0, 1), repeats)
    taken = median_time(lambda: _counted(dataset.diff(*pair)), repeats, warm=1)
    aim = "< 10 ms" if count == _MAIN else ""
    what = f"diff, {apart:,} apart, {size}"
    measures.append(_compared(what, taken, floor, aim))
    taken = median_time(lambda: dataset.diff(*pair).ids("added"), repeats)
    measures.append(_compared(f"the same with ids, {size}", taken, floor))


def _compared(what: str, taken: float, floor: float, aim: str = "") -> Measure:
    return Measure(what, seconds(taken), seconds(floor), taken / floor, aim)


def _once(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _counted(diff: Any) -> tuple[int, int]:
    return diff.added_count, diff.removed_count


class _Rows:
    """What versions cost as rows: a table of (version, datapoint), copied at each commit."""

    def __init__(self, lake: Lake) -> None:
        self.store = lake.scope.store
        self.execute("CREATE TABLE lake.copied (version INTEGER, datapoint UUID)")
        self.execute(
            "INSERT INTO lake.copied SELECT 0, id FROM lake.datapoints WHERE type = 'IMAGE'"
        )

    def execute(self, sql: str) -> None:
        self.store.transact(lambda transaction: transaction.execute(sql))

    def copy(self, source: int, target: int) -> None:
        self.execute(
            f"INSERT INTO lake.copied SELECT {target}, datapoint FROM lake.copied "
            f"WHERE version = {source}"
        )

    def difference(self, before: int, after: int) -> None:
        for one, other in ((before, after), (after, before)):
            self.store.query(
                "SELECT count(*) FROM (SELECT datapoint FROM lake.copied WHERE version = $one "
                "EXCEPT SELECT datapoint FROM lake.copied WHERE version = $other)",
                {"one": one, "other": other},
            )


def _reading(topic: Topic, lake: Lake, repeats: int) -> None:
    """The datapoints of a version, beside as many chosen by a filter of the whole lake."""
    dataset = lake.datasets.create("read")
    dataset.add(filters=_HALF)
    version = dataset.commit("first")

    def drain(rows: Any, filters: Any) -> int:
        batches = rows.select(filters, form="batches")
        return sum(batch.num_rows for batch in batches)

    floor = median_time(lambda: drain(lake.datapoints, _HALF), repeats, warm=1)
    taken = median_time(lambda: drain(version.datapoints, None), repeats, warm=1)
    what = f"read a version's {version.size:,} of {2 * version.size:,} datapoints"
    topic.measures.append(_compared(f"{what} (beside: an unversioned select)", taken, floor, "1.3"))


def _many_commits(topic: Topic, count: int, commits: int, changes: int) -> None:
    """Commits that change little, one after the other, and what is on disk afterwards."""
    with tempfile.TemporaryDirectory(prefix="katiml-bench-") as home:
        with katiml.connect(home) as lake:
            _fill(lake, 2 * count)
            dataset = lake.datasets.create("grows")
            dataset.add(filters=_HALF)
            dataset.commit("first")
            others = np.array(_other_ids(lake, count))
        before = _bytes(home)
        with katiml.connect(home) as lake:
            dataset = lake.datasets.get("grows")
            random = np.random.default_rng(1)
            taken = 0.0
            for number in range(commits):
                dataset.add(random.choice(others, changes, replace=False).tolist())
                taken += _once(lambda number=number: dataset.commit(f"commit {number}"))
        grown = _bytes(home) - before
    row = 16 + 16  # the ids of a version and of a datapoint
    floor = row * count * commits
    what = f"{commits:,} commits of {changes:,} changes to {count:,}"
    aim = "< 50 MB" if count == _MAIN else ""
    topic.measures += [
        Measure(f"{what}, on disk", _size(grown), _size(floor), grown / floor, aim),
        Measure("one of these commits, on disk", _size(grown / commits), _size(floor / commits),
                grown / floor, "< 1 MB"),
        Measure("one of these commits", seconds(taken / commits)),
    ]  # fmt: skip


def _bytes(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def _size(value: float) -> str:
    return f"{value / 1e6:.3g} MB" if value < 1e9 else f"{value / 1e9:.3g} GB"
