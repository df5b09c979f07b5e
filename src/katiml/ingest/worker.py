"""Uploads in the background: each on a thread, resumed by another process where one died."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime

from katiml.errors import KatiMLError
from katiml.ingest.batch import Batch, Outcome, prepare
from katiml.ingest.locations import open_location
from katiml.ingest.sources import Block, Meter, read_blocks
from katiml.ingest.state import (
    RUNNING,
    SUCCEEDED,
    Source,
    State,
    counted,
    insert,
    read_state,
    same_key,
    update,
    write_batch,
    write_rejected,
)
from katiml.records import Parsed, Rejected, parse_lines, parse_objects
from katiml.store.scope import Scope, ScopedTransaction
from katiml.store.store import Store

__all__ = ["adopt", "begin", "finish_uploads", "resume_uploads", "worker_name"]

_HEARTBEAT_SECONDS = 15.0
# Another machine's upload is taken over when it has been silent for this long.
_SILENT_SECONDS = 120.0


def begin(scope: Scope, state: State) -> State:
    """Note an upload down and start it; or the state of the earlier one with the same key."""

    def work(transaction: ScopedTransaction) -> State | None:
        known = same_key(transaction, state)
        if known is None:
            insert(transaction, state)
        return known

    state.worker = worker_name()
    known = scope.transact(work)
    if known is not None:
        return known
    _start(scope, state, daemon=False)
    return state


# The uploads that this process is working on, and the lake of each.
_running: dict[str, tuple[threading.Thread, Store]] = {}
_running_lock = threading.Lock()
_slots = threading.BoundedSemaphore(2)


def worker_name() -> str:
    """This process, as other processes can recognise it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _start(scope: Scope, state: State, *, daemon: bool) -> None:
    with _running_lock:
        if state.id in _running:
            return
        thread = threading.Thread(
            target=_run, args=(scope, state), name=f"upload-{state.id}", daemon=daemon
        )
        _running[state.id] = thread, scope.store
        thread.start()


def finish_uploads(store: Store) -> None:
    """Wait for the uploads that this process is reading into a lake."""
    with _running_lock:
        threads = [thread for thread, own in _running.values() if own is store]
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()


def resume_uploads(scope: Scope) -> int:
    """Take over the uploads whose process is gone; returns how many."""
    rows = scope.query("SELECT * FROM {uploads} WHERE status = 'RUNNING'").to_pylist()
    return sum(adopt(scope, State.of(row)) for row in rows)


def adopt(scope: Scope, seen: State) -> bool:
    """Go on with an upload whose process is gone."""
    if seen.id in _running or not seen.sources or not _is_abandoned(scope, seen):
        return False

    def work(transaction: ScopedTransaction) -> State | None:
        rows = transaction.query(
            "SELECT * FROM {uploads} WHERE id = $id::UUID", {"id": seen.id}
        ).to_pylist()
        state = State.of(rows[0]) if rows else None
        if state is None or state.status != RUNNING or state.worker != seen.worker:
            return None
        state.worker = worker_name()
        update(transaction, state)
        return state

    state = scope.transact(work)
    if state is None:
        return False
    _start(scope, state, daemon=True)
    return True


def _is_abandoned(scope: Scope, state: State) -> bool:
    host, _, process = (state.worker or ":0").rpartition(":")
    if host == socket.gethostname():
        if int(process) == os.getpid():
            return state.id not in _running
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    silent = scope.query(
        "SELECT date_diff('second', updated_at, now()) AS seconds FROM {uploads} "
        "WHERE id = $id::UUID",
        {"id": state.id},
    ).to_pylist()
    return bool(silent) and silent[0]["seconds"] > _SILENT_SECONDS


def _run(scope: Scope, state: State) -> None:
    try:
        with _slots:
            _work(scope, state)
    finally:
        with _running_lock:
            _running.pop(state.id, None)


