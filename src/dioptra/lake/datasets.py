"""Datasets: collections of datapoints with versions, as in `dioptra.lake.datasets` of old.

They work where `dioptra.lake.utils` works: on an embedded lake, or on the server of
`DIOPTRA_APP_ENDPOINT`.

>>> from dioptra.lake.utils import select_datapoints, upload_to_lake
>>> upload = upload_to_lake([{"type": "TEXT", "text": text} for text in ("one", "two", "three")])
Uploaded 3 records to the lake. ...
>>> dataset = Dataset()
>>> dataset.get_or_create("numbers")
>>> dataset.add_datapoints(select_datapoints([], limit=2)["id"])
>>> version = dataset.commit("two of them")
>>> dataset.download_datapoints(fields=["text"])["text"].tolist()
['one', 'two']
>>> dataset.remove_datapoints(dataset.download_datapoints()["id"][:1])
>>> dataset.diff().counts
{'added': 0, 'removed': 1, 'relabelled': 0, 'retagged': 0, 'edited': 0}
>>> dataset.at(version).select_datapoints()["text"].tolist()
['one', 'two']
"""

# Existing code calls these by position.
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dioptra.lake.utils import _lake
from katiml.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dataset", "DatasetDiff", "DatasetVersion", "list_datasets"]

_ALL = ("*",)


def list_datasets() -> list[Dataset]:
    """All datasets, the oldest first."""
    return [Dataset._of(row) for row in _request("GET", "")]


class _Rows:
    """Queries within some datapoints, as in `dioptra.lake.utils`."""

    def _seen(self) -> dict[str, str]:
        raise NotImplementedError

    def select_datapoints(
        self,
        filters: Sequence[Any] | None = None,
        limit: int | None = None,
        order_by: str | None = None,
        desc: bool | None = None,
        fields: Sequence[str] = _ALL,
        offset: int = 0,
    ) -> pd.DataFrame:
        """The datapoints that pass all of `filters`."""
        return self._select("datapoints", filters, limit, order_by, desc, fields, offset)

    def select_groundtruths(
        self,
        filters: Sequence[Any] | None = None,
        limit: int | None = None,
        order_by: str | None = None,
        desc: bool | None = None,
        fields: Sequence[str] = _ALL,
        offset: int = 0,
    ) -> pd.DataFrame:
        """Their ground truths that pass all of `filters`."""
        return self._select("groundtruths", filters, limit, order_by, desc, fields, offset)

    def select_predictions(
        self,
        filters: Sequence[Any] | None = None,
        limit: int | None = None,
        order_by: str | None = None,
        desc: bool | None = None,
        fields: Sequence[str] = _ALL,
        offset: int = 0,
    ) -> pd.DataFrame:
        """The predictions about them, always those of now, that pass all of `filters`."""
        return self._select("predictions", filters, limit, order_by, desc, fields, offset)

    def select_bboxes(
        self,
        filters: Sequence[Any] | None = None,
        limit: int | None = None,
        order_by: str | None = None,
        desc: bool | None = None,
        fields: Sequence[str] = _ALL,
        offset: int = 0,
    ) -> pd.DataFrame:
        """Their boxes and instances that pass all of `filters`."""
        return self._select("bboxes", filters, limit, order_by, desc, fields, offset)

    def select_tags(
        self,
        filters: Sequence[Any] | None = None,
        limit: int | None = None,
        order_by: str | None = None,
        desc: bool | None = None,
        fields: Sequence[str] = _ALL,
        offset: int = 0,
    ) -> pd.DataFrame:
        """Their tags that pass all of `filters`."""
        return self._select("tags", filters, limit, order_by, desc, fields, offset)

    def download_datapoints(self, fields: Sequence[str] = _ALL) -> pd.DataFrame:
        """All of the datapoints. `fields` may reach into attachments and JSON:
        `["*", "groundtruths.*", "metadata.uri"]`; by default the datapoints' own fields."""
        return self.select_datapoints(fields=fields)

    def _select(
        self,
        table: str,
        filters: Sequence[Any] | None,
        limit: int | None,
        order_by: str | None,
        desc: bool | None,
        fields: Sequence[str],
        offset: int,
    ) -> pd.DataFrame:
        from katiml.query import to_pandas

        chosen = {
            "filters": list(filters or []),
            "limit": limit,
            "orderBy": order_by,
            "desc": desc,
            "selectColumns": [fields] if isinstance(fields, str) else list(fields),
            "offset": offset,
            **self._seen(),
        }
        return to_pandas(_lake().select(table, chosen))


