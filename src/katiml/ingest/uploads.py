"""Uploads: records on their way into the lake, with a state that survives a restart.

Records sent inline are committed when `ingest` returns. Files and URLs are read in the background,
one transaction a batch; the state of the upload changes in the same transactions, so that whoever
takes an interrupted upload over goes on exactly where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from katiml.errors import InvalidInput
from katiml.ingest.batch import Outcome, prepare
from katiml.ingest.locations import check_location, private_urls_allowed
from katiml.ingest.state import (
    FINISHED,
    Source,
    State,
    abort,
    counted,
    insert,
    read_state,
    update,
    write_batch,
    write_rejected,
)
from katiml.ingest.worker import adopt, begin, join
from katiml.records import parse_objects
from katiml.records.parse import MAX_REJECTED_TEXT
from katiml.store.ids import uuid7_strings
from katiml.store.scope import Scope, ScopedTransaction
from katiml.tasks.leases import worker_name

__all__ = ["Upload", "get_upload", "ingest", "ingest_records", "list_uploads"]

# Records of one transaction when they come as Python objects.
_OBJECTS = 5_000
_MAX_KEY = 255


class Upload:
    """Records on their way into the lake.

    >>> import katiml, tempfile
    >>> with tempfile.TemporaryDirectory() as folder, katiml.connect(folder) as lake:
    ...     upload = lake.ingest([{"type": "TEXT", "text": "hello"}, {"type": "SOUND"}]).wait()
    ...     upload.status, upload.counts, upload.rejected["path"].tolist()
    ('SUCCEEDED', {'read': 2, 'landed': 1, 'rejected': 1}, ['type'])
    """

    def __init__(self, scope: Scope, state: State) -> None:
        self._scope = scope
        self._state = state
        self.id = state.id

    def __repr__(self) -> str:
        state = self._state
        return (
            f"<Upload {self.id} {state.status}: {state.records_landed:,} landed, "
            f"{state.records_rejected:,} rejected>"
        )

    def refresh(self) -> State:
        """The state as it is now."""
        if self._state.status not in FINISHED:
            self._state = read_state(self._scope, self.id)
        return self._state

    @property
    def status(self) -> str:
        """RUNNING, SUCCEEDED, FAILED or ABORTED."""
        return self.refresh().status

    @property
    def counts(self) -> dict[str, int]:
        """How many records were read, landed, and were rejected so far."""
        state = self.refresh()
        return {
            "read": state.records_read,
            "landed": state.records_landed,
            "rejected": state.records_rejected,
        }

    @property
    def progress(self) -> float | None:
        """The share of the bytes that was read, 0 to 1; None while the size is not known."""
        state = self.refresh()
        if state.status in FINISHED:
            return 1.0
        return min(state.bytes_read / state.bytes_total, 1.0) if state.bytes_total else None

    @property
    def duration(self) -> float:
        """Seconds from its beginning to its end, or to now."""
        state = self.refresh()
        end = state.finished_at or datetime.now(UTC)
        return (end - (state.started_at or state.created_at)).total_seconds()

    @property
    def error(self) -> dict[str, Any] | None:
        """What went wrong where the status is FAILED or ABORTED: message, code, hint."""
        return self.refresh().error

    @property
    def rejected(self) -> Any:
        """A DataFrame of the rejected records: source, line, path, reason, record."""
        table = self._scope.query(_REJECTED, {"id": self.id})
        return table.to_pandas()

    def rejected_lines(self) -> Iterator[bytes]:
        """The rejected records as lines of JSON, each with source, line, path and reason."""
        for batch in self._scope.stream(_REJECTED, {"id": self.id}):
            for row in batch.to_pylist():
                yield orjson.dumps(row) + b"\n"

    def wait(
        self, timeout: float | None = None, *, on_progress: Callable[[Upload], None] | None = None
    ) -> Upload:
        """Return when the upload has finished, whatever its status.

        Raises TimeoutError after `timeout` seconds; the upload itself goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.01
        while self.refresh().status not in FINISHED:
            if on_progress:
                on_progress(self)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"upload {self.id} has not finished within {timeout} s")
            if not join(self.id, pause):
                adopt(self._scope, self._state)
                time.sleep(pause)
            pause = min(pause * 1.5, 0.5)
        # Its last step, clearing up, comes after its last state.
        join(self.id, 10)
        if on_progress:
            on_progress(self)
        return self

    def cancel(self) -> Upload:
        """Stop it; the records that have landed stay, and the status is ABORTED."""
        abort(self._scope, self.id)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Everything about it as plain values."""
        state = self.refresh()
        return {
            "id": self.id,
            "status": state.status,
            "counts": self.counts,
            "progress": self.progress,
            "sources": [source.location for source in state.sources],
            "error": state.error,
            "created_at": state.created_at,
            "started_at": state.started_at,
            "finished_at": state.finished_at,
            "duration": self.duration,
        }


def get_upload(scope: Scope, upload_id: str) -> Upload:
    """The upload of that id; NotFound where this organization has none."""
    return Upload(scope, read_state(scope, upload_id))


def list_uploads(scope: Scope, limit: int = 100) -> list[Upload]:
    """The latest uploads, the newest first."""
    rows = scope.query(
        "SELECT * FROM {uploads} ORDER BY created_at DESC, id DESC LIMIT $limit", {"limit": limit}
    )
    return [Upload(scope, State.of(row)) for row in rows.to_pylist()]


def ingest(
    scope: Scope,
    source: Any,
    *,
    idempotency_key: str | None = None,
    trusted: bool = True,
    allow_private: bool | None = None,
) -> Upload:
    """Begin to ingest records; inline records are committed when this returns.

    `source`: a record or an iterable of records (dicts), the path or URL of a file (or several), a
    `Source`, an open binary file, or bytes. The second upload with an `idempotency_key` is the
    first.

    Raises InvalidSource, Forbidden or InvalidInput where nothing can be begun. Wrong records do not
    raise: see `Upload.rejected`.
    """
    state = _new_state(idempotency_key)
    allowed = private_urls_allowed() if allow_private is None else allow_private
    if isinstance(source, Mapping):
        source = [source]
    if isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        content = bytes(source) if isinstance(source, bytearray | memoryview) else source
        stored = scope.store.objects.put(scope.organization_id, content)
        source = Source(f"object://{stored}")
    if isinstance(source, str | Path | Source):
        source = [source]
    if not isinstance(source, Iterable):
        raise InvalidInput(
            f"records cannot be read from {type(source).__name__}",
            hint="give a list of records, a path, a URL or an open binary file",
        )
    items = iter(source)
    first = list(islice(items, 1))
    if first and isinstance(first[0], str | Path | Source):
        state.sources = [
            _checked(item, trusted=trusted, allow_private=allowed) for item in [*first, *items]
        ]
        return Upload(scope, begin(scope, state))
    return _ingest_inline(scope, state, chain(first, items))


def ingest_records(
    scope: Scope, records: Iterable[Any], *, idempotency_key: str | None = None
) -> Upload:
    """Ingest records that a stranger sent inline; they are committed when this returns.

    Whatever an item is, it is taken as a record: a string is a wrong record, never a path.
    """
    return _ingest_inline(scope, _new_state(idempotency_key), iter(records))


def _new_state(idempotency_key: str | None) -> State:
    if idempotency_key is not None and not 0 < len(idempotency_key) <= _MAX_KEY:
        raise InvalidInput(f"an idempotency key has 1 to {_MAX_KEY} characters")
    return State(id=uuid7_strings(1)[0], idempotency_key=idempotency_key)


def _checked(item: Any, *, trusted: bool, allow_private: bool) -> Source:
    source = item if isinstance(item, Source) else Source(str(item))
    location = check_location(source.location, trusted=trusted, allow_private=allow_private)
    return Source(location, source.first, source.last, trusted, allow_private)


def _ingest_inline(scope: Scope, state: State, items: Iterator[Any]) -> Upload:
    state.started_at = state.created_at
    state.worker = worker_name()
    chunk = list(islice(items, _OBJECTS))
    is_first = True
    try:
        while True:
            following = list(islice(items, _OBJECTS))
            known, state = _write_chunk(scope, state, chunk, is_first, is_last=not following)
            if known is not None or not following:
                return Upload(scope, known or state)
            chunk, is_first = following, False
    except BaseException as error:
        if not is_first:
            state.finish(InvalidInput(f"the records ended early: {type(error).__name__}: {error}"))
            scope.transact(lambda transaction: update(transaction, state))
        raise


def _write_chunk(
    scope: Scope, state: State, chunk: list[Any], is_first: bool, is_last: bool
) -> tuple[State | None, State]:
    batch = prepare(parse_objects(chunk, state.records_read + 1), scope.organization_id)

    def text_of(number: int) -> str:
        item = chunk[number - state.records_read - 1]
        return json.dumps(item, default=str, skipkeys=True)[:MAX_REJECTED_TEXT]

    def write(transaction: ScopedTransaction, outcome: Outcome) -> State:
        written = counted(state, len(chunk), outcome)
        if is_last:
            written.finish()
        write_rejected(transaction, state.id, "records", outcome.rejected, text_of)
        (insert if is_first else update)(transaction, written)
        return written

    return write_batch(scope, batch, state, write, check_key=is_first)


_REJECTED = (
    "SELECT source, line, path, reason, record FROM {rejected_records} "
    "WHERE upload = $id::UUID ORDER BY id"
)
