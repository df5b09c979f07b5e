"""`import katiml`, beside the libraries that it cannot do without."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.common import Measure, Sizes, Topic, median_time, seconds

__all__ = ["run"]


def run(sizes: Sizes, _folder: object) -> Topic:
    """New processes, less what an empty Python takes."""
    topic = Topic("import katiml", "import duckdb, pyarrow, numpy")
    empty = _time("pass", sizes)
    here = _time("import katiml; katiml.connect", sizes) - empty
    floor = _time("import duckdb, pyarrow, numpy", sizes) - empty
    topic.measures.append(
        Measure("import katiml", seconds(here), seconds(floor), here / floor, "< 300 ms")
    )
    return topic


def _time(statement: str, sizes: Sizes) -> float:
    command = [sys.executable, "-c", statement]
    return median_time(
        lambda: subprocess.run(command, check=True), repeats=2 * sizes.repeats + 1, warm=1
    )
