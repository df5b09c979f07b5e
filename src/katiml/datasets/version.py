"""A version: members that never change, with the ground truths and tags of its commit."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyroaring import BitMap

from katiml.datasets.labels import content_hash
from katiml.datasets.sets import read_set
from katiml.datasets.state import VersionState
from katiml.query.collection import Collection
from katiml.store.scope import Scope
from katiml.store.views import Moment, View

if TYPE_CHECKING:
    from katiml.datasets.diff import Diff

__all__ = ["Members", "Version", "ids_of", "moment_of"]


class Members:
    """What can be read of some datapoints: a `Collection` for each table."""

    @property
    def scope(self) -> Scope:
        """The lake as these members see it."""
        raise NotImplementedError

    @property
    def datapoints(self) -> Collection:
        """The datapoints themselves."""
        return Collection(self.scope, "datapoints")

    @property
    def groundtruths(self) -> Collection:
        """Their ground truths."""
        return Collection(self.scope, "groundtruths")

    @property
    def predictions(self) -> Collection:
        """The predictions about them, always those of now."""
        return Collection(self.scope, "predictions")

    @property
    def bboxes(self) -> Collection:
        """The boxes of their ground truths and predictions."""
        return Collection(self.scope, "bboxes")

    @property
    def lanes(self) -> Collection:
        """The lanes of their ground truths and predictions."""
        return Collection(self.scope, "lanes")

    @property
    def completions(self) -> Collection:
        """The completions of their ground truths and predictions."""
        return Collection(self.scope, "completions")

    @property
    def tags(self) -> Collection:
        """Their tags."""
        return Collection(self.scope, "tags")

    @property
    def feature_vectors(self) -> Collection:
        """Their embeddings and logits."""
        return Collection(self.scope, "feature_vectors")

    def ids(self) -> list[str]:
        """The ids of the datapoints, in the order they came into the lake."""
        return ids_of(self.scope)


class Version(Members):
    """A committed version, for reading; nothing that happens later changes what it shows.

    Its datapoints, tags and ground truths are those of the commit, also of datapoints that were
    relabelled or deleted since. Predictions are those of now. Datapoints that were purged count
    in `size` and can no longer be read.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> _ = lake.ingest([{"type": "TEXT", "text": "hello", "tags": {"split": "train"}}])
    >>> dataset = lake.datasets.create("greetings")
    >>> dataset.add(all=True)
    1
    >>> version = dataset.commit("first")
    >>> _ = lake.datapoints.delete(all=True)
    >>> version.datapoints()["text"].tolist(), version.tags.count(), len(version)
    (['hello'], 1, 1)
    >>> lake.close()
    """

    def __init__(self, scope: Scope, state: VersionState) -> None:
        self._lake_scope = scope
        self._state = state
        self.id = state.id
        self.message = state.message
        self.author = state.author
        self.created_at: datetime = state.created_at
        self.dataset_id = state.dataset
        # The ids of the versions it was made from: none, one, or two for a merge.
        self.parents = list(state.parents)
        # How many datapoints it holds, and how many it added and removed against its first parent.
        self.size = state.size
        self.added = state.added
        self.removed = state.removed

    def __repr__(self) -> str:
        return f"<Version {self.short_id} {self.message!r}: {self.size:,} datapoints>"

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        # A version without datapoints is one all the same.
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def short_id(self) -> str:
        """The first eight characters of the id, which name it wherever a version is asked for."""
        return self.id[:8]

    @property
    def members_hash(self) -> str:
        """40 hexadecimal digits: versions of one lake with the same members have the same."""
        return self._state.members

    @cached_property
    def members(self) -> BitMap:
        """The row numbers of its datapoints. Not to be changed."""
        return read_set(self._lake_scope, self._state.members)

    @cached_property
    def moment(self) -> Moment:
        """The changes of the lake that it shows."""
        return moment_of(self._lake_scope, self.id)

    @cached_property
    def scope(self) -> Scope:
        """The lake as this version shows it."""
        return self._lake_scope.at(View(self.members, self.moment))

    def content_hash(self) -> str:
        """40 hexadecimal digits over what the version shows of its datapoints: ids, fields, tags
        and ground truths with their boxes, lanes, completions and masks.

        Equal content has an equal hash, in whatever order it was written, and in copies of a lake
        too. Predictions and times of writing do not count. It reads all of it: about a second for
        a million datapoints.
        """
        return content_hash(self.scope)

    def diff(self, other: Version | str = "HEAD") -> Diff:
        """What is different in `other`; see `Dataset.diff`."""
        from katiml.datasets.dataset import Dataset
        from katiml.datasets.state import read_dataset

        state = read_dataset(self._lake_scope, self.dataset_id)
        return Dataset(self._lake_scope, state).diff(self, other)

    def to_dict(self) -> dict[str, Any]:
        """The version as plain JSON values, moments as ISO 8601 texts."""
        return {
            **{name: value for name, value in vars(self._state).items() if name != "members"},
            "parents": self.parents,
            "created_at": self.created_at.isoformat(),
            "members_hash": self.members_hash,
        }


def moment_of(scope: Scope, version: str) -> Moment:
    """The changes of the lake that a version shows."""
    (row,) = scope.query(
        "SELECT moment FROM {dataset_versions} WHERE id = CAST($version AS UUID)",
        {"version": version},
    ).to_pylist()
    return Moment.from_bytes(row["moment"])


def ids_of(scope: Scope) -> list[str]:
    """The ids of the datapoints that a scope shows, in the order of their rows."""
    found = scope.query("SELECT CAST(id AS VARCHAR) AS id FROM {datapoints} ORDER BY row")
    ids: list[str] = found.column("id").to_pylist()
    return ids
