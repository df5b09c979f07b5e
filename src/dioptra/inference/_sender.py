"""Records leave in the background, while the model works on the next batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["Sender"]


class Sender:
    """Calls `send` on one batch after another in a thread of its own, in order.

    At most two batches wait; `put` blocks until there is room, so that memory stays bounded where
    the model is faster than the lake. An error of `send` is raised by the next `put` or `close`.

    >>> sent = []
    >>> sender = Sender(sent.append)
    >>> sender.put([{"id": "a"}])
    >>> sender.close()
    >>> sent
    [[{'id': 'a'}]]
    """

    def __init__(self, send: Callable[[list[dict[str, Any]]], object], waiting: int = 2) -> None:
        self._send = send
        self._waiting = waiting
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="katiml-sender")
        self._pending: deque[Future[object]] = deque()

    def put(self, records: list[dict[str, Any]]) -> None:
        """Have `records` sent."""
        while self._pending and (self._pending[0].done() or len(self._pending) >= self._waiting):
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._send, records))

    def close(self) -> None:
        """Wait until everything is sent."""
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            # After an error nothing more is to be sent: later batches would leave a hole.
            self._pool.shutdown(cancel_futures=True)
