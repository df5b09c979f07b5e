"""What happened in a lake: its changes, and which of them are undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
from pyroaring import BitMap

from katiml.errors import InvalidInput
from katiml.query.ordering import whole_number
from katiml.query.values import as_uuid

if TYPE_CHECKING:
    import pandas as pd

    from katiml.store import Scope, ScopedTransaction

__all__ = [
    "Change",
    "changes_frame",
    "list_changes",
    "read_changes",
    "successor",
    "undoers",
    "undone",
]

_COLUMNS = "number, created_at, kind, author, summary, upload, undoes"


@dataclass(frozen=True)
class Change:
    """One row of `changes`."""

    number: int
    created_at: datetime
    kind: str
    author: str | None
    rows: Mapping[str, Mapping[str, int]]
    more: Mapping[str, Any]
    upload: str | None
    undoes: tuple[int, ...]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Change:
        """The change that a row describes."""
        summary = orjson.loads(row["summary"] or "{}")
        return cls(
            number=row["number"],
            created_at=row["created_at"],
            kind=row["kind"],
            author=row["author"],
            rows=summary.pop("rows", {}),
            more=summary,
            upload=None if row["upload"] is None else str(row["upload"]),
            undoes=tuple(row["undoes"] or ()),
        )

    def counted(self, what: str) -> dict[str, int]:
        """How many rows it "added", "removed" or "changed", by table."""
        return {table: counts[what] for table, counts in self.rows.items() if what in counts}

    def as_dict(self) -> dict[str, Any]:
        """The change as plain values."""
        return {
            "change": self.number,
            "created_at": self.created_at,
            "kind": self.kind,
            "author": self.author,
            "added": self.counted("added"),
            "removed": self.counted("removed"),
            "changed": self.counted("changed"),
            "upload": self.upload,
            "undoes": list(self.undoes),
            **({"details": dict(self.more)} if self.more else {}),
        }


def read_changes(
    reader: Scope | ScopedTransaction,
    where: str = "TRUE",
    parameters: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> list[Change]:
    """The changes for which `where` holds, the latest first."""
    end = "" if limit is None else f" LIMIT {limit}"
    rows = reader.query(
        f"SELECT {_COLUMNS} FROM {{changes}} WHERE {where} "
        f"ORDER BY created_at DESC, number DESC{end}",
        parameters or {},
    )
    return [Change.of(row) for row in rows.to_pylist()]


def undoers(reader: Scope | ScopedTransaction) -> dict[int, list[Change]]:
    """For each change that ever was undone, the changes that undid it, the latest first."""
    result: dict[int, list[Change]] = {}
    for change in read_changes(reader, "undoes IS NOT NULL"):
        for number in change.undoes:
            result.setdefault(number, []).append(change)
    return result


def undone(by: Mapping[int, Sequence[Change]]) -> BitMap:
    """The changes that are undone: whose undoing is not itself undone.

    >>> undone({})
    BitMap([])
    """
    undoes = {change.number: change.undoes for found in by.values() for change in found}
    waiting = {number: len(by.get(number, ())) for number in {*by, *undoes}}
    # Nothing has undone these, so that they stand; from them the state of all others follows.
    ready = [number for number in undoes if not waiting[number]]
    result = BitMap()
    while ready:
        number = ready.pop()
        if number not in result:
            result.update(undoes[number])
        for other in undoes[number]:
            waiting[other] -= 1
            if not waiting[other] and other in undoes:
                ready.append(other)
    return result


def successor(number: int, by: Mapping[int, Sequence[Change]]) -> int:
    """The change that stands for `number`, which is not undone: its last redoing, or itself."""
    gone = undone(by)
    while True:
        again = [
            redo.number
            for undo in by.get(number, ())
            for redo in by.get(undo.number, ())
            if redo.number not in gone
        ]
        if not again:
            return number
        number = again[0]


def list_changes(
    scope: Scope,
    limit: int | None = 100,
    *,
    kind: str | None = None,
    upload: str | None = None,
) -> list[dict[str, Any]]:
    """The latest changes as plain values, the latest first; `undone_by` is null for those in force.

    >>> from katiml.store import open_store, Scope
    >>> with open_store(getfixture("tmp_path")) as store:
    ...     list_changes(Scope(store))
    []
    """
    conditions, parameters = ["TRUE"], {}
    if kind is not None:
        conditions.append("kind = $kind")
        parameters["kind"] = str(kind)
    if upload is not None:
        id_ = as_uuid(upload)
        if id_ is None:
            raise InvalidInput(f"{str(upload)[:100]!r} is not the id of an upload")
        conditions.append("upload = CAST($upload AS UUID)")
        parameters["upload"] = id_
    found = read_changes(scope, " AND ".join(conditions), parameters, whole_number("limit", limit))
    by = undoers(scope)
    gone = undone(by)
    result = []
    for change in found:
        undone_by = None
        if change.number in gone:
            undone_by = next(undo.number for undo in by[change.number] if undo.number not in gone)
        result.append({**change.as_dict(), "undone_by": undone_by})
    return result


def changes_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The answer of `list_changes` as a DataFrame."""
    import pandas as pd

    columns = ["change", "created_at", "kind", "author", "added", "removed", "changed"]
    columns += ["upload", "undoes", "undone_by", "details"]
    frame = pd.DataFrame([dict(row) for row in rows], columns=columns)
    frame["undone_by"] = frame["undone_by"].astype("Int64")
    frame["created_at"] = pd.to_datetime(frame["created_at"], utc=True)
    return frame
