"""Making, naming and filling datasets: each edit the body of one transaction."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pyarrow as pa
from pyroaring import BitMap

from katiml.datasets.picking import Picked, picked_rows
from katiml.datasets.sets import EMPTY, read_set, write_set
from katiml.datasets.state import (
    DatasetState,
    foreign_version,
    list_datasets,
    lock,
    read_tags,
    read_version,
    save,
)
from katiml.errors import Conflict, NotFound
from katiml.store.scope import ScopedTransaction

__all__ = [
    "add",
    "create",
    "delete",
    "remove",
    "rename",
    "tag",
    "untag",
    "write_tag",
]


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
        created_at=transaction.started_at.as_py(),
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
        raise foreign_version(version, state)
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
