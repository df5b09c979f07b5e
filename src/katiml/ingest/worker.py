"""Uploads in the background: each on a thread, resumed by another process where one died."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from katiml.errors import Conflict, KatiMLError
from katiml.ingest.batch import Batch, Outcome, merged, prepare
from katiml.ingest.locations import open_location
from katiml.ingest.sources import Block, Meter, read_blocks
from katiml.ingest.state import (
    FINISHED,
    RUNNING,
    SUCCEEDED,
    Source,
    State,
    check_running,
    counted,
    insert,
    read_state,
    same_key,
    update,
    write_batch,
    write_rejected,
)
from katiml.records import Layouts, Parsed, Rejected, parse_lines, parse_objects
from katiml.records.parse import MAX_REJECTED_TEXT, no_garbage_collection
from katiml.store.scope import Scope, ScopedTransaction
from katiml.store.store import Store
from katiml.tasks.leases import HEARTBEAT_SECONDS, is_abandoned, is_own, worker_name

__all__ = ["adopt", "begin", "finish_uploads", "join", "resume_uploads"]

# A transaction this large is written straight into finished row groups, not through the log.
_BATCH_RECORDS = 122_880
_BATCH_BYTES = 48 << 20
# A smaller one costs more than it brings: its statements wait for the parser to let Python go.
_LEAST_BYTES = 16 << 20
_LONG_SECONDS = 1.0


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
# Why an upload of this process stopped without its state saying so.
_faults: dict[str, KatiMLError] = {}
_slots = threading.BoundedSemaphore(2)


def join(upload_id: str, timeout: float) -> bool:
    """Wait for an upload of this process, at most `timeout` seconds; False for any other.

    Raises what stopped it where its state could not be written.
    """
    if upload_id in _faults:
        raise _faults.pop(upload_id)
    own = _running.get(upload_id)
    if own is not None:
        own[0].join(timeout)
    return own is not None


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
    if seen.id in _running or not _is_abandoned(scope, seen):
        return False

    def work(transaction: ScopedTransaction) -> State | None:
        rows = transaction.query(
            "SELECT * FROM {uploads} WHERE id = $id::UUID", {"id": seen.id}
        ).to_pylist()
        state = State.of(rows[0]) if rows else None
        if state is None or state.status != RUNNING or state.worker != seen.worker:
            return None
        state.worker = worker_name()
        if not state.sources:
            # Records sent inline are with the process that is gone.
            state.finish(KatiMLError("the process that sent the records ended early"))
        update(transaction, state)
        return state

    state = scope.transact(work)
    if state is None or state.status in FINISHED:
        return False
    _start(scope, state, daemon=True)
    return True


def _is_abandoned(scope: Scope, state: State) -> bool:
    if is_own(state.worker):
        # Records sent inline are with a thread that is not among the running ones.
        return bool(state.sources)
    return is_abandoned(scope, "uploads", state.id, state.worker)


def _run(scope: Scope, state: State) -> None:
    try:
        with _slots:
            _work(scope, state)
    except KatiMLError as failure:
        # Not even the failure could be written: who waits is told.
        _faults[state.id] = failure
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
        worker, state = state.worker, read_state(scope, state.id)
        if state.status != RUNNING or state.worker != worker:
            return
    final = State(**vars(state))
    final.finish(error)

    def finish(transaction: ScopedTransaction) -> None:
        check_running(transaction, state)
        update(transaction, final)

    with suppress(Conflict):
        scope.transact(finish)
    if final.status == SUCCEEDED:
        for source in final.sources:
            if source.location.startswith("object://"):
                id_ = source.location.removeprefix("object://")
                scope.store.objects.delete(scope.organization_id, id_)


def _beat(scope: Scope, upload_id: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        # A beat that is missed is no harm; what stops the lake stops the upload itself.
        with suppress(KatiMLError):
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


@dataclass
class _Pending:
    """Blocks that wait to be written in one transaction."""

    batches: list[Batch] = field(default_factory=list)
    # Those of which a record may yet be refused, when its text is asked for.
    blocks: list[Block] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    after: int = 0
    read: int = 0
    new: int = 0
    size: int = 0

    def add(self, block: Block, parsed: Parsed, batch: Batch) -> None:
        """One more block, parsed and prepared."""
        self.batches.append(batch)
        if batch.waves or not all(item.record for item in batch.rejected):
            self.blocks.append(block)
        self.after = block.after
        self.read += parsed.count
        self.new += batch.new_datapoints
        self.size += batch.size

    @property
    def is_worthwhile(self) -> bool:
        """Whether it is enough for a transaction, or has waited for long."""
        return self.size >= _LEAST_BYTES or time.monotonic() - self.since >= _LONG_SECONDS

    @property
    def is_full(self) -> bool:
        """Whether nothing more may wait."""
        return (
            self.new >= _BATCH_RECORDS
            or self.size >= _BATCH_BYTES
            or any(batch.waves for batch in self.batches[-1:])
        )

    def text_of(self, line: int) -> str:
        """What was sent on a line, cut to what is kept of rejected records."""
        block = next((own for own in self.blocks if own.first <= line < own.after), None)
        if block is None or block.dropped:
            return ""
        if block.items is not None:
            return json.dumps(block.items[line - block.first], default=str)[:MAX_REJECTED_TEXT]
        text = block.text.split(b"\n")[line - block.first]
        return text.decode(errors="replace")[:MAX_REJECTED_TEXT]


def _read_source(scope: Scope, state: State, source: Source, meter: Meter) -> State:
    """Parse while what was parsed before is written."""
    before = state.bytes_read if state.source_position == 0 else 0
    with ThreadPoolExecutor(1, "upload-writer") as writer:
        writing: Future[State] | None = None
        pending = _Pending()
        layouts = Layouts()
        for block in read_blocks(meter):
            part = _window(block, source, state.source_position)
            if part is None:
                continue
            with no_garbage_collection():
                parsed = _parse(part, layouts)
                pending.add(part, parsed, prepare(parsed, scope.organization_id))
                del parsed
            ended = source.last is not None and block.after > source.last
            # Hand over when the writer is free; while it is not, let the batch grow.
            is_free = writing is None or writing.done()
            if pending.is_full or ended or (is_free and pending.is_worthwhile):
                state = writing.result() if writing else state
                done = before + meter.bytes_read
                writing = writer.submit(_write, scope, state, source, pending, done)
                pending = _Pending()
            if ended:
                break
        state = writing.result() if writing else state
        if pending.batches:
            state = _write(scope, state, source, pending, before + meter.bytes_read)
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


def _parse(block: Block, layouts: Layouts) -> Parsed:
    if block.items is not None:
        return parse_objects(block.items, block.first)
    parsed = parse_lines(block.text, block.first, layouts) if block.text else Parsed()
    for line, reason in block.dropped:
        parsed.rejected.append(Rejected(line, "", reason, ""))
    return parsed


def _write(scope: Scope, state: State, source: Source, pending: _Pending, bytes_read: int) -> State:
    def write(transaction: ScopedTransaction, outcome: Outcome) -> State:
        check_running(transaction, state)
        written = counted(state, pending.read, outcome)
        written.source_position = pending.after - 1
        written.bytes_read = bytes_read
        write_rejected(transaction, state.id, source.location, outcome.rejected, pending.text_of)
        update(transaction, written)
        return written

    written = write_batch(scope, merged(pending.batches), state, write)[1]
    # Arrow keeps what it frees, which over a long file adds up to more than the batches take.
    pa.default_memory_pool().release_unused()
    return written
