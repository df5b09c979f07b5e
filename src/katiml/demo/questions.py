"""What the demo asks a lake. Each question is shown as the code that is then run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from katiml.demo.showing import bars, pictures, run_code, table
from katiml.errors import InvalidSource

if TYPE_CHECKING:
    from rich.console import Console

    from katiml.lake import Lake

__all__ = ["POOL", "TRAIN", "ask", "doubts", "upload"]

_DOUBTS = 50  # the most uncertain ones, compared with the rest
_PICTURES = 8  # of them, this many are drawn

TRAIN = """train = [
    {"left": "tags.name", "op": "=", "right": "split"},
    {"left": "tags.value", "op": "=", "right": "train"},
]"""
POOL = TRAIN.replace("train", "pool")
_EIGHTS = 'eights = [*train, {"left": "groundtruths.class_name", "op": "=", "right": "8"}]'
_SELECT = """lake.datapoints.select(
    eights,
    fields=["metadata.uri", "groundtruths.class_name", "predictions.confidence"],
    limit=3,
)"""
_RANK = """lake.predictions.select(
    pool,
    fields=["datapoint", "class_name", "confidence", "metrics.entropy"],
    order_by="metrics.entropy",
    desc=True,
)"""


def upload(console: Console, lake: Lake, path: Path) -> None:
    """A file of records, in the background."""
    from katiml.cli.progress import follow

    upload = run_code(console, {"lake": lake}, f'lake.ingest("{path.as_posix()}")')
    follow(upload, "upload", console)
    if upload.status != "SUCCEEDED" or upload.counts["rejected"]:
        raise InvalidSource(f"the demo's records did not land: {upload.error or upload.counts}")
    landed, duration = upload.counts["landed"], upload.duration
    console.print(f"{upload.status}: {landed:,} records, {landed / duration:,.0f} a second\n")


def ask(console: Console, lake: Lake) -> None:
    """Filters, counts and distributions."""
    names: dict[str, Any] = {"lake": lake}
    run_code(console, names, TRAIN)
    counts = run_code(console, names, "lake.datapoints.count(), lake.datapoints.count(train)")
    console.print(counts, "")
    run_code(console, names, _EIGHTS)
    console.print(table(run_code(console, names, _SELECT)), "")
    console.print(bars(run_code(console, names, "lake.predictions.distribution()")), "")
    entropies = run_code(console, names, 'lake.predictions.distribution("metrics.entropy")')
    console.print(bars(entropies), "")


def doubts(console: Console, lake: Lake, truth: dict[str, int]) -> None:
    """What the model is least sure of in the pool, and whether that is where it is wrong."""
    names: dict[str, Any] = {"lake": lake}
    run_code(console, names, POOL)
    ranked = run_code(console, names, _RANK)
    images = lake.datapoints.select(names["pool"], ["id", "metadata.uri"])
    ranked = ranked.merge(images, left_on="datapoint", right_on="id")
    console.print(f"The most uncertain of {len(ranked):,}, and what the model takes them for:\n")
    console.print(pictures(console, ranked.head(_PICTURES)))
    right = ranked["metadata.uri"].map(truth).astype(str) == ranked["class_name"]
    console.print(
        f"\nThe model is right on [bold]{right[:_DOUBTS].mean():.0%}[/] of the {_DOUBTS} digits it"
        f" is least sure of, and on [bold]{right[_DOUBTS:].mean():.0%}[/] of the others:"
        " label those first.\n"
    )
