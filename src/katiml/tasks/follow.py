"""Following a task until it is done, with a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

from katiml.tasks.queue import Task

__all__ = ["follow"]


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
    if on_progress is not None or sys.stderr is None or not sys.stderr.isatty():
        return _waited(task, timeout, on_progress)
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[message]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # Without a total the bar only shows that work goes on.
        shown = bar.add_task(escape(label), total=None, message="")

        def show(task: Task) -> None:
            state = task.seen
            share = state.progress
            bar.update(
                shown,
                total=None if share is None else 1.0,
                completed=share or 0.0,
                message=escape(state.message or state.status.lower()),
            )

        return _waited(task, timeout, show)


def _waited(task: Task, timeout: float | None, on_progress: Callable[[Task], None] | None) -> Task:
    try:
        return task.wait(timeout, on_progress=on_progress)
    except KeyboardInterrupt:
        task.cancel("stopped by the keyboard")
        raise
