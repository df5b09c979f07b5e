"""How one version differs from another: members, labels, and how the labels are spread."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyroaring import BitMap

from katiml.datasets.labels import field_texts, label_texts, relabelled, tag_texts
from katiml.datasets.report import as_text, report
from katiml.datasets.spread import spread
from katiml.datasets.version import Version
from katiml.query.collection import Collection
from katiml.store.bitmaps import to_rows
from katiml.store.scope import Scope
from katiml.store.views import Moment, View

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Diff", "Snapshot"]

_PARTS = ("added", "removed", "relabelled", "retagged", "edited")
_TABLES = ("groundtruths", "predictions", "tags")


@dataclass(frozen=True)
class Snapshot:
    """One side of a diff: a version, or without one the members of now."""

    dataset: str
    version: Version | None
    members: BitMap
    label: str

    @property
    def moment(self) -> Moment | None:
        """The changes of the lake that it shows; None is now."""
        return self.version.moment if self.version else None

    @classmethod
    def of(cls, version: Version) -> Snapshot:
        """A version as one side."""
        label = f"{version.short_id} {version.message.splitlines()[0]}"
        return cls(version.dataset_id, version, version.members, label)

    def to_dict(self) -> dict[str, Any]:
        """What a JSON document says of it."""
        version = self.version.to_dict() if self.version else None
        return {"dataset": self.dataset, "version": version, "size": len(self.members)}


class Diff:
    """The change from `before` to `after`. Counts of members are there; the rest is read when asked
    for, each once.

    `added` and `removed` are DataFrames of datapoints; `relabelled`, `retagged` and `edited` of
    members of both whose ground truths, tags or own fields differ, with what they were and are;
    `groundtruths`, `predictions` and `tags` of how many there are of each before and after.
    """

    def __init__(self, scope: Scope, before: Snapshot, after: Snapshot) -> None:
        self._scope = scope
        self.before = before
        self.after = after

    def __repr__(self) -> str:
        return (
            f"<Diff {self.before.label!r} .. {self.after.label!r}: "
            f"{self.added_count:,} added, {self.removed_count:,} removed>"
        )

    def __bool__(self) -> bool:
        return any(getattr(self, f"{part}_rows") for part in _PARTS)

    # -- members -----------------------------------------------------------------------------

    @cached_property
    def added_rows(self) -> BitMap:
        """The row numbers of the datapoints that only `after` has."""
        return self.after.members - self.before.members

    @cached_property
    def removed_rows(self) -> BitMap:
        """The row numbers of the datapoints that only `before` has."""
        return self.before.members - self.after.members

    @cached_property
    def relabelled_rows(self) -> BitMap:
        """The row numbers of the members of both whose ground truths differ."""
        return self._different("groundtruths")

    @cached_property
    def retagged_rows(self) -> BitMap:
        """The row numbers of the members of both whose tags differ."""
        return self._different("tags")

    @cached_property
    def edited_rows(self) -> BitMap:
        """The row numbers of the members of both whose own fields (text, metadata) differ."""
        return self._different("datapoints")

    def _different(self, table: str) -> BitMap:
        both = self.before.members & self.after.members
        return relabelled(self._scope, both, self.before.moment, self.after.moment, table)

    @property
    def added_count(self) -> int:
        """How many datapoints only `after` has."""
        return len(self.added_rows)

    @property
    def removed_count(self) -> int:
        """How many datapoints only `before` has."""
        return len(self.removed_rows)

    @property
    def relabelled_count(self) -> int:
        """How many members of both have other ground truths."""
        return len(self.relabelled_rows)

    @property
    def retagged_count(self) -> int:
        """How many members of both have other tags."""
        return len(self.retagged_rows)

    @property
    def edited_count(self) -> int:
        """How many members of both have other fields of their own."""
        return len(self.edited_rows)

    @cached_property
    def added(self) -> pd.DataFrame:
        """The datapoints that only `after` has, as it shows them."""
        return self.collection("added").select()

    @cached_property
    def removed(self) -> pd.DataFrame:
        """The datapoints that only `before` has, as it shows them."""
        return self.collection("removed").select()

    def collection(self, part: str, table: str = "datapoints") -> Collection:
        """Rows of `table` that belong to the datapoints "added" or "removed", for any query."""
        rows = {"added": self.added_rows, "removed": self.removed_rows}[part]
        side = self.after if part == "added" else self.before
        return Collection(self._scope.at(View(rows, side.moment)), table)

    @cached_property
    def relabelled(self) -> pd.DataFrame:
        """`id`, and the ground truths `before` and `after` as lists of short texts."""
        return self._texts(self.relabelled_rows, label_texts)

    @cached_property
    def retagged(self) -> pd.DataFrame:
        """`id`, and the tags `before` and `after` as lists of texts `name=value`."""
        return self._texts(self.retagged_rows, tag_texts)

    @cached_property
    def edited(self) -> pd.DataFrame:
        """`id`, and those fields that differ, `before` and `after` as lists `name=value`."""
        return self._texts(self.edited_rows, field_texts, only_changed=True)

    def _texts(self, rows: BitMap, texts_of: Any, *, only_changed: bool = False) -> pd.DataFrame:
        import pandas as pd

        before, after = (
            texts_of(self._scope.at(View(rows, side.moment))) for side in (self.before, self.after)
        )
        columns: dict[str, list[Any]] = {"id": [], "before": [], "after": []}
        ids = self._ids(rows)
        for row in to_rows(rows).tolist():
            if row in ids:
                was, now = before.get(row, []), after.get(row, [])
                kept = set(was) & set(now) if only_changed else set()
                columns["id"].append(ids[row])
                columns["before"].append([text for text in was if text not in kept])
                columns["after"].append([text for text in now if text not in kept])
        return pd.DataFrame({name: pd.Series(own, dtype=object) for name, own in columns.items()})

    def ids(self, part: str) -> list[str]:
        """The ids of the datapoints "added", "removed", "relabelled", "retagged" or
        "edited".

        Those of datapoints that were purged are among them.
        """
        rows: BitMap = getattr(self, f"{part}_rows")
        known = self._ids(rows)
        return [known[row] for row in to_rows(rows).tolist() if row in known]

    def _ids(self, rows: BitMap) -> dict[int, str]:
        """Ids by row, of datapoints that are in the lake or were."""
        shown = self._scope.at(View(members=rows))
        found: dict[int, str] = {}
        for table, name in (
            ("datapoints", "id"),
            ("removed_datapoints", "id"),
            ("tombstones", "datapoint"),
        ):
            if len(found) == len(rows):
                break
            named = shown.query(f"SELECT row, CAST({name} AS VARCHAR) AS id FROM {{{table}}}")
            pairs = zip(named["row"].to_pylist(), named["id"].to_pylist(), strict=True)
            found.update(pair for pair in pairs if pair[0] in rows)
        return found

    # -- distributions -----------------------------------------------------------------------

    @cached_property
    def groundtruths(self) -> pd.DataFrame:
        """`task_type, bucket, before, after, change`: how many ground truths of each class."""
        return self._spread("groundtruths")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """`model_name, task_type, bucket, before, after, change`: predictions of each class."""
        return self._spread("predictions")

    @cached_property
    def tags(self) -> pd.DataFrame:
        """`name, value, before, after, change`: how many datapoints have each tag."""
        return self._spread("tags")

    def _spread(self, table: str) -> pd.DataFrame:
        sides = [
            self._scope.at(View(side.members, side.moment)) for side in (self.before, self.after)
        ]
        return spread(sides[0], sides[1], table)

    # -- forms -------------------------------------------------------------------------------

    def to_dict(self, *, ids: bool = True, distributions: bool = True) -> dict[str, Any]:
        """The diff as plain JSON values; without `ids` only their numbers."""
        result: dict[str, Any] = {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "counts": {part: getattr(self, f"{part}_count") for part in _PARTS},
        }
        if ids:
            result |= {part: self.ids(part) for part in _PARTS}
        if distributions:
            result["distributions"] = {
                table: getattr(self, table).to_dict("records") for table in _TABLES
            }
        return result

    def __rich__(self) -> Any:
        """A table for the terminal."""
        counts = {part: getattr(self, f"{part}_count") for part in _PARTS}
        frames = {table: getattr(self, table) for table in _TABLES}
        return report(self.before.label, self.after.label, counts, frames)

    def __str__(self) -> str:
        return as_text(self.__rich__())
