"""Undoing edits of datasets: a part of `lake.undo`, which see.

Members that an edit added leave again and those it removed come back, but for what later edits
changed; a name, a head or a tag goes back to what it was where it is still what the edit made it.
A version whose commit is undone is withdrawn: its members are uncommitted again. Each undone edit
is an edit itself, so that undoing the undo makes it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from katiml.datasets.edits import write_tag
from katiml.datasets.sets import read_set, write_set
from katiml.datasets.state import DatasetState, lock, read_tags, save
from katiml.history.outcome import Outcome

if TYPE_CHECKING:
    from katiml.history.undoing import Target
    from katiml.store import ScopedTransaction

__all__ = ["undo_edits"]

_CHANGED = "changed since"
_MEMBERS = "dataset members"


@dataclass(frozen=True)
class _Edit:
    """One row of `dataset_edits`."""

    dataset: str
    revision: int
    kind: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def undo_edits(transaction: ScopedTransaction, target: Target) -> Outcome:
    """Undo what changes did to datasets; returns what was done and what was left alone."""
    outcome = Outcome()
    rows = transaction.query(
        "SELECT CAST(dataset AS VARCHAR) AS dataset, revision, kind, before, after "
        "FROM {dataset_edits} WHERE list_contains($numbers, change) ORDER BY revision DESC",
        {"numbers": sorted(target.numbers)},
    ).to_pylist()
    for row in rows:
        before = orjson.loads(row["before"] or '{"deleted": true}')
        edit = _Edit(**{**row, "before": before, "after": orjson.loads(row["after"])})
        _Undoing(transaction, edit, outcome).run()
    return outcome


class _Undoing:
    """The undoing of one edit."""

    def __init__(self, transaction: ScopedTransaction, edit: _Edit, outcome: Outcome) -> None:
        self.transaction = transaction
        self.edit = edit
        self.outcome = outcome
        self.now = lock(transaction, edit.dataset, deleted=True)
        # What the edit that undoes this one keeps for its own undoing.
        self.more: dict[str, Any] = {"undoes": edit.revision}
        self.done = False

    def run(self) -> None:
        """Undo each thing that the edit changed."""
        state = self.head_and_members(self.name_and_deletion(self.now))
        self.tag()
        if state != self.now or self.done:
            kind = f"undo of {self.edit.kind}"
            save(
                self.transaction,
                self.now,
                state,
                kind,
                self.transaction.author,
                more=self.more,
                note=False,
            )

    def name_and_deletion(self, state: DatasetState) -> DatasetState:
        for name in ("name", "deleted"):
            was = self.edit.before.get(name, self.edit.after[name])
            if was == self.edit.after[name]:
                continue
            created = self.edit.kind == "create" and self.now.revision > self.edit.revision
            if getattr(state, name) != self.edit.after[name] or created:
                self.outcome.skip("datasets", 1, _CHANGED)
                continue
            state = replace(state, **{name: was})
            self.count(restored=not (name == "deleted" and was), table="datasets")
        return state

    def head_and_members(self, state: DatasetState) -> DatasetState:
        before, after = self.edit.before, self.edit.after
        if "members" not in before:  # the dataset was made by it
            return state
        if before["head"] != after["head"]:
            if state.head != after["head"]:
                self.outcome.skip("datasets", 1, "its head was changed since")
                return state
            if not self.withdraw():
                return state
            self.bring_back()
            state = replace(state, head=before["head"])
        return self.members(state)

    def withdraw(self) -> bool:
        """Hide the version that the edit made; False where something depends on it."""
        made = {"dataset": self.edit.dataset, "revision": self.edit.revision}
        found = self.transaction.query(
            "SELECT CAST(id AS VARCHAR) AS id FROM {dataset_versions} WHERE NOT withdrawn "
            "AND dataset = CAST($dataset AS UUID) AND revision = $revision",
            made,
        ).column("id")
        if not len(found):
            return True
        version = found[0].as_py()
        children = self.transaction.query(
            "SELECT 1 FROM {dataset_versions} WHERE NOT withdrawn "
            "AND list_contains(parents, CAST($version AS UUID)) UNION ALL "
            "SELECT 1 FROM {dataset_version_tags} WHERE version = CAST($version AS UUID)",
            {"version": version},
        )
        if children.num_rows:
            self.outcome.skip("dataset_versions", 1, "it was tagged, or others came from it, since")
            return False
        self.mark_withdrawn(version, True)
        self.more["withdrew"] = version
        return True

    def bring_back(self) -> None:
        """Show a version again that the edit, itself an undo, has withdrawn."""
        version = self.edit.after.get("withdrew")
        if version is not None:
            self.mark_withdrawn(version, False)

    def mark_withdrawn(self, version: str, withdrawn: bool) -> None:
        self.transaction.update(
            "dataset_versions",
            "withdrawn = $withdrawn",
            "id = CAST($version AS UUID)",
            {"version": version, "withdrawn": withdrawn},
        )
        self.count(restored=not withdrawn, table="dataset_versions")

    def members(self, state: DatasetState) -> DatasetState:
        """Members go back to what they were, but for those that others changed since."""
        before = read_set(self.transaction, self.edit.before["members"])
        after = read_set(self.transaction, self.edit.after["members"])
        now = read_set(self.transaction, state.members)
        changed = before ^ after
        # Those that are still as the edit left them.
        mine = changed - (now ^ after)
        self.outcome.skip(_MEMBERS, len(changed) - len(mine), _CHANGED)
        if not mine:
            return self.counted_head(state)
        name = write_set(self.transaction, now ^ mine, state.members)
        leaving = len(mine & now)
        self.outcome.add({_MEMBERS: len(mine) - leaving}, {_MEMBERS: leaving})
        return replace(state, members=name)

    def counted_head(self, state: DatasetState) -> DatasetState:
        """A head that moved alone is something, too."""
        if state.head != self.now.head and not self.done:
            self.count(restored=True, table="datasets")
        return state

    def tag(self) -> None:
        """The name that the edit gave to a version, or took from one."""
        after = self.edit.after
        if "tag" not in after:
            return
        name, now = after["tag"], read_tags(self.transaction, self.edit.dataset)
        if now.get(name) != after["version"]:
            self.outcome.skip("dataset_version_tags", 1, _CHANGED)
            return
        write_tag(self.transaction, self.edit.dataset, name, after["before"])
        self.more |= {"tag": name, "version": after["before"], "before": after["version"]}
        self.count(restored=after["before"] is not None, table="dataset_version_tags")

    def count(self, *, restored: bool, table: str) -> None:
        self.done = True
        self.outcome.add({table: int(restored)}, {table: int(not restored)})
