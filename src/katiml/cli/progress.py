"""Progress bars: of an upload until it is done, and of any work that says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from katiml.ingest import Upload

__all__ = ["follow", "share_bar"]


def follow(upload: Upload, label: str, console: Console) -> Upload:
    """Wait until an upload is done, showing on `console` how far it is."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[landed]:,} records"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        # Without a total, as while the size is not known, the bar only shows that work goes on.
        task = bar.add_task(escape(label), total=None, landed=0)

        def show(upload: Upload) -> None:
            share = upload.progress
            bar.update(
                task,
                total=None if share is None else 1.0,
                completed=share,
                landed=upload.counts["landed"],
            )

        return upload.wait(on_progress=show)


@contextmanager
def share_bar(label: str, console: Console) -> Iterator[Callable[[float], None]]:
    """A bar on `console`, gone when the work is done; yields a function that takes the share."""
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escape(label), total=1.0)
        yield lambda share: bar.update(task, completed=share)
