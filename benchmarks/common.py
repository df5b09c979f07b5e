"""Timing, sizes, and the tables that the benchmarks print."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Measure", "Sizes", "Topic", "machine", "median_time", "seconds"]


@dataclass(frozen=True)
class Sizes:
    """How much data each topic works on; `scale` 1 is what the documentation reports."""

    scale: float = 1.0
    repeats: int = 3

    def of(self, full: int) -> int:
        """A number of records at this scale.

        >>> Sizes(0.1).of(20_000)
        2000
        """
        return max(int(full * self.scale), 10)


@dataclass(frozen=True)
class Measure:
    """One line of a table. `ratio` is what KatiML takes over what the floor takes."""

    what: str
    here: str
    beside: str = ""
    ratio: float | None = None
    aim: str = ""

    def cells(self) -> tuple[str, str, str, str, str]:
        """The line as text, in the order of `Topic.columns`."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.what, self.here, self.beside, ratio, self.aim


@dataclass
class Topic:
    """One table of results."""

    title: str
    beside: str
    measures: list[Measure] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, str, str, str, str]:
        """The headings; the third names what KatiML is compared with."""
        return "what", "KatiML", self.beside, "ratio", "aim"

    def markdown(self) -> str:
        """The table for the documentation."""
        rows = [self.columns, ("---",) * 5, *(measure.cells() for measure in self.measures)]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n"


def seconds(value: float) -> str:
    """A duration with three digits and a fitting unit.

    >>> seconds(0.01234), seconds(2.5), seconds(0.000215)
    ('12.3 ms', '2.50 s', '0.215 ms')
    """
    return f"{value:.3g} s" if value >= 100 else _short(value)


def _short(value: float) -> str:
    number, unit = (value, "s") if value >= 1 else (value * 1000, "ms")
    digits = 2 if number < 10 else 1 if number < 100 else 0
    return f"{number:.{3 if number < 1 else digits}f} {unit}"


def median_time(work: Callable[[], object], repeats: int = 3, warm: int = 0) -> float:
    """The median of several runs, in seconds, after `warm` runs that are not counted."""
    for _ in range(warm):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def machine() -> str:
    """What the numbers were measured on, in one line."""
    import duckdb

    import katiml

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB memory, {platform.system()}, "
        f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, "
        f"KatiML {katiml.__version__}"
    )


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
