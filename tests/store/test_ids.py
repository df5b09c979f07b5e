"""Identifiers: valid, in order, and never the same twice."""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

import pyarrow as pa
import pytest

from katiml.store import ids
from katiml.store.ids import uuid7, uuid7_strings


def test_they_are_uuids_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    for made in uuid7(1000).to_pylist():
        assert (made.version, made.variant) == (7, RFC_4122)
        assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_text_is_the_usual_form() -> None:
    for text in uuid7_strings(10):
        assert str(UUID(text)) == text


def test_they_strictly_increase_over_many_calls() -> None:
    made = [text for count in (1, 2, 100_000, 1, 3) * 20 for text in uuid7_strings(count)]
    assert all(one < other for one, other in itertools.pairwise(made))


def test_each_call_of_a_thread_comes_after_what_was_made_before() -> None:
    with ThreadPoolExecutor(4) as threads:
        blocks = list(threads.map(lambda _: uuid7_strings(1000), range(40)))
    made = [text for block in blocks for text in block]
    assert len(set(made)) == len(made)
    assert all(block == sorted(block) for block in blocks)
    # Blocks do not interleave: each is a stretch of the counter of its own.
    starts = sorted(blocks)
    assert all(one[-1] < other[0] for one, other in itertools.pairwise(starts))


def test_a_clock_set_back_does_not_set_the_order_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = uuid7_strings(1)[0]
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert uuid7_strings(1)[0] > first


def test_none_is_an_empty_array() -> None:
    assert len(uuid7(0)) == 0 and uuid7(0).type == pa.uuid() and uuid7_strings(0) == []


def test_a_forked_child_does_not_repeat_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither by the counter (time stands still here) nor by luck of the random bits.
    monkeypatch.setattr(time, "time_ns", lambda: 2**60)
    uuid7(1)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, str(ids._reserve(10)[1]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(reading, 100))
    os.close(reading)
    os.close(writing)
    ours = ids._reserve(10)[1]
    assert abs(theirs - ours) >= 10