class Dataset(_Rows):
    """A collection of datapoints with versions, shared by everybody who works on the lake.

    Begin with `create`, `get_or_create`, `get_from_name` or `get_from_uuid`; `dataset_id` and
    `dataset_name` are None before. The `select_…` functions see its members of now, committed or
    not.
    """

    def __init__(self) -> None:
        self.dataset_id: str | None = None
        self.dataset_name: str | None = None

    def __repr__(self) -> str:
        return f"Dataset with uuid {self.dataset_id} and name {self.dataset_name}"

    __str__ = __repr__

    @classmethod
    def _of(cls, row: Mapping[str, Any]) -> Dataset:
        dataset = cls()
        dataset._take(row)
        return dataset

    def _take(self, row: Mapping[str, Any]) -> None:
        self.dataset_id, self.dataset_name = row["uuid"], row["display_name"]

    def _ask(self, method: str, path: str = "", json: Any = None) -> Any:
        return _request(method, f"/{self._seen()['datasetId']}{path}", json)

    def _seen(self) -> dict[str, str]:
        if self.dataset_id is None:
            raise InvalidInput(
                "this Dataset stands for no dataset yet",
                hint="call get_or_create(name), get_from_name(name) or get_from_uuid(uuid) first",
            )
        return {"datasetId": self.dataset_id}

    # -- which one ---------------------------------------------------------------------------

    def get_from_uuid(self, uuid: str) -> None:
        """Become the dataset of that id. Raises NotFound."""
        self._take(_request("GET", f"/{quote(str(uuid), safe='')}"))

    def get_from_name(self, name: str) -> None:
        """Become the oldest dataset of that name. Raises ValueError where there is none."""
        found = [row for row in _request("GET", "") if row["display_name"] == name]
        if not found:
            raise InvalidInput(
                f"No Dataset exists for name {name}", hint="list_datasets() shows those there are"
            )
        if len(found) > 1:
            import warnings

            warnings.warn(
                f"{len(found)} datasets are named {name!r}; this is the oldest", stacklevel=2
            )
        self._take(found[0])

    def get_or_create(self, name: str) -> None:
        """Become the oldest dataset of that name, made where there is none."""
        self._take(_request("POST", "", {"displayName": name, "getOrCreate": True}))

    def create(self, name: str) -> None:
        """Make an empty dataset and become it; another one may have the name."""
        self._take(_request("POST", "", {"displayName": name}))

    def delete(self) -> None:
        """Delete the dataset with its versions; the datapoints stay."""
        self._ask("DELETE")

    # -- members -----------------------------------------------------------------------------

    def add_datapoints(
        self, datapoint_ids: Iterable[Any] | None = None, filters: Sequence[Any] | None = None
    ) -> None:
        """Add datapoints by ids (a list, a column of a frame), or all that pass `filters`.

        They are uncommitted until `commit`. Raises NotFound, and adds none, for an unknown id.
        """
        self._ask("POST", "/add", _members(datapoint_ids, filters))

    def remove_datapoints(
        self, datapoint_ids: Iterable[Any] | None = None, filters: Sequence[Any] | None = None
    ) -> None:
        """Remove datapoints by ids, or those that pass `filters`; they stay in the lake."""
        self._ask("POST", "/remove", _members(datapoint_ids, filters))

    def status(self) -> dict[str, Any]:
        """What is uncommitted: size, added, removed, deleted, relabelled, clean, head, revision."""
        found: dict[str, Any] = self._ask("GET", "/status")
        return found

    # -- versions ----------------------------------------------------------------------------

    def commit(self, message: str) -> str:
        """Make a version of the members; returns its id."""
        return str(self._ask("POST", "/commit", {"message": message})["uuid"])

    def history(self) -> list[dict[str, Any]]:
        """The versions, the newest first; the very first entry is the uncommitted one."""
        rows: list[dict[str, Any]] = self._ask("GET", "/versions")
        return rows

    def checkout(self, commit_id: str) -> str:
        """Go on from a version; returns its id. Uncommitted changes are put away."""
        return str(self._ask("POST", f"/checkout/{quote(str(commit_id), safe='')}"))

    def at(self, version: str = "HEAD") -> DatasetVersion:
        """A version, by its id, the first digits of it, a tag, or HEAD~1: to be read."""
        row = self._ask("GET", f"/versions/{quote(str(version), safe='')}")
        return DatasetVersion(row)

    def diff(self, before: str = "HEAD", after: str = "draft") -> DatasetDiff:
        """How two versions differ; by default what is uncommitted."""
        query = f"before={quote(str(before), safe='')}&after={quote(str(after), safe='')}"
        return DatasetDiff(self._ask("GET", f"/diff?{query}"))


