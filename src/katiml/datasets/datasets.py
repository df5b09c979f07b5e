"""`lake.datasets`: the datasets of one organization."""

from __future__ import annotations

import builtins
from typing import Any
from uuid import UUID

from pyroaring import BitMap

from katiml.datasets import edits
from katiml.datasets.dataset import Dataset, snapshot, warn_if
from katiml.datasets.diff import Diff, Snapshot
from katiml.datasets.picking import gone_rows
from katiml.datasets.references import find_version
from katiml.datasets.sets import read_set
from katiml.datasets.state import (
    DatasetState,
    VersionState,
    checked_text,
    find_dataset,
    is_id,
    list_datasets,
    read_dataset,
    read_version,
)
from katiml.datasets.version import Version
from katiml.errors import InvalidInput, NotFound
from katiml.query.fields import shown
from katiml.store.scope import Scope
from katiml.store.views import Moment, View

__all__ = ["Datasets"]


class Datasets:
    """The datasets of one organization.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> dataset = lake.datasets.create("train")
    >>> lake.datasets.get("train") == dataset == lake.datasets.get(dataset.id[:8])
    True
    >>> lake.datasets.list()  # doctest: +ELLIPSIS
    [<Dataset 'train' ...>]
    >>> lake.close()
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def create(self, name: str, *, author: str | None = None, warn: bool = True) -> Dataset:
        """Make an empty dataset. Warns where another one has the name; both then exist."""
        state, taken = self._create(name, author, only_new=False)
        warn_if(taken and warn, state.name)
        return Dataset(self._scope, state)

    def get(self, name_or_id: str) -> Dataset:
        """The dataset of that name, id, or beginning of an id. Raises NotFound.

        Of several with the name the oldest, with a warning.
        """
        return Dataset(self._scope, find_dataset(self._scope, name_or_id))

    def get_or_create(self, name: str, *, author: str | None = None) -> Dataset:
        """The oldest dataset of that name, made where there is none; two callers get the same."""
        return Dataset(self._scope, self._create(name, author, only_new=True)[0])

    def _create(
        self, name: str, author: str | None, *, only_new: bool
    ) -> tuple[DatasetState, bool]:
        text = checked_text("name", name)
        return self._scope.transact(
            lambda transaction: edits.create(
                transaction,
                text,
                self._scope.author if author is None else author,
                only_new=only_new,
            )
        )

    def list(self) -> list[Dataset]:
        """All datasets, the oldest first."""
        return [Dataset(self._scope, state) for state in list_datasets(self._scope)]

    def sizes(self) -> dict[str, int]:
        """How many members each dataset has now, by its id."""
        stored = {
            state.id: read_set(self._scope, state.members) for state in list_datasets(self._scope)
        }
        gone = gone_rows(self._scope, BitMap().union(*stored.values()))
        return {id_: members.difference_cardinality(gone) for id_, members in stored.items()}

    def rename(self, name_or_id: str, name: str, *, author: str | None = None) -> Dataset:
        """Give a dataset another name."""
        dataset = self.get(name_or_id)
        dataset.rename(name, author=author)
        return dataset

    def delete(self, name_or_id: str, *, author: str | None = None) -> None:
        """Delete a dataset with its versions; the datapoints stay. `lake.undo` brings it back."""
        self.get(name_or_id).delete(author=author)

    def version(self, version: str) -> Version:
        """The version of that id, whichever dataset it is of. Raises NotFound."""
        state = read_version(self._scope, _checked_id(version))
        read_dataset(self._scope, state.dataset)
        return Version(self._scope, state)

    def of_version(self, version: str) -> tuple[Dataset, Version | None]:
        """The dataset with the version of that id; None for its uncommitted members."""
        state, found = self._found(version)
        dataset = Dataset(self._scope, state)
        return dataset, None if found is None else Version(self._scope, found)

    def diff(self, before: Version | str, after: Version | str) -> Diff:
        """How one version differs from another; they may be of two datasets.

        Each is a `Version`, the id of one, or the `draft_id` of a dataset for its uncommitted
        members.
        """
        return Diff(self._scope, self._snapshot(before), self._snapshot(after))

    def _snapshot(self, version: Version | str) -> Snapshot:
        if isinstance(version, Version):
            return Snapshot.of(version)
        return snapshot(self._scope, *self._found(version))

    def _found(self, reference: object) -> tuple[DatasetState, VersionState | None]:
        """A dataset and its version (None: the uncommitted members) by the id of the version."""
        id_ = _checked_id(reference)
        drafts = [one for one in list_datasets(self._scope) if one.draft == id_]
        if drafts:
            return drafts[0], None
        version = read_version(self._scope, id_)
        return read_dataset(self._scope, version.dataset), version

    def scope(
        self, dataset: Dataset | str | None = None, version: Version | str | None = None
    ) -> Scope:
        """The lake as a dataset's members of now or a version shows it; all of it without either.

        A version alone is named by its id, or is the `draft_id` of a dataset; with a dataset, by
        whatever names it there. Raises NotFound and InvalidInput.
        """
        if dataset is None and version is None:
            return self._scope
        reference: Any = version.id if isinstance(version, Version) else version
        if dataset is None:
            state, found = self._found(reference)
        else:
            name = dataset.id if isinstance(dataset, Dataset) else dataset
            state = find_dataset(self._scope, name)
            found = None
            if reference is not None:
                found = find_version(self._scope, state, reference, draft=True)
        if found is None:
            return self._scope.at(View(read_set(self._scope, state.members)))
        return Version(self._scope, found).scope

    def views(self) -> builtins.list[View]:
        """What versions show, for `lake.forget`: all their datapoints, at each of their moments."""
        rows = self._scope.query("SELECT DISTINCT members, moment FROM {dataset_versions}")
        names = dict.fromkeys(rows["members"].to_pylist())
        everybody = BitMap().union(*(read_set(self._scope, name) for name in names))
        moments = dict.fromkeys(rows["moment"].to_pylist())
        return [View(everybody, Moment.from_bytes(moment)) for moment in moments]


def _checked_id(reference: object) -> str:
    if isinstance(reference, str) and is_id(reference):
        return str(UUID(reference))
    if isinstance(reference, str) and reference:
        raise NotFound(
            f"no version {shown(reference)}",
            hint="without its dataset, a version is named by its whole id",
        )
    raise InvalidInput(f"{shown(reference)} names no version", hint="pass a version's id, a text")
