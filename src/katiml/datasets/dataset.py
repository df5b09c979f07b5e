"""`Dataset`: a version-controlled collection of datapoints."""

from __future__ import annotations

import warnings
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from pyroaring import BitMap

from katiml.datasets import commits, edits
from katiml.datasets.diff import Diff, Snapshot
from katiml.datasets.graph import tips
from katiml.datasets.labels import relabelled
from katiml.datasets.merging import Merge
from katiml.datasets.picking import gone_rows, picked
from katiml.datasets.references import DRAFT, HEAD, checked_tag, find_version
from katiml.datasets.sets import EMPTY, read_set
from katiml.datasets.state import (
    DatasetState,
    VersionState,
    checked_text,
    read_dataset,
    read_tags,
    read_version,
    read_versions,
)
from katiml.datasets.status import Status
from katiml.datasets.version import Members, Version
from katiml.errors import InvalidInput
from katiml.store.scope import Scope
from katiml.store.views import View

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dataset"]

AnyVersion = Version | str | None


class Dataset(Members):
    """A collection of datapoints with versions, shared by everybody who works on the lake.

    Its uncommitted members are what `add` and `remove` change; `commit` makes a version of them.
    Read as they are now: `dataset.datapoints.select()`, `dataset.groundtruths()`. A version is
    named by its id or the first characters of it, by a tag, as HEAD, or as HEAD~2.

    `expected_revision`, wherever it is taken, is what `status().revision` said: the edit raises
    Conflict when somebody changed the dataset since.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> _ = lake.ingest([{"type": "TEXT", "text": text} for text in ("one", "two", "three")])
    >>> dataset = lake.datasets.create("numbers")
    >>> dataset.add(filters={"left": "text", "op": "!=", "right": "two"})
    2
    >>> first = dataset.commit("odd numbers")
    >>> dataset.add(all=True)
    1
    >>> print(dataset.status())  # doctest: +ELLIPSIS
    numbers: 3 datapoints, on ... 'odd numbers': 1 added, 0 removed
    >>> second = dataset.commit("all of them")
    >>> dataset.diff("HEAD~1").added["text"].tolist()
    ['two']
    >>> dataset.history()["message"].tolist()
    ['all of them', 'odd numbers']
    >>> lake.close()
    """

    def __init__(self, scope: Scope, state: DatasetState) -> None:
        self._scope = scope
        self._state = state
        self.id = state.id

    def __repr__(self) -> str:
        return f"<Dataset {self.name!r} {self.id[:8]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def _now(self) -> DatasetState:
        self._state = read_dataset(self._scope, self.id)
        return self._state

    def _author(self, author: str | None) -> str | None:
        return self._scope.author if author is None else author

    # -- what it is --------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name when it was last looked at."""
        return self._state.name

    @property
    def created_at(self) -> datetime:
        """When it was made."""
        return self._state.created_at

    @property
    def created_by(self) -> str | None:
        """Who made it."""
        return self._state.created_by

    @property
    def draft_id(self) -> str:
        """The id under which the uncommitted members are asked for as if they were a version."""
        return self._state.draft

    @property
    def revision(self) -> int:
        """How many edits it has seen."""
        return self._now().revision

    @property
    def head(self) -> Version | None:
        """The version that the uncommitted members are compared with; None before the first."""
        head = self._now().head
        return Version(self._scope, read_version(self._scope, head)) if head else None

    @property
    def scope(self) -> Scope:
        """The lake as the members of this moment see it, committed or not."""
        members = read_set(self._scope, self._now().members)
        return self._scope.at(View(members))

    def __len__(self) -> int:
        members = read_set(self._scope, self._now().members)
        return len(members) - len(gone_rows(self._scope, members))

    def __bool__(self) -> bool:
        return True

    def to_dict(self) -> dict[str, Any]:
        """What it was when it was last looked at, as plain JSON values."""
        state = self._state
        return {
            "id": state.id,
            "name": state.name,
            "created_at": state.created_at.isoformat(),
            "created_by": state.created_by,
            "head": state.head,
            "draft": state.draft,
            "revision": state.revision,
        }

    # -- members -----------------------------------------------------------------------------

    def add(
        self,
        ids: Any = None,
        *,
        filters: Any = None,
        all: bool = False,
        author: str | None = None,
        expected_revision: int | None = None,
    ) -> int:
        """Add datapoints; returns how many were no members before.

        `ids` is a list, a Series, or a DataFrame with a column `id`; `filters` are those of
        `lake.datapoints.select`; `all` takes every datapoint. With filters no ids travel: a million
        datapoints take about as long as counting them. Raises NotFound, and adds nothing, when an
        id names no datapoint of this lake.
        """
        work = partial(
            edits.add,
            dataset=self.id,
            wanted=picked(ids, filters, all),
            author=self._author(author),
            expected_revision=expected_revision,
        )
        return self._scope.transact(work)

    def remove(
        self,
        ids: Any = None,
        *,
        filters: Any = None,
        all: bool = False,
        author: str | None = None,
        expected_revision: int | None = None,
    ) -> int:
        """Remove datapoints, named as in `add`; returns how many were members before.

        They stay in the lake, and in the versions that hold them. Raises NotFound, and removes
        nothing, when an id names no datapoint; one that is no member is passed over.
        """
        work = partial(
            edits.remove,
            dataset=self.id,
            wanted=picked(ids, filters, all),
            author=self._author(author),
            expected_revision=expected_revision,
        )
        return self._scope.transact(work)

    def status(self) -> Status:
        """What is not committed yet."""
        state = self._now()
        head = read_version(self._scope, state.head) if state.head else None
        committed = read_set(self._scope, head.members) if head else BitMap()
        members = read_set(self._scope, state.members)
        gone = gone_rows(self._scope, members | committed)
        return Status(
            dataset=state,
            head=head,
            members=members - gone,
            gone=gone,
            committed=committed,
            compare=lambda: self.diff(head.id if head else None, DRAFT),
        )

    # -- versions ----------------------------------------------------------------------------

    def commit(
        self,
        message: str,
        author: str | None = None,
        allow_empty: bool = False,
        *,
        expected_revision: int | None = None,
    ) -> Version:
        """Make a version of the members, with their fields, tags and ground truths of now.

        `author` is by default KATIML_AUTHOR, or the user of this computer. Raises Conflict when
        neither the members nor any of these differ from the head, unless `allow_empty`;
        InvalidInput for an empty message.
        """
        text = checked_text("message", message)
        run = partial(
            commits.commit,
            dataset=self.id,
            message=text,
            author=self._author(author),
            expected_revision=expected_revision,
        )
        try:
            state = self._scope.transact(partial(run, allow_empty=allow_empty))
        except commits.NothingToCommit:
            # The members are the same; new labels alone make a version too.
            if not self._relabelled():
                raise
            state = self._scope.transact(partial(run, allow_empty=True))
        return Version(self._scope, state)

    def _relabelled(self) -> bool:
        head = self.head
        if head is None:
            return False
        return any(
            relabelled(self._scope, head.members, head.moment, None, table)
            for table in ("groundtruths", "tags", "datapoints")
        )

    def versions(self) -> list[Version]:
        """All versions, the latest first."""
        return [Version(self._scope, one) for one in self._versions()]

    def _versions(self) -> list[VersionState]:
        return read_versions(self._scope, self.id)[::-1]

    def history(self) -> pd.DataFrame:
        """All versions, the latest first.

        Columns: id, short_id, message, author, created_at, size (datapoints), added and
        removed (against the first parent), parents (ids; two for a merge), tags (names), is_head.
        """
        import pandas as pd

        head = self._now().head
        names: dict[str, list[str]] = {}
        for name, version in read_tags(self._scope, self.id).items():
            names.setdefault(version, []).append(name)
        rows = [
            {
                "id": one.id,
                "short_id": one.id[:8],
                "message": one.message,
                "author": one.author,
                "created_at": one.created_at,
                "size": one.size,
                "added": one.added,
                "removed": one.removed,
                "parents": list(one.parents),
                "tags": names.get(one.id, []),
                "is_head": one.id == head,
            }
            for one in self._versions()
        ]
        return pd.DataFrame(rows, columns=list(_HISTORY)).astype(_HISTORY)

    def at(self, version: AnyVersion = HEAD) -> Version:
        """A version, to be read: `dataset.at("v1").groundtruths()`. Raises NotFound."""
        return Version(self._scope, self._find(version))

    def _find(self, version: AnyVersion) -> VersionState:
        reference = version.id if isinstance(version, Version) else version
        found = find_version(self._scope, self._now(), reference)
        if found is None:
            raise InvalidInput("the uncommitted members are no version")
        return found

    def checkout(
        self,
        version: AnyVersion,
        force: bool = False,
        *,
        author: str | None = None,
        expected_revision: int | None = None,
    ) -> Version:
        """Go on from this version: its members become the uncommitted ones, for everybody.

        A commit afterwards makes a second child of it, a branch. Raises Conflict where there are
        uncommitted changes; `force` puts them away, and `restore` brings them back.
        """
        target = self._find(version)
        self._scope.transact(
            lambda transaction: commits.checkout(
                transaction,
                self.id,
                target.id,
                self._author(author),
                expected_revision,
                force=force,
            )
        )
        return Version(self._scope, target)

    def drafts(self) -> pd.DataFrame:
        """Uncommitted changes that a forced checkout put away, the latest first.

        Columns: draft (for `restore`), discarded_at, author (who put them away), head (the version
        they were based on), size, added and removed.
        """
        import pandas as pd

        rows = []
        for one in commits.discarded(self._scope, self.id):
            members = read_set(self._scope, one.members)
            head = read_version(self._scope, one.head).members if one.head else EMPTY
            committed = read_set(self._scope, head)
            rows.append(
                {
                    "draft": one.draft,
                    "discarded_at": one.discarded_at,
                    "author": one.author,
                    "head": one.head,
                    "size": len(members),
                    "added": members.difference_cardinality(committed),
                    "removed": committed.difference_cardinality(members),
                }
            )
        return pd.DataFrame(rows, columns=list(_DRAFTS)).astype(_DRAFTS)

    def restore(
        self,
        draft: int | None = None,
        force: bool = False,
        *,
        author: str | None = None,
        expected_revision: int | None = None,
    ) -> Status:
        """Bring uncommitted changes back that were put away, the latest ones by default.

        Raises NotFound, and Conflict where there are other uncommitted changes now, unless
        `force`, which puts those away.
        """
        self._scope.transact(
            lambda transaction: commits.restore(
                transaction, self.id, draft, self._author(author), expected_revision, force=force
            )
        )
        return self.status()

    def branches(self) -> pd.DataFrame:
        """The versions that no other comes from, the latest first: columns as in `history`."""
        history = self.history()
        parents = dict(zip(history["id"], history["parents"], strict=True))
        return history[history["id"].isin(tips(parents))].reset_index(drop=True)

    def merge(
        self,
        theirs: AnyVersion,
        ours: AnyVersion = HEAD,
        *,
        message: str | None = None,
        author: str | None = None,
        expected_revision: int | None = None,
    ) -> Merge:
        """Merge version `theirs` into `ours`; the result is a version, and the new head.

        Members are merged three-way, from the latest version that both come from: what one side
        added is there, what one side removed is not, so there are no conflicts. Labels are those
        of now, as in any commit. Raises Conflict where there are uncommitted changes.
        """
        text = checked_text("message", message) if message is not None else None
        their, our = self._find(theirs), self._find(ours)
        merged = self._scope.transact(
            lambda transaction: commits.merge(
                transaction,
                self.id,
                their.id,
                our.id,
                text,
                self._author(author),
                expected_revision,
            )
        )
        return Merge(Version(self._scope, merged.version), merged)

    # -- comparing ---------------------------------------------------------------------------

    def diff(self, before: AnyVersion = HEAD, after: AnyVersion = DRAFT) -> Diff:
        """How `after` differs from `before`; by default what is uncommitted.

        Each is a version of this dataset, "draft" for the uncommitted members, or a `Version` of
        any dataset; None before the first commit is nothing at all.
        """
        return Diff(self._scope, self._snapshot(before), self._snapshot(after))

    def _snapshot(self, version: AnyVersion) -> Snapshot:
        if isinstance(version, Version):
            return Snapshot.of(version)
        state = self._now()
        if version is None or (version == HEAD and state.head is None):
            return Snapshot(self.id, None, BitMap(), "nothing")
        return snapshot(self._scope, state, find_version(self._scope, state, version, draft=True))

    # -- names -------------------------------------------------------------------------------

    def tag(
        self,
        name: str,
        version: AnyVersion = HEAD,
        *,
        force: bool = False,
        author: str | None = None,
    ) -> None:
        """Name a version. Raises Conflict where another version has the name, unless `force`."""
        text, target = checked_tag(name), self._find(version)
        self._scope.transact(
            lambda transaction: edits.tag(
                transaction, self.id, text, target.id, self._author(author), force=force
            )
        )

    def untag(self, name: str, *, author: str | None = None) -> None:
        """Take a name of a version away. Raises NotFound."""
        text = checked_text("tag", name)
        self._scope.transact(
            lambda transaction: edits.untag(transaction, self.id, text, self._author(author))
        )

    def version_tags(self) -> dict[str, str]:
        """The names given to versions, each with the version's id."""
        return read_tags(self._scope, self.id)

    def rename(self, name: str, *, author: str | None = None, warn: bool = True) -> None:
        """Give the dataset another name; warns where another dataset has it."""
        text = checked_text("name", name)
        self._state, taken = self._scope.transact(
            lambda transaction: edits.rename(transaction, self.id, text, self._author(author))
        )
        warn_if(taken and warn, text)

    def delete(self, *, author: str | None = None) -> None:
        """Delete the dataset with its versions; the datapoints stay. `lake.undo` brings it back."""
        self._scope.transact(
            lambda transaction: edits.delete(transaction, self.id, self._author(author))
        )


_HISTORY: dict[str, Any] = {
    "id": object,
    "short_id": object,
    "message": object,
    "author": object,
    "created_at": "datetime64[us, UTC]",
    "size": "int64",
    "added": "int64",
    "removed": "int64",
    "parents": object,
    "tags": object,
    "is_head": bool,
}
_DRAFTS: dict[str, Any] = {
    "draft": "int64",
    "discarded_at": "datetime64[us, UTC]",
    "author": object,
    "head": object,
    "size": "int64",
    "added": "int64",
    "removed": "int64",
}


def snapshot(scope: Scope, state: DatasetState, version: VersionState | None) -> Snapshot:
    """A version, or the members of now, as one side of a diff."""
    if version is not None:
        return Snapshot.of(Version(scope, version))
    stored = read_set(scope, state.members)
    members = stored - gone_rows(scope, stored)
    return Snapshot(state.id, None, members, "uncommitted")


def warn_if(taken: bool, name: str) -> None:
    """Say that two datasets have one name."""
    if taken:
        warnings.warn(
            f"another dataset is named {name!r} too; asked for by name, the older one is found",
            stacklevel=3,
        )
