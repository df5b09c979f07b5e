"""What is not committed yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyroaring import BitMap

from katiml.datasets.state import DatasetState, VersionState

if TYPE_CHECKING:
    from katiml.datasets.diff import Diff

__all__ = ["Status"]


@dataclass(frozen=True)
class Status:
    """The uncommitted changes of a dataset, when it was asked for.

    `added`, `removed` and `deleted` are numbers of datapoints; `deleted` of the removed ones are
    members of the head that were deleted from the lake. `relabelled` members had other ground
    truths when the head was committed. `diff` shows which they are.
    """

    dataset: DatasetState
    head: VersionState | None
    members: BitMap
    gone: BitMap
    committed: BitMap
    compare: Callable[[], Diff]

    @property
    def revision(self) -> int:
        """How many edits the dataset has seen: for `expected_revision` of the next one."""
        return self.dataset.revision

    @property
    def size(self) -> int:
        """How many members it has now."""
        return len(self.members)

    @property
    def added(self) -> int:
        """Members that the head has not."""
        return self.members.difference_cardinality(self.committed)

    @property
    def removed(self) -> int:
        """Members of the head that are none any more."""
        return self.committed.difference_cardinality(self.members)

    @property
    def deleted(self) -> int:
        """Members of the head that were deleted from the lake."""
        return self.committed.intersection_cardinality(self.gone)

    @cached_property
    def diff(self) -> Diff:
        """The change from the head, or from nothing before the first commit."""
        return self.compare()

    @property
    def relabelled(self) -> int:
        """Members whose ground truths are others than at the head."""
        return self.diff.relabelled_count

    @property
    def clean(self) -> bool:
        """Whether the members are those of the head."""
        return self.members == self.committed

    def __str__(self) -> str:
        where = (
            f"{self.head.id[:8]} {self.head.message!r}" if self.head else "nothing committed yet"
        )
        changes = [f"{self.added:,} added", f"{self.removed:,} removed"]
        if self.deleted:
            changes.append(f"{self.deleted:,} of them deleted from the lake")
        said = ", ".join(changes) if not self.clean else "nothing to commit"
        return f"{self.dataset.name}: {self.size:,} datapoints, on {where}: {said}"

    def to_dict(self) -> dict[str, Any]:
        """The status as plain JSON values."""
        return {
            "dataset": self.dataset.id,
            "name": self.dataset.name,
            "revision": self.revision,
            "head": self.head.id if self.head else None,
            "size": self.size,
            "added": self.added,
            "removed": self.removed,
            "deleted": self.deleted,
            "relabelled": self.relabelled,
            "clean": self.clean,
        }
