"""`python -m benchmarks`: every topic in one run, one table each."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks import (
    datasets,
    evaluation,
    history,
    imports,
    ingest,
    memory,
    miners,
    over_http,
    queries,
    training,
    transactions,
)
from benchmarks.common import Sizes, Topic, machine

__all__ = ["main", "show"]

_TOPICS = {
    "imports": imports.run,
    "transactions": transactions.run,
    "ingest": ingest.run,
    "memory": memory.run,
    "queries": queries.run,
    "history": history.run,
    "miners": miners.run,
    "evaluation": evaluation.run,
    "http": over_http.run,
    "datasets": datasets.run,
    "training": training.run,
}
_INTRODUCTION = """# Benchmarks

`make bench` prints these tables. Every figure stands beside a floor measured in the same run,
because only the ratio says something about another machine. Aims are ratios, but for memory and
the time of an import.

Measured on: {machine}. Sizes: {scale:g} of full.

"""


def main() -> None:
    """Parse the command line, run the topics, print and perhaps write their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--scale", type=float, help="any other part of the size, as 0.01")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--only", help=f"some topics: {','.join(_TOPICS)}")
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="files are kept here")
    parser.add_argument("--output", type=Path, help="also write the tables as Markdown")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(_TOPICS)
    if unknown := set(chosen) - set(_TOPICS):
        parser.error(f"unknown topics: {', '.join(sorted(unknown))}")
    sizes = Sizes(options.scale or (0.1 if options.quick else 1.0), options.repeats)
    options.folder.mkdir(parents=True, exist_ok=True)
    console = Console() if Console().is_terminal else Console(width=120)
    console.print(machine(), style="dim")
    topics = []
    for name in chosen:
        start = time.perf_counter()
        topics.append(_TOPICS[name](sizes, options.folder))
        show(console, topics[-1], time.perf_counter() - start)
    if options.output:
        introduction = _INTRODUCTION.format(machine=machine(), scale=sizes.scale)
        options.output.write_text(introduction + "\n".join(topic.markdown() for topic in topics))


def show(console: Console, topic: Topic, spent: float) -> None:
    """Print a table."""
    table = Table(
        title=topic.title,
        caption=f"{spent:.0f} s in all",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE,
    )
    for number, column in enumerate(topic.columns):
        table.add_column(column, justify="left" if number in (0, 4) else "right")
    for measure in topic.measures:
        table.add_row(*measure.cells())
    console.print(table)


if __name__ == "__main__":
    main()
