"""Time-ordered identifiers (UUID version 7), made many at a time."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pyarrow as pa

__all__ = ["uuid7", "uuid7_strings"]

# Behind the 48-bit millisecond stand 42 bits of counter (12 of rand_a, 30 of rand_b), then 32
# random bits. The counter starts at a random 41-bit value in each new millisecond, so it cannot
# overflow and two processes practically never meet.
_COUNTER_START_BITS = 41
_LOW_COUNTER_BITS = 30

_lock = threading.Lock()
_last_millisecond = 0
_next_counter = 0


def _reset_after_fork() -> None:
    # A forked child that kept the parent's counter would walk through the parent's identifiers.
    global _lock, _last_millisecond, _next_counter  # noqa: PLW0603
    _lock = threading.Lock()
    _last_millisecond = 0
    _next_counter = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def _reserve(count: int) -> tuple[int, int]:
    """Take `count` counter values nobody else in this process gets: (millisecond, first value)."""
    global _last_millisecond, _next_counter  # noqa: PLW0603
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_millisecond:  # a clock set back must not set the order back
            _last_millisecond = now
            _next_counter = int.from_bytes(os.urandom(8)) >> (64 - _COUNTER_START_BITS)
        first = _next_counter
        _next_counter += count
        return _last_millisecond, first


def _uuid7_bytes(count: int) -> bytes:
    millisecond, first = _reserve(count)
    counter = np.arange(first, first + count, dtype=np.uint64)
    random = np.frombuffer(os.urandom(4 * count), dtype=np.uint32).astype(np.uint64)
    words = np.empty((count, 2), dtype=">u8")
    high = np.uint64(millisecond << 16 | 0x7000)
    words[:, 0] = high | (counter >> np.uint64(_LOW_COUNTER_BITS))
    low_counter = counter & np.uint64((1 << _LOW_COUNTER_BITS) - 1)
    words[:, 1] = np.uint64(0b10 << 62) | (low_counter << np.uint64(32)) | random
    return words.tobytes()


def uuid7(count: int) -> pa.Array:
    """Make `count` UUIDv7, strictly increasing within this process, across threads too.

    Returns an Arrow array of `pa.uuid()`, length `count`.

    >>> ids = uuid7(3)
    >>> ids.type == pa.uuid(), len(ids), ids[0].as_py().version
    (True, 3, 7)
    """
    storage = pa.Array.from_buffers(pa.binary(16), count, [None, pa.py_buffer(_uuid7_bytes(count))])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def uuid7_strings(count: int) -> list[str]:
    """Make `count` UUIDv7 in their usual text form, strictly increasing within this process.

    >>> first, second = uuid7_strings(2)
    >>> first < second, len(first)
    (True, 36)
    """
    text = _uuid7_bytes(count).hex()
    return [
        f"{text[i : i + 8]}-{text[i + 8 : i + 12]}-{text[i + 12 : i + 16]}"
        f"-{text[i + 16 : i + 20]}-{text[i + 20 : i + 32]}"
        for i in range(0, 32 * count, 32)
    ]
