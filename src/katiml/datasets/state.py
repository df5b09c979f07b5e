"""Rows of datasets and versions as objects, read through a Scope or one of its transactions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import pyarrow as pa

from katiml.datasets.sets import Reader
from katiml.errors import Conflict, InvalidInput, NotFound
from katiml.query.fields import shown
from katiml.store.scope import ScopedTransaction

__all__ = [
    "DatasetState",
    "VersionState",
    "checked_text",
    "find_dataset",
    "foreign_version",
    "insert_dataset",
    "is_id",
    "list_datasets",
    "lock",
    "matching",
    "read_dataset",
    "read_tags",
    "read_version",
    "read_versions",
    "save",
]

_MAX_NAME = 200
_MAX_MESSAGE = 10_000
# Shorter beginnings of an id say too little.
_MIN_PREFIX = 4
_HEX = frozenset("0123456789abcdef-")


@dataclass(frozen=True)
class DatasetState:
    """One row of `datasets`."""

    id: str
    name: str
    created_at: datetime
    created_by: str | None
    head: str | None
    members: str
    draft: str
    revision: int
    deleted: bool = False

    def summary(self) -> dict[str, Any]:
        """What an edit may change, as `dataset_edits` keeps it."""
        kept = ("name", "head", "members", "deleted")
        return {name: getattr(self, name) for name in kept}


@dataclass(frozen=True)
class VersionState:
    """One row of `dataset_versions`, without its moment."""

    id: str
    dataset: str
    revision: int
    parents: tuple[str, ...]
    message: str
    author: str | None
    created_at: datetime
    members: str
    size: int
    added: int
    removed: int


_DATASET = (
    "SELECT id, name, created_at, created_by, head, members, draft, revision, deleted "
    "FROM {datasets}"
)
_VERSION = (
    "SELECT id, dataset, revision, parents, message, author, created_at, members, size, added, "
    "removed FROM {dataset_versions} WHERE NOT withdrawn"
)


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, UUID) else value for name, value in row.items()}


def _datasets(table: pa.Table) -> list[DatasetState]:
    return [DatasetState(**_texts(row)) for row in table.to_pylist()]


def _versions(table: pa.Table) -> list[VersionState]:
    return [
        VersionState(**{**_texts(row), "parents": tuple(map(str, row["parents"]))})
        for row in table.to_pylist()
    ]


# -- reading ---------------------------------------------------------------------------------


def list_datasets(reader: Reader) -> list[DatasetState]:
    """The datasets that are not deleted, in the order they were made."""
    return _datasets(reader.query(f"{_DATASET} WHERE NOT deleted ORDER BY created_at, id"))


def read_dataset(reader: Reader, dataset: str, *, deleted: bool = False) -> DatasetState:
    """The dataset of that id; raises NotFound, also for one that was deleted."""
    found = _datasets(
        reader.query(f"{_DATASET} WHERE id = CAST($dataset AS UUID)", {"dataset": dataset})
    )
    if not found:
        raise NotFound(f"no dataset {dataset}", hint="lake.datasets.list() shows those there are")
    if found[0].deleted and not deleted:
        raise NotFound(
            f"the dataset {found[0].name!r} ({dataset}) was deleted", hint="undo its deletion first"
        )
    return found[0]


def find_dataset(reader: Reader, reference: object) -> DatasetState:
    """The dataset of that name, id, or beginning of an id. Raises NotFound, InvalidInput."""
    if not isinstance(reference, str) or not reference:
        raise InvalidInput(
            f"{shown(reference)} names no dataset", hint="pass a dataset's name or id, a text"
        )
    if is_id(reference):
        return read_dataset(reader, str(UUID(reference)))
    found = _datasets(
        reader.query(
            f"{_DATASET} WHERE NOT deleted AND name = $name ORDER BY created_at, id",
            {"name": _storable(reference)},
        )
    )
    if len(found) > 1:
        warnings.warn(
            f"{len(found)} datasets are named {reference!r}; this is the oldest, {found[0].id}",
            stacklevel=3,
        )
    if not found and _is_prefix(reference):
        found = _datasets(
            reader.query(
                f"{_DATASET} WHERE NOT deleted AND starts_with(CAST(id AS VARCHAR), $prefix)",
                {"prefix": reference.lower()},
            )
        )
        _one_at_most(reference, [f"{one.id} {one.name}" for one in found], "datasets")
    if not found:
        raise NotFound(
            f"no dataset is named {shown(reference)}",
            hint="lake.datasets.list() shows those there are",
        )
    return found[0]


def read_versions(reader: Reader, dataset: str) -> list[VersionState]:
    """The versions of a dataset, the oldest first."""
    return _versions(
        reader.query(
            f"{_VERSION} AND dataset = CAST($dataset AS UUID) ORDER BY revision",
            {"dataset": dataset},
        )
    )


def read_version(reader: Reader, version: str) -> VersionState:
    """The version of that id, of any dataset; raises NotFound."""
    found = _versions(
        reader.query(f"{_VERSION} AND id = CAST($version AS UUID)", {"version": version})
    )
    if not found:
        raise NotFound(
            f"no dataset version {version}", hint="the history of a dataset shows its versions"
        )
    return found[0]


def read_tags(reader: Reader, dataset: str) -> dict[str, str]:
    """The names given to versions of a dataset, each with the version's id."""
    rows = reader.query(
        "SELECT name, version FROM {dataset_version_tags} WHERE dataset = CAST($dataset AS UUID) "
        "ORDER BY created_at, name",
        {"dataset": dataset},
    ).to_pylist()
    return {row["name"]: str(row["version"]) for row in rows}


