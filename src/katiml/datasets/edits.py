"""What changes a dataset: each edit is the body of one transaction, which may have to run again."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pyroaring import BitMap

from katiml.datasets.graph import common_ancestor, merge_members
from katiml.datasets.picking import Picked, gone_rows, picked_rows
from katiml.datasets.sets import EMPTY, read_set, write_set
from katiml.datasets.state import (
    DatasetState,
    VersionState,
    list_datasets,
    lock,
    read_tags,
    read_version,
    read_versions,
    save,
)
from katiml.errors import Conflict, InvalidInput, NotFound
from katiml.store.scope import ScopedTransaction
from katiml.store.views import Moment

__all__ = [
    "Merged",
    "NothingToCommit",
    "add",
    "author_of",
    "checkout",
    "commit",
    "create",
    "delete",
    "discarded",
    "merge",
    "remove",
    "rename",
    "restore",
    "tag",
    "untag",
]

# Edits that put other members in the place of the uncommitted ones.
_REPLACING = ("checkout", "restore")


class NothingToCommit(Conflict):
    """The members are those of the version that was committed last."""


def author_of(author: str | None) -> str | None:
    """Who made a change: as given, else KATIML_AUTHOR, else the user of this computer.

    >>> author_of("ann")
    'ann'
    """
    if author is not None:
        return author
    with suppress(KeyError, OSError, ImportError):
        return os.environ.get("KATIML_AUTHOR") or getpass.getuser()
    return None


# -- datasets --------------------------------------------------------------------------------


def create(
    transaction: ScopedTransaction, name: str, author: str | None, *, only_new: bool = False
) -> tuple[DatasetState, bool]:
    """A new, empty dataset, and whether another has its name; that one with `only_new`."""
    transaction.serialize("datasets")
    same = [one for one in list_datasets(transaction) if one.name == name]
    if same and only_new:
        return same[0], False
    # Ids are random from their first digits on, so that a few of them name a dataset.
    state = DatasetState(
        id=str(uuid4()),
        name=name,
        created_at=_now(transaction),
        created_by=author,
        head=None,
        members=EMPTY,
        draft=str(uuid4()),
        revision=1,
    )
    return save(transaction, None, state, "create", author), bool(same)


def rename(
    transaction: ScopedTransaction, dataset: str, name: str, author: str | None
) -> tuple[DatasetState, bool]:
    """Another name, and whether another dataset has it."""
    transaction.serialize("datasets")
    state = lock(transaction, dataset)
    same = [one for one in list_datasets(transaction) if one.name == name and one.id != dataset]
    if state.name == name:
        return state, bool(same)
    after = replace(state, name=name)
    return save(transaction, state, after, "rename", author), bool(same)


def delete(transaction: ScopedTransaction, dataset: str, author: str | None) -> None:
    """Hide a dataset with its versions until the deletion is undone."""
    transaction.serialize("datasets")
    state = lock(transaction, dataset)
    save(transaction, state, replace(state, deleted=True), "delete", author)


# -- members ---------------------------------------------------------------------------------


def add(
    transaction: ScopedTransaction,
    dataset: str,
    wanted: Picked,
    author: str | None,
    expected_revision: int | None = None,
) -> int:
    """Add datapoints; returns how many were not members before."""
    state = lock(transaction, dataset, expected_revision)
    members = read_set(transaction, state.members)
    fresh = picked_rows(transaction, wanted) - members
    _write_members(transaction, state, members | fresh, "add", author, len(fresh))
    return len(fresh)


def remove(
    transaction: ScopedTransaction,
    dataset: str,
    wanted: Picked,
    author: str | None,
    expected_revision: int | None = None,
) -> int:
    """Remove datapoints; returns how many were members before."""
    state = lock(transaction, dataset, expected_revision)
    members = read_set(transaction, state.members)
    leaving = picked_rows(transaction, wanted, deleted_too=True) & members
    _write_members(transaction, state, members - leaving, "remove", author, len(leaving))
    return len(leaving)


def _write_members(
    transaction: ScopedTransaction,
    state: DatasetState,
    members: BitMap,
    kind: str,
    author: str | None,
    count: int,
) -> None:
    if not count:
        return
    name = write_set(transaction, members, state.members)
    after = replace(state, members=name)
    save(transaction, state, after, kind, author, more={"datapoints": count})


# -- versions --------------------------------------------------------------------------------


def commit(
    transaction: ScopedTransaction,
    dataset: str,
    message: str,
    author: str | None,
    expected_revision: int | None = None,
    *,
    allow_empty: bool = False,
) -> VersionState:
    """A new version of the members. Raises NothingToCommit unless `allow_empty`."""
    state = lock(transaction, dataset, expected_revision)
    head = read_version(transaction, state.head) if state.head else None
    members = read_set(transaction, state.members) - gone_rows(transaction)
    name = write_set(transaction, members, state.members)
    if not allow_empty and name == (head.members if head else EMPTY):
        raise _nothing(state, head)
    parents = (head.id,) if head else ()
    version = _append_version(transaction, state, name, members, parents, message, author)
    after = replace(state, head=version.id, members=name)
    save(transaction, state, after, "commit", author, more={"version": version.id})
    return version


def _nothing(state: DatasetState, head: VersionState | None) -> NothingToCommit:
    if head is None:
        return NothingToCommit(
            f"the dataset {state.name!r} is empty: there is nothing to commit",
            hint="add datapoints first, or pass allow_empty=True",
        )
    return NothingToCommit(
        f"the members of {state.name!r} are those of its version {head.id[:8]} "
        f"({head.message!r}): there is nothing to commit",
        hint="somebody may have committed your changes with theirs: its history says; "
        "allow_empty=True makes a version all the same",
        details={"head": head.id, "revision": state.revision},
    )


def _append_version(
    transaction: ScopedTransaction,
    state: DatasetState,
    name: str,
    members: BitMap,
    parents: tuple[str, ...],
    message: str,
    author: str | None,
) -> VersionState:
    before = BitMap()
    if parents:
        before = read_set(transaction, read_version(transaction, parents[0]).members)
    number = transaction.query(
        "SELECT coalesce(max(number), 0) + 1 AS number FROM {dataset_versions} "
        "WHERE dataset = CAST($dataset AS UUID)",
        {"dataset": state.id},
    )
    version = VersionState(
        id=str(uuid4()),
        dataset=state.id,
        number=number.column(0)[0].as_py(),
        parents=parents,
        message=message,
        author=author,
        created_at=_now(transaction),
        members=name,
        size=len(members),
        added=members.difference_cardinality(before),
        removed=before.difference_cardinality(members),
    )
    moment = Moment.read(transaction).to_bytes()
    row = {**vars(version), "moment": moment, "withdrawn": False}
    transaction.append("dataset_versions", pa.Table.from_pylist([row], _VERSIONS))
    return version


_VERSIONS = pa.schema(
    {
        "id": pa.string(),
        "dataset": pa.string(),
        "number": pa.int64(),
        "parents": pa.list_(pa.string()),
        "message": pa.string(),
        "author": pa.string(),
        "created_at": pa.timestamp("us", "UTC"),
        "members": pa.string(),
        "size": pa.int64(),
        "added": pa.int64(),
        "removed": pa.int64(),
        "moment": pa.binary(),
        "withdrawn": pa.bool_(),
    }
)


def checkout(
    transaction: ScopedTransaction,
    dataset: str,
    version: str,
    author: str | None,
    expected_revision: int | None = None,
    *,
    force: bool = False,
) -> DatasetState:
    """Make a version the one to go on from. Raises Conflict where uncommitted changes would go."""
    state = lock(transaction, dataset, expected_revision)
    target = read_version(transaction, version)
    if target.dataset != dataset:
        raise InvalidInput(
            f"the version {version} belongs to another dataset",
            hint=f"the history of {state.name!r} shows its own versions",
        )
    dirty = _is_dirty(transaction, state)
    if dirty and not force:
        raise _dirty(state, "check another version out")
    after = replace(state, head=target.id, members=target.members)
    if after == state:
        return state
    more = {"version": target.id, "discarded": dirty}
    return save(transaction, state, after, "checkout", author, more=more)


def _is_dirty(transaction: ScopedTransaction, state: DatasetState) -> bool:
    committed = read_version(transaction, state.head).members if state.head else EMPTY
    return committed != state.members


def _dirty(state: DatasetState, what: str) -> Conflict:
    return Conflict(
        f"the dataset {state.name!r} has uncommitted changes",
        hint=f"commit them, or pass force=True to {what}: they can be restored afterwards",
        details={"revision": state.revision},
    )


@dataclass(frozen=True)
class Discarded:
    """Uncommitted members that an edit put away; `draft` is the revision that ended them."""

    draft: int
    discarded_at: datetime
    author: str | None
    head: str | None
    members: str


def discarded(reader: Any, dataset: str) -> list[Discarded]:
    """The drafts of a dataset that were put away, the latest first."""
    rows = reader.query(
        "SELECT revision, created_at, author, json_extract_string(before, '$.head') AS head, "
        "json_extract_string(before, '$.members') AS members FROM {dataset_edits} "
        "WHERE dataset = CAST($dataset AS UUID) AND json_extract_string(after, '$.discarded') = "
        "'true' ORDER BY revision DESC",
        {"dataset": dataset},
    ).to_pylist()
    return [
        Discarded(row["revision"], row["created_at"], row["author"], row["head"], row["members"])
        for row in rows
    ]


def restore(
    transaction: ScopedTransaction,
    dataset: str,
    draft: int | None,
    author: str | None,
    expected_revision: int | None = None,
    *,
    force: bool = False,
) -> DatasetState:
    """Bring a draft back that was put away, the latest without `draft`."""
    state = lock(transaction, dataset, expected_revision)
    drafts = discarded(transaction, dataset)
    found = [one for one in drafts if draft is None or one.draft == draft]
    if not found:
        listed = ", ".join(str(one.draft) for one in drafts) or "none"
        raise NotFound(
            "no draft was discarded" if draft is None else f"no discarded draft {draft}",
            hint=f"drafts of {state.name!r}: {listed}",
        )
    dirty = _is_dirty(transaction, state)
    if dirty and not force:
        raise _dirty(state, "put them away for the draft")
    after = replace(state, head=found[0].head, members=found[0].members)
    if after == state:
        return state
    more = {"draft": found[0].draft, "discarded": dirty}
    return save(transaction, state, after, "restore", author, more=more)


@dataclass(frozen=True)
class Merged:
    """How a merge went: from which versions, and what each side brought."""

    version: VersionState
    base: VersionState | None
    ours: VersionState
    theirs: VersionState
    added_by_ours: BitMap
    removed_by_ours: BitMap
    added_by_theirs: BitMap
    removed_by_theirs: BitMap


def merge(
    transaction: ScopedTransaction,
    dataset: str,
    theirs_id: str,
    ours_id: str,
    message: str | None,
    author: str | None,
    expected_revision: int | None = None,
) -> Merged:
    """Merge two versions; the result becomes the head."""
    state = lock(transaction, dataset, expected_revision)
    if _is_dirty(transaction, state):
        raise Conflict(
            f"the dataset {state.name!r} has uncommitted changes",
            hint="commit them before a merge, or check a version out with force=True",
            details={"revision": state.revision},
        )
    versions = {one.id: one for one in read_versions(transaction, dataset)}
    for one in (theirs_id, ours_id):
        if one not in versions:
            raise InvalidInput(
                f"the version {one} belongs to another dataset",
                hint=f"the history of {state.name!r} shows its own versions",
            )
    ours, theirs = versions[ours_id], versions[theirs_id]
    base_id = common_ancestor(
        {one.id: one.parents for one in versions.values()},
        ours.id,
        theirs.id,
        {one.id: one.number for one in versions.values()},
    )
    base = versions[base_id] if base_id else None
    start = read_set(transaction, base.members) if base else BitMap()
    mine, other = read_set(transaction, ours.members), read_set(transaction, theirs.members)
    if base == theirs or base == ours:
        # One comes from the other: there is nothing to merge, only to go forward.
        version = ours if base == theirs else theirs
        members = version.members
    else:
        merged = merge_members(start, mine, other) - gone_rows(transaction)
        members = write_set(transaction, merged, ours.members)
        text = message or f"Merge {theirs.id[:8]} into {ours.id[:8]}"
        parents = (ours.id, theirs.id)
        version = _append_version(transaction, state, members, merged, parents, text, author)
    after = replace(state, head=version.id, members=members)
    if after != state:
        more = {"version": version.id, "theirs": theirs.id, "ours": ours.id}
        save(transaction, state, after, "merge", author, more=more)
    return Merged(
        version, base, ours, theirs, mine - start, start - mine, other - start, start - other
    )


# -- names of versions -----------------------------------------------------------------------


def tag(
    transaction: ScopedTransaction,
    dataset: str,
    name: str,
    version: str,
    author: str | None,
    *,
    force: bool = False,
) -> None:
    """Give a version a name. Raises Conflict where another version has it, unless `force`."""
    state = lock(transaction, dataset)
    target = read_version(transaction, version)
    if target.dataset != dataset:
        raise InvalidInput(f"the version {version} belongs to another dataset")
    before = read_tags(transaction, dataset).get(name)
    if before == target.id:
        return
    if before is not None and not force:
        raise Conflict(
            f"{name!r} already names the version {before[:8]} of {state.name!r}",
            hint="choose another name, or pass force=True to move it",
        )
    write_tag(transaction, dataset, name, target.id)
    more = {"tag": name, "version": target.id, "before": before}
    save(transaction, state, state, "tag", author, more=more)


def untag(transaction: ScopedTransaction, dataset: str, name: str, author: str | None) -> None:
    """Take a name away. Raises NotFound."""
    state = lock(transaction, dataset)
    before = read_tags(transaction, dataset).get(name)
    if before is None:
        raise NotFound(f"no version of {state.name!r} is tagged {name!r}")
    write_tag(transaction, dataset, name, None)
    more = {"tag": name, "version": None, "before": before}
    save(transaction, state, state, "untag", author, more=more)


def write_tag(transaction: ScopedTransaction, dataset: str, name: str, version: str | None) -> None:
    """Let a name stand for a version, or for none."""
    transaction.delete(
        "dataset_version_tags",
        "dataset = CAST($dataset AS UUID) AND name = $name",
        {"dataset": dataset, "name": name},
    )
    if version is not None:
        row = {"dataset": [dataset], "name": [name], "version": [version]}
        transaction.append("dataset_version_tags", pa.table(row))


def _now(transaction: ScopedTransaction) -> datetime:
    moment: datetime = transaction.started_at.as_py()
    return moment


Work = Callable[[ScopedTransaction], Any]
