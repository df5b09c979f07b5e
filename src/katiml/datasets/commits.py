"""Commit, checkout, restore and merge: each the body of one transaction, which may run again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

import pyarrow as pa
from pyroaring import BitMap

from katiml.datasets.graph import common_ancestor, merge_members
from katiml.datasets.picking import gone_rows
from katiml.datasets.sets import EMPTY, Reader, read_set, write_set
from katiml.datasets.state import (
    DatasetState,
    VersionState,
    foreign_version,
    lock,
    read_version,
    read_versions,
    save,
)
from katiml.errors import Conflict, NotFound
from katiml.store.scope import ScopedTransaction
from katiml.store.views import Moment

__all__ = [
    "Discarded",
    "Merged",
    "NothingToCommit",
    "checkout",
    "commit",
    "discarded",
    "merge",
    "restore",
]


class NothingToCommit(Conflict):
    """The members are those of the version that was committed last."""

    @property
    def code(self) -> str:
        """That of its parent: it is told apart inside KatiML alone."""
        return "conflict"


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
    stored = read_set(transaction, state.members)
    gone = gone_rows(transaction, stored)
    members, name = stored, state.members
    if gone:
        members = stored - gone
        name = write_set(transaction, members, state.members)
    if not allow_empty and name == (head.members if head else EMPTY):
        raise _nothing(state, head)
    parents = (head,) if head else ()
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
    parents: tuple[VersionState, ...],
    message: str,
    author: str | None,
) -> VersionState:
    before = read_set(transaction, parents[0].members) if parents else BitMap()
    version = VersionState(
        id=str(uuid4()),
        dataset=state.id,
        revision=state.revision + 1,
        parents=tuple(one.id for one in parents),
        message=message,
        author=author,
        created_at=transaction.started_at.as_py(),
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
        "revision": pa.int64(),
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
        raise foreign_version(version, state)
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


def discarded(reader: Reader, dataset: str) -> list[Discarded]:
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
            raise foreign_version(one, state)
    ours, theirs = versions[ours_id], versions[theirs_id]
    base_id = common_ancestor(
        {one.id: one.parents for one in versions.values()},
        ours.id,
        theirs.id,
        {one.id: one.revision for one in versions.values()},
    )
    base = versions[base_id] if base_id else None
    start = read_set(transaction, base.members) if base else BitMap()
    mine, other = read_set(transaction, ours.members), read_set(transaction, theirs.members)
    if base in (ours, theirs):
        # One comes from the other: there is nothing to merge, only to go forward.
        version = ours if base == theirs else theirs
        members = version.members
    else:
        merged = merge_members(start, mine, other)
        merged = merged - gone_rows(transaction, merged)
        members = write_set(transaction, merged, ours.members)
        text = message or f"Merge {theirs.id[:8]} into {ours.id[:8]}"
        parents = (ours, theirs)
        version = _append_version(transaction, state, members, merged, parents, text, author)
    after = replace(state, head=version.id, members=members)
    if after != state:
        more = {"version": version.id, "theirs": theirs.id, "ours": ours.id}
        save(transaction, state, after, "merge", author, more=more)
    return Merged(
        version, base, ours, theirs, mine - start, start - mine, other - start, start - other
    )
