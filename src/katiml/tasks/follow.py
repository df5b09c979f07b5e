"""Following a task until it is done, with a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from katiml.tasks.queue import Task

__all__ = ["bar", "follow"]


def follow(
    task: Task,
    label: str,
    timeout: float | None = None,
    *,
    on_progress: Callable[[Task], None] | None = None,
) -> Task:
    """Wait until a task has come to its end; on a terminal, show on standard error how far it is.

    `on_progress(task)` is called now and then, instead of the bar. Ctrl-C stops the task. Raises
    TimeoutError after `timeout` seconds; the task goes on.
    """
    if on_progress is not None:
        return _waited(task, timeout, on_progress)
    with bar(label) as reached:

        def show(task: Task) -> None:
            state = task.seen
            reached(state.progress, state.message or state.status.lower())

        return _waited(task, timeout, show)


@contextmanager
def bar(label: str) -> Iterator[Callable[[float | None, str], None]]:
    """A bar on standard error, where a person looks at it: a terminal or a notebook.

    Yields a function that takes the share that is done (None: not known) and a few words.

    >>> with bar("mining") as reached:
    ...     reached(0.5, "half")
    """
    if not _is_watched():
        yield lambda _share, _message: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[message]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        # Without a total the bar only shows that work goes on.
        shown = progress.add_task(escape(label), total=None, message="")

        def reached(share: float | None, message: str) -> None:
            progress.update(
                shown,
                total=None if share is None else 1.0,
                completed=share or 0.0,
                message=escape(message),
            )

        yield reached


def _is_watched() -> bool:
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal or "ipykernel" in sys.modules


def _waited(task: Task, timeout: float | None, on_progress: Callable[[Task], None] | None) -> Task:
    try:
        return task.wait(timeout, on_progress=on_progress)
    except KeyboardInterrupt:
        task.cancel("stopped by the keyboard")
        raise
