"""`import katiml`, beside the libraries that it cannot do without."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.common import Measure, Sizes, Topic, median_time, seconds

__all__ = ["run"]


def run(sizes: Sizes, _folder: object) -> Topic:
    """New processes, less what an empty Python takes. The engine is loaded with `connect`."""
    topic = Topic("import katiml", "import duckdb, pyarrow, numpy")
    empty = _time("pass", sizes)
    floor = _time("import duckdb, pyarrow, numpy", sizes) - empty
    for statement in ("import katiml", "import katiml; katiml.connect"):
        here = max(_time(statement, sizes) - empty, 0.0)
        topic.measures.append(
            Measure(statement, seconds(here), seconds(floor), here / floor, "< 300 ms")
        )
    return topic


def _time(statement: str, sizes: Sizes) -> float:
    command = [sys.executable, "-c", statement]
    return median_time(
        lambda: subprocess.run(command, check=True), repeats=2 * sizes.repeats + 1, warm=1
    )
