"""What a merge says of itself."""

from __future__ import annotations

from typing import Any

from katiml.datasets.commits import Merged
from katiml.datasets.version import Version

__all__ = ["Merge"]


class Merge:
    """The result of `Dataset.merge`: the version, and what came from which side.

    `base` is the id of the version that both come from, None where there is none; the counts are
    against it. `fast_forward` says that one side came from the other, so that its version was
    taken as it is.
    """

    def __init__(self, version: Version, merged: Merged) -> None:
        self.version = version
        self.base = merged.base.id if merged.base else None
        self.ours = merged.ours.id
        self.theirs = merged.theirs.id
        self.fast_forward = version.id in (self.ours, self.theirs)
        self.added_by_ours = len(merged.added_by_ours)
        self.removed_by_ours = len(merged.removed_by_ours)
        self.added_by_theirs = len(merged.added_by_theirs)
        self.removed_by_theirs = len(merged.removed_by_theirs)
        # Changed by both, in the same way: there is no other.
        self.added_by_both = merged.added_by_ours.intersection_cardinality(merged.added_by_theirs)
        self.removed_by_both = merged.removed_by_ours.intersection_cardinality(
            merged.removed_by_theirs
        )

    def __repr__(self) -> str:
        return f"<Merge {self}>"

    def __str__(self) -> str:
        if self.fast_forward:
            return f"{self.version.short_id}: one side came from the other, nothing to merge"
        return (
            f"{self.version.short_id}: {self.version.size:,} datapoints; "
            f"{self.ours[:8]} brought +{self.added_by_ours:,} -{self.removed_by_ours:,}, "
            f"{self.theirs[:8]} brought +{self.added_by_theirs:,} -{self.removed_by_theirs:,}, "
            f"of these both +{self.added_by_both:,} -{self.removed_by_both:,}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {**vars(self), "version": self.version.to_dict()}