class DatasetVersion(_Rows):
    """A committed version: the `select_…` functions see it as it was."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.version_id: str = row["uuid"]
        self.dataset_id: str = row["dataset_uuid"]
        self.message: str = row["message"]
        self.created_at: str = row["created_at"]
        self.created_by: str | None = row["created_by"]
        self.parents: list[str] = row["parents"]
        self.size: int = row["size"]

    def __repr__(self) -> str:
        return f"Version {self.version_id} ({self.message!r}) with {self.size} datapoints"

    def _seen(self) -> dict[str, str]:
        return {"versionId": self.version_id}


class DatasetDiff:
    """How two versions differ; `print` shows a table.

    `counts`, and the ids `added`, `removed`, `relabelled`, `retagged`, `edited`; `groundtruths`,
    `predictions` and `tags` are frames of how many there are of each before and after.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        import pandas as pd

        self.counts: dict[str, int] = found["counts"]
        self.added: list[str] = found["added"]
        self.removed: list[str] = found["removed"]
        self.relabelled: list[str] = found["relabelled"]
        self.retagged: list[str] = found["retagged"]
        self.edited: list[str] = found["edited"]
        spread = found["distributions"]
        counted = ["before", "after", "change"]
        labelled = ["task_type", "bucket", *counted]
        self.groundtruths = pd.DataFrame(spread["groundtruths"], columns=labelled)
        self.predictions = pd.DataFrame(spread["predictions"], columns=["model_name", *labelled])
        self.tags = pd.DataFrame(spread["tags"], columns=["name", "value", *counted])
        self._labels = [_label(found[side]) for side in ("before", "after")]

    def __str__(self) -> str:
        from katiml.datasets.report import as_text

        return as_text(self.__rich__())

    def __rich__(self) -> Any:
        """A table for the terminal."""
        from katiml.datasets.report import report

        frames = {
            "groundtruths": self.groundtruths,
            "predictions": self.predictions,
            "tags": self.tags,
        }
        before, after = self._labels
        return report(before, after, self.counts, frames)


def _label(side: Mapping[str, Any]) -> str:
    version = side["version"]
    return f"{version['id'][:8]} {version['message']}" if version else "uncommitted"


def _members(ids: Iterable[Any] | None, filters: Sequence[Any] | None) -> dict[str, Any]:
    if ids is None:
        return {"filters": list(filters) if filters is not None else None}
    if isinstance(ids, str) or hasattr(ids, "columns"):
        raise InvalidInput(
            "datapoint_ids is a text or a whole frame", hint="pass a list of ids, or frame['id']"
        )
    listed = [str(one) for one in ids]
    return {"datapointIds": listed, "filters": list(filters) if filters is not None else None}


def _request(method: str, path: str, json: Any = None) -> Any:
    return _lake().request(method, f"/api/dataset{path}", json)
