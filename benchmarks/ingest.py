"""A file of records until `wait()` returns, beside `orjson.loads` of the same lines on one core."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import orjson

import katiml
from benchmarks import data
from benchmarks.common import Measure, Sizes, Topic, median_time, seconds

__all__ = ["run"]


def run(sizes: Sizes, folder: Path) -> Topic:
    """Heavy records with an embedding, and light ones with tags and a ground truth."""
    topic = Topic("Ingest", "orjson.loads, one core")
    heavy, light = sizes.of(20_000), sizes.of(200_000)
    for what, path, aim in (
        (f"{heavy:,} records, 10 logits + 512-d", data.embeddings_file(folder, heavy), "2.5"),
        (f"{light:,} records, 2 tags + truth", data.labels_file(folder, light), "3"),
    ):
        floor = median_time(lambda path=path: _parse(path), sizes.repeats, warm=1)
        here = statistics.median(_ingest(path) for _ in range(sizes.repeats))
        topic.measures.append(Measure(what, seconds(here), seconds(floor), here / floor, aim))
    return topic


def _parse(path: Path) -> None:
    for line in path.read_bytes().splitlines():
        orjson.loads(line)


def _ingest(path: Path) -> float:
    home = tempfile.mkdtemp(prefix="katiml-bench-")
    try:
        with katiml.connect(home) as lake:
            start = time.perf_counter()
            upload = lake.ingest(path).wait()
            spent = time.perf_counter() - start
            if upload.status != "SUCCEEDED" or upload.counts["rejected"]:
                raise RuntimeError(f"the upload went wrong: {upload.status} {upload.counts}")
        return spent
    finally:
        shutil.rmtree(home, ignore_errors=True)