def is_id(text: object) -> bool:
    """Whether a text is a whole UUID."""
    if not isinstance(text, str) or len(text) not in (32, 36):
        return False
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _is_prefix(text: str) -> bool:
    return len(text) >= _MIN_PREFIX and set(text.lower()) <= _HEX


def matching(prefix: str, ids: Sequence[str]) -> str | None:
    """The one id that begins so, None where none does; raises InvalidInput where several do.

    >>> matching("01AB", ["01ab-1", "02ab-1"])
    '01ab-1'
    """
    if not _is_prefix(prefix):
        return None
    found = [one for one in ids if one.startswith(prefix.lower())]
    _one_at_most(prefix, found, "versions")
    return found[0] if found else None


def _one_at_most(prefix: str, found: Sequence[str], what: str) -> None:
    if len(found) > 1:
        raise InvalidInput(
            f"the ids of {len(found)} {what} begin with {prefix!r}: {', '.join(found[:5])}",
            hint="write more of it",
        )


# -- writing ---------------------------------------------------------------------------------


def lock(
    transaction: ScopedTransaction,
    dataset: str,
    expected_revision: int | None = None,
    *,
    deleted: bool = False,
) -> DatasetState:
    """The dataset as this transaction may change it: nobody else changes it before the commit."""
    transaction.serialize(f"dataset:{dataset}")
    state = read_dataset(transaction, dataset, deleted=deleted)
    if expected_revision is not None and state.revision != expected_revision:
        raise Conflict(
            f"the dataset {state.name!r} is at revision {state.revision}, not {expected_revision}: "
            "somebody changed it meanwhile",
            hint="look at its status again, then repeat with the revision you saw, or without one",
            details={"revision": state.revision, "expected_revision": expected_revision},
        )
    return state


def insert_dataset(transaction: ScopedTransaction, state: DatasetState) -> None:
    """Append the row of a new dataset."""
    row = asdict(state)
    schema = pa.schema(
        {
            **dict.fromkeys(row, pa.string()),
            "created_at": pa.timestamp("us", "UTC"),
            "revision": pa.int64(),
            "deleted": pa.bool_(),
        }
    )
    transaction.append("datasets", pa.Table.from_pylist([row], schema))


def save(
    transaction: ScopedTransaction,
    before: DatasetState | None,
    after: DatasetState,
    kind: str,
    author: str | None,
    *,
    more: Mapping[str, Any] | None = None,
    note: bool = True,
) -> DatasetState:
    """Write a changed dataset, and the edit that made it so; `more` is kept in the edit's `after`.
    Without `note` it is part of a change that says what it is itself.

    Returns the dataset with its next revision.
    """
    if before is None:
        insert_dataset(transaction, after)
    else:
        after = replace(after, revision=before.revision + 1)
        transaction.update(
            "datasets",
            "name = $name, head = CAST($head AS UUID), members = $members, "
            "revision = $revision, deleted = $deleted",
            "id = CAST($id AS UUID)",
            {**after.summary(), "id": after.id, "revision": after.revision},
        )
    edit = {
        "dataset": after.id,
        "revision": after.revision,
        "change": transaction.change,
        "kind": kind,
        "author": author,
        "before": None if before is None else orjson.dumps(before.summary()).decode(),
        "after": orjson.dumps({**after.summary(), **(more or {})}).decode(),
    }
    schema = pa.schema(
        {
            **dict.fromkeys(edit, pa.string()),
            "revision": pa.int64(),
            "change": pa.int64(),
        }
    )
    transaction.append("dataset_edits", pa.Table.from_pylist([edit], schema))
    if not note:  # the edit is part of another change
        return after
    summary = {"dataset": after.id, "name": after.name, **(more or {})}
    transaction.note(f"dataset.{kind}", author, summary=summary)
    return after


# -- checking --------------------------------------------------------------------------------


def checked_text(what: str, value: object, longest: int = _MAX_NAME) -> str:
    """A name or a message, without the white space around it. Raises InvalidInput."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"the {what} is {shown(value)}", hint=f"the {what} is a text, not empty")
    text = value.strip()
    longest = _MAX_MESSAGE if what == "message" else longest
    if len(text) > longest:
        raise InvalidInput(
            f"the {what} is {len(text):,} characters long", hint=f"up to {longest:,} are taken"
        )
    if what != "message" and not text.isprintable():
        raise InvalidInput(f"the {what} {shown(text)} holds characters that cannot be shown")
    return _storable(text)


def foreign_version(version: str, dataset: DatasetState) -> InvalidInput:
    """The error for a version that is not one of the dataset's."""
    return InvalidInput(
        f"the version {version} belongs to another dataset",
        hint=f"the history of {dataset.name!r} shows its own versions",
    )


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{shown(text)} is no valid Unicode") from None
    if "\0" in text:
        raise InvalidInput(
            f"{shown(text)} holds the character NUL", hint="no text in a lake has one"
        )
    return text