def _work(scope: Scope, state: State) -> None:
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(scope, state.id, stop), daemon=True)
    beat.start()
    state.started_at = state.started_at or datetime.now(UTC)
    error: KatiMLError | None = None
    try:
        state = _read_sources(scope, state)
    except KatiMLError as failure:
        error = failure
    except Exception as failure:  # noqa: BLE001 - a worker's fault belongs into the state, not into a log
        error = KatiMLError(f"{type(failure).__name__}: {failure}", hint="please report this")
    finally:
        stop.set()
    if error is not None:
        state = read_state(scope, state.id)
    final = State(**vars(state))
    final.finish(error)
    scope.transact(lambda transaction: update(transaction, final))
    if final.status == SUCCEEDED:
        for source in final.sources:
            if source.location.startswith("object://"):
                id_ = source.location.removeprefix("object://")
                scope.store.objects.delete(scope.organization_id, id_)


def _beat(scope: Scope, upload_id: str, stop: threading.Event) -> None:
    while not stop.wait(_HEARTBEAT_SECONDS):
        scope.transact(
            lambda transaction: transaction.update(
                "uploads", "updated_at = now()", "id = $id::UUID", {"id": upload_id}
            )
        )


def _read_sources(scope: Scope, state: State) -> State:
    while state.source_number < len(state.sources):
        source = state.sources[state.source_number]
        with ExitStack() as stack:
            raw, size = stack.enter_context(
                open_location(
                    scope,
                    source.location,
                    trusted=source.trusted,
                    allow_private=source.allow_private,
                )
            )
            if len(state.sources) == 1:
                state.bytes_total = size
            meter = Meter(raw)
            state = _read_source(scope, state, source, meter)
        state = State(**vars(state))
        state.source_number += 1
        state.source_position = 0
    return state


def _read_source(scope: Scope, state: State, source: Source, meter: Meter) -> State:
    """Parse one block while the one before is written."""
    before = state.bytes_read if state.source_position == 0 else 0
    with ThreadPoolExecutor(1, "upload-writer") as writer:
        pending: Future[State] | None = None
        for block in read_blocks(meter):
            part = _window(block, source, state.source_position)
            if part is None:
                continue
            read, parsed = _parse(part)
            batch = prepare(parsed, scope.organization_id)
            position = block.after - 1
            bytes_read = before + meter.bytes_read
            if pending is not None:
                state = pending.result()
            pending = writer.submit(
                _write_block, scope, state, source, batch, read, position, bytes_read
            )
            if source.last is not None and position >= source.last:
                break
        if pending is not None:
            state = pending.result()
    return state


def _window(block: Block, source: Source, done: int) -> Block | None:
    """The part of a block that is wanted and not yet done; lines count from 1 here."""
    first = max(block.first, source.first + 1, done + 1)
    end = block.after if source.last is None else min(block.after, source.last + 1)
    if first >= end:
        return None
    if (first, end) == (block.first, block.after) or block.dropped:
        return block
    if block.items is not None:
        return Block(first, items=block.items[first - block.first : end - block.first])
    lines = block.text.split(b"\n")[first - block.first : end - block.first]
    return Block(first, b"\n".join(lines) + b"\n")


def _parse(block: Block) -> tuple[int, Parsed]:
    if block.items is not None:
        return len(block.items), parse_objects(block.items, block.first)
    parsed = parse_lines(block.text, block.first) if block.text else Parsed()
    for line, reason in block.dropped:
        parsed.rejected.append(Rejected(line, "", reason, ""))
    return len(parsed.lines) + len(parsed.rejected), parsed


def _write_block(
    scope: Scope,
    state: State,
    source: Source,
    batch: Batch,
    read: int,
    position: int,
    bytes_read: int,
) -> State:
    def write(transaction: ScopedTransaction, outcome: Outcome) -> State:
        written = counted(state, read, outcome)
        written.source_position = position
        written.bytes_read = bytes_read
        write_rejected(transaction, state.id, source.location, outcome.rejected)
        update(transaction, written)
        return written

    return write_batch(scope, batch, state, write)[1]
