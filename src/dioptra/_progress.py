"""Progress on standard error, on a terminal only; and the files that progress is measured on."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

__all__ = ["Kept", "Sending", "bar", "is_terminal", "spool"]

_SPOOL_BYTES = 8 << 20


def is_terminal() -> bool:
    """Whether a person may be looking at standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def bar(
    text: str, total: float | None, unit: str | None = None
) -> Iterator[Callable[[float], None]]:
    """A progress bar; yields a function that says how far the work is. With a `unit`, it shows
    how many are done, and how many a second.

    >>> with bar("reading", 10) as reached:
    ...     reached(5)
    """
    if not is_terminal():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.completed:,.0f} {unit}, {task.speed or 0:,.0f} a second")

    columns = [*Progress.get_default_columns(), *([Rate()] if unit else [])]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(task, completed=done)


def spool() -> Any:
    """A temporary binary file that stays in memory while it is small."""
    return tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # the caller's


class Kept(io.RawIOBase):
    """Writes into a file that stays open when this is closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


class Sending(io.RawIOBase):
    """One file of a multipart body: `head`, the file from its start, the closing boundary."""

    def __init__(self, file: IO[bytes], size: int, head: bytes, boundary: str) -> None:
        file.seek(0)
        tail = f"\r\n--{boundary}--\r\n".encode()
        self._parts: list[IO[bytes]] = [io.BytesIO(head), file, io.BytesIO(tail)]
        self._sent = 0
        self._stack = contextlib.ExitStack()
        self._reached = self._stack.enter_context(bar("uploading", size))

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while self._parts:
            data = self._parts[0].read(size)
            if data:
                self._sent += len(data)
                self._reached(self._sent)
                return data
            self._parts.pop(0)
        self._stack.close()
        return b""
