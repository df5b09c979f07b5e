"""Records that wait on a device's disk until they are uploaded."""

from __future__ import annotations

import json
import os
import struct
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from katiml.edge.encode import encode_record
from katiml.edge.journal import Entry, Journal
from katiml.edge.send import Send, Sent, Uploaded, sender
from katiml.errors import InvalidInput, StorageFull, TooLarge

__all__ = ["Spool"]

_RECORD, _DISCARD, _SENDING, _STATE = 1, 2, 3, 4
_LENGTH = struct.Struct("<I")
# One transaction of the lake, so that a batch lands whole or not at all.
_BATCH_RECORDS = 1_000


class Spool:
    """A folder of records that survives power loss, for one process at a time.

    `append` returns when a record is on the disk: a checksummed entry of a log, synced
    (`sync=False` is faster, and loses the last seconds when power goes). A half-written tail is
    recovered when the folder is opened again; `damaged` counts what could not be read then.
    `max_bytes` bounds the disk: past it StorageFull is raised. One thread may upload while others
    append.

    >>> with Spool(getfixture("tmp_path") / "spool") as spool:
    ...     ticket = spool.append({"type": "TEXT", "text": "kept"})
    ...     [record["text"] for _, record in spool.records()], len(spool)
    (['kept'], 1)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        max_bytes: int = 1 << 30,
        segment_bytes: int = 8 << 20,
        sync: bool = True,
    ) -> None:
        if max_bytes <= 0 or segment_bytes <= 0:
            raise InvalidInput("max_bytes and segment_bytes are at least 1")
        self._max_bytes = max_bytes
        self._journal = Journal(folder, segment_bytes=segment_bytes, sync=sync)
        self._lock = threading.RLock()
        self._uploading = threading.Lock()
        # Ticket -> where its record is, in the order of tickets.
        self._live: dict[int, Entry] = {}
        self._sending: tuple[str, list[int]] | None = None
        self._next = 1
        self._state: dict[str, Any] = {}
        try:
            for entry, body in self._journal.replay():
                self._apply(entry, body)
        except BaseException:
            self._journal.close()
            raise
        self._live = dict(sorted(self._live.items()))

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._live)

    def __repr__(self) -> str:
        return f"<Spool {self._journal.folder}: {len(self):,} records, {self.disk_bytes:,} bytes>"

    @property
    def tickets(self) -> list[int]:
        """The tickets of its records, the oldest first."""
        with self._lock:
            return list(self._live)

    @property
    def disk_bytes(self) -> int:
        """What it takes on the disk."""
        return self._journal.size

    @property
    def damaged(self) -> int:
        """How many places could not be read when it was opened."""
        return self._journal.damaged

    def close(self) -> None:
        """Let the folder go."""
        self._journal.close()

    @property
    def state(self) -> dict[str, Any]:
        """What `remember` was told last: plain JSON, for whoever fills the spool."""
        return dict(self._state)

    def remember(self, state: Mapping[str, Any]) -> None:
        """Keep a small note about the spool itself; it survives power loss as records do."""
        with self._lock:
            self._append(_STATE, self._next, _json(state))

    def append(self, record: Mapping[str, Any], *, note: Mapping[str, Any] | None = None) -> int:
        """Keep a record; returns its ticket. `note`, plain JSON, stays with it on the device.

        Raises StorageFull past `max_bytes` or when the disk is full, InvalidRecord for what JSON
        cannot hold; nothing has changed then.
        """
        record_text = encode_record(record)
        with self._lock:
            body = _body(_json(note or {}), record_text)
            if self.disk_bytes + len(body) > self._max_bytes:
                self._tidy(everything=True)
            if self.disk_bytes + len(body) > self._max_bytes:
                raise StorageFull(
                    f"the spool {self._journal.folder} has reached {self._max_bytes:,} bytes",
                    hint="upload it, or open it with larger max_bytes",
                )
            ticket = self._next
            self._append(_RECORD, ticket, body)
            return ticket

    def discard(self, tickets: Iterable[int]) -> None:
        """Give records up; unknown tickets are ignored."""
        with self._lock:
            gone = [ticket for ticket in tickets if ticket in self._live]
            if gone:
                self._append(_DISCARD, self._next, struct.pack(f"<{len(gone)}Q", *gone))
                self._tidy()

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Tickets and records, the oldest first, as they were encoded."""
        for ticket, record, _ in self.noted_records():
            yield ticket, record

    def noted_records(self) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
        """Tickets, records and notes, the oldest first."""
        for ticket in self.tickets:
            body = self._read(ticket)
            if body is not None:
                end = _end_of_note(body)
                yield ticket, json.loads(body[end:]), json.loads(body[_LENGTH.size : end])

    def upload(
        self,
        destination: Any,
        *,
        api_key: str | None = None,
        batch_bytes: int = 4 << 20,
        on_progress: Callable[[float], None] | None = None,
    ) -> Uploaded:
        """Send the records that are here now to a lake, in batches, and let go of what arrived.

        `destination` is the address of a KatiML server, a `katiml.Lake`, or a function of the body
        and an idempotency key that returns a `Sent`. A batch that was under way when the process
        or the power went is sent again under the same key, so nothing lands twice. Records that the
        lake rejects are kept there, with the reason, under `Uploaded.ids`. `on_progress` is called
        with the share done.

        Raises LakeBusy when there is no answer, Unauthorized for a wrong key; what was not
        acknowledged stays.
        """
        send = sender(destination, api_key)
        total = Uploaded()
        with self._uploading:
            last, count = self._next, max(1, len(self))
            while self._plan(last, batch_bytes):
                total = total.plus(self._send(send))
                if on_progress:
                    left = sum(ticket < last for ticket in self.tickets)
                    on_progress(1 - min(left, count) / count)
        return total

    def _plan(self, last: int, batch_bytes: int) -> bool:
        """Write down which records go next, and under which key; False when none is left."""
        with self._lock:
            if self._sending is not None:
                return True
            tickets: list[int] = []
            size = 0
            for ticket, entry in self._live.items():
                size += entry.length
                full = size > batch_bytes or len(tickets) >= _BATCH_RECORDS
                if ticket >= last or (tickets and full):
                    break
                tickets.append(ticket)
            if tickets:
                self._write_plan(tickets)
            return bool(tickets)

    def _write_plan(self, tickets: list[int], key: str | None = None) -> None:
        plan = {"key": key or uuid.uuid4().hex, "tickets": tickets}
        self._append(_SENDING, self._next, json.dumps(plan).encode())

    def _send(self, send: Send) -> Sent:
        with self._lock:
            if self._sending is None:
                return Sent()
            key, tickets = self._sending
            # What was given up since may have arrived before, which does no harm.
            raw = [self._read(ticket) for ticket in tickets]
        present = [body[_end_of_note(body) :] for body in raw if body is not None]
        answer = Sent()
        if present:
            try:
                answer = send(b'{"records":[' + b",".join(present) + b"]}", key)
            except TooLarge:
                # Refused before anything was done: half of it may pass.
                if len(tickets) == 1:
                    raise
                with self._lock:
                    self._write_plan(tickets[: len(tickets) // 2])
                return Sent()
        with self._lock:
            self._append(_DISCARD, self._next, struct.pack(f"<{len(tickets)}Q", *tickets))
            self._tidy()
        return answer

    # -- the log -----------------------------------------------------------------------------

    def _append(self, kind: int, number: int, body: bytes) -> None:
        entry = self._journal.append(kind, number, body)
        self._apply(entry, body)

    def _apply(self, entry: Entry, body: bytes) -> None:
        """What an entry says, whether it was just written or is read back."""
        self._next = max(self._next, entry.number + 1)
        if entry.kind == _RECORD:
            self._live[entry.number] = entry
        elif entry.kind == _DISCARD:
            gone = struct.unpack(f"<{len(body) // 8}Q", body)
            for ticket in gone:
                self._live.pop(ticket, None)
            if self._sending is not None and set(self._sending[1]) <= set(gone):
                self._sending = None
        elif entry.kind == _SENDING:
            plan = json.loads(body)
            self._sending = (plan["key"], plan["tickets"])
        elif entry.kind == _STATE:
            self._state = json.loads(body)

    def _read(self, ticket: int) -> bytes | None:
        """The note and the JSON of a record; None where it is gone, or cannot be read any more."""
        with self._lock:
            entry = self._live.get(ticket)
            body = None if entry is None else self._journal.read(entry)
            if body is not None:
                return body
            if entry is not None:
                self._journal.damaged += 1
                del self._live[ticket]
            return None

    def _tidy(self, *, everything: bool = False) -> None:
        """Delete segments without records, from the oldest on; copy what keeps an old one.

        An entry may speak of records in older segments only, so the oldest can always go.
        """
        for oldest in sorted(self._journal.sizes)[:-1]:
            live = {n: entry for n, entry in self._live.items() if entry.segment == oldest}
            used = sum(entry.length for entry in live.values())
            waste = self.disk_bytes - sum(entry.length for entry in self._live.values())
            wasteful = used < 0.9 * self._journal.sizes[oldest] if everything else False
            if live and not wasteful and waste <= self.disk_bytes // 2:
                return
            for ticket in live:
                body = self._read(ticket)
                if body is not None:
                    self._append(_RECORD, ticket, body)
            if self._state:
                self._append(_STATE, self._next, _json(self._state))
            if self._sending is not None:
                key, tickets = self._sending
                self._write_plan(tickets, key)
            self._journal.remove(oldest)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _body(note: bytes, record: bytes) -> bytes:
    return _LENGTH.pack(len(note)) + note + record


def _end_of_note(body: bytes) -> int:
    return _LENGTH.size + int(_LENGTH.unpack_from(body)[0])
