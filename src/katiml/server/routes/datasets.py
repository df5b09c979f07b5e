"""`/api/dataset…`: datasets, their members, versions and diffs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from katiml.datasets.state import is_id
from katiml.errors import NotFound
from katiml.server.answers import json_response, rows_response
from katiml.server.auth import CallerLake
from katiml.server.bodies import (
    Checkout,
    Commit,
    DatasetName,
    DiffOf,
    Members,
    MergeOf,
    RestoreDraft,
    VersionTag,
    body,
    schema_of,
)

if TYPE_CHECKING:
    from katiml.datasets import Dataset, Diff, Version
    from katiml.lake import Lake
    from katiml.query import Collection

__all__ = ["router"]

router = APIRouter(prefix="/api/dataset", tags=["datasets"])

_Reference = Annotated[str | None, Query(max_length=1_000)]
_Flag = Annotated[bool, Query()]


def _dataset(lake: Lake, dataset_id: str) -> Dataset:
    if not is_id(dataset_id):
        raise NotFound(f"no dataset {dataset_id[:100]!r}", hint="datasets are named by their ids")
    return lake.datasets.get(dataset_id)


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def _dataset_row(dataset: Dataset, organization_id: str, size: int) -> dict[str, Any]:
    found = dataset.to_dict()
    return {
        "uuid": found["id"],
        "organization_id": organization_id,
        "created_at": _iso(dataset.created_at),
        "created_by": found["created_by"],
        "display_name": found["name"],
        **{name: found[name] for name in ("head", "draft", "revision")},
        "size": size,
    }


def _version_row(version: Version, tags: list[str]) -> dict[str, Any]:
    return {
        "uuid": version.id,
        "dataset_uuid": version.dataset_id,
        "created_at": _iso(version.created_at),
        "created_by": version.author,
        "message": version.message,
        "dirty": False,
        "committed": True,
        "parents": version.parents,
        "size": version.size,
        "added": version.added,
        "removed": version.removed,
        "tags": tags,
    }


def _draft_row(dataset: Dataset) -> dict[str, Any]:
    """The uncommitted members, as the version that they were in the original."""
    status = dataset.status()
    return {
        "uuid": dataset.draft_id,
        "dataset_uuid": dataset.id,
        "created_at": _iso(dataset.created_at),
        "created_by": dataset.created_by,
        "message": "",
        "dirty": not status.clean,
        "committed": False,
        "parents": [status.head.id] if status.head else [],
        "size": status.size,
        "added": status.added,
        "removed": status.removed,
        "tags": [],
        "revision": status.revision,
    }


def _names(dataset: Dataset) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, version in dataset.version_tags().items():
        names.setdefault(version, []).append(name)
    return names


def _any_version(lake: Lake, version_id: str) -> tuple[Dataset, Version | None]:
    """A version with its dataset; None for the uncommitted one."""
    if not is_id(version_id):
        raise NotFound(f"no version {version_id[:100]!r}", hint="versions are named by their ids")
    return lake.datasets.of_version(version_id)


def _row_of(dataset: Dataset, version: Version | None) -> dict[str, Any]:
    if version is None:
        return _draft_row(dataset)
    return _version_row(version, _names(dataset).get(version.id, []))


# -- datasets --------------------------------------------------------------------------------


@router.get("", summary="All datasets, the oldest first")
def list_datasets(lake: CallerLake) -> Response:
    sizes = lake.datasets.sizes()
    datasets = [one for one in lake.datasets.list() if one.id in sizes]
    rows = [_dataset_row(one, lake.organization_id, sizes[one.id]) for one in datasets]
    return json_response(rows)


@router.post(
    "", summary="Make a dataset, or rename one with uuid", openapi_extra=schema_of(DatasetName)
)
def create(lake: CallerLake, wanted: Annotated[Any, Depends(body(DatasetName))]) -> Response:
    if wanted.uuid is None and wanted.get_or_create:
        dataset = lake.datasets.get_or_create(wanted.display_name)
    elif wanted.uuid is None:
        dataset = lake.datasets.create(wanted.display_name, warn=False)
    else:
        dataset = _dataset(lake, wanted.uuid)
        dataset.rename(wanted.display_name, warn=False)
    return json_response(_dataset_row(dataset, lake.organization_id, len(dataset)))


@router.get("/{dataset_id}", summary="One dataset")
def one_dataset(lake: CallerLake, dataset_id: str) -> Response:
    dataset = _dataset(lake, dataset_id)
    return json_response(_dataset_row(dataset, lake.organization_id, len(dataset)))


@router.delete("/{dataset_id}", summary="Delete a dataset with its versions; datapoints stay")
def delete(lake: CallerLake, dataset_id: str) -> Response:
    dataset = _dataset(lake, dataset_id)
    dataset.delete()
    return json_response({"uuid": dataset.id})


@router.get("/{dataset_id}/status", summary="What is not committed")
def status(lake: CallerLake, dataset_id: str) -> Response:
    return json_response(_dataset(lake, dataset_id).status().to_dict())


# -- members ---------------------------------------------------------------------------------


@router.post(
    "/{dataset_id}/add",
    summary="Add datapoints by ids or filters; all of them or, with an unknown id, none",
    openapi_extra=schema_of(Members),
)
def add(
    lake: CallerLake,
    dataset_id: str,
    wanted: Annotated[Any, Depends(body(Members))],
) -> Response:
    count = _dataset(lake, dataset_id).add(**_members(wanted))
    return json_response({"count": count})


@router.post(
    "/{dataset_id}/remove",
    summary="Remove datapoints by ids or filters",
    openapi_extra=schema_of(Members),
)
def remove(
    lake: CallerLake,
    dataset_id: str,
    wanted: Annotated[Any, Depends(body(Members))],
) -> Response:
    count = _dataset(lake, dataset_id).remove(**_members(wanted))
    return json_response({"count": count})


def _members(wanted: Any) -> dict[str, Any]:
    return {
        "ids": wanted.datapoint_ids,
        "filters": wanted.filters,
        "all": bool(wanted.all),
        "author": wanted.author,
        "expected_revision": wanted.revision,
    }


def _rows(request: Request, rows: Collection) -> Response:
    return rows_response(request, rows.select_json, lambda: rows.select(form="batches"))


@router.get("/{dataset_id}/datapoints", summary="The members of now, committed or not")
def datapoints(request: Request, lake: CallerLake, dataset_id: str) -> Response:
    return _rows(request, _dataset(lake, dataset_id).datapoints)


@router.get("/{dataset_id}/datapoint-ids", summary="The ids of the members of now")
def datapoint_ids(lake: CallerLake, dataset_id: str) -> Response:
    return json_response(_dataset(lake, dataset_id).ids())


# -- versions --------------------------------------------------------------------------------


@router.get("/{dataset_id}/uncommitted-version", summary="The uncommitted members as a version")
def uncommitted(lake: CallerLake, dataset_id: str) -> Response:
    return json_response(_draft_row(_dataset(lake, dataset_id)))


@router.get(
    "/{dataset_id}/versions", summary="The uncommitted version, then all others, latest first"
)
def versions(lake: CallerLake, dataset_id: str) -> Response:
    dataset = _dataset(lake, dataset_id)
    names = _names(dataset)
    committed = [_version_row(one, names.get(one.id, [])) for one in dataset.versions()]
    return json_response([_draft_row(dataset), *committed])


@router.get("/{dataset_id}/versions/{version:path}", summary="A version by id, tag or HEAD~1")
def named_version(lake: CallerLake, dataset_id: str, version: str) -> Response:
    dataset = _dataset(lake, dataset_id)
    return json_response(_row_of(dataset, dataset.at(version)))


@router.post(
    "/{dataset_id}/commit",
    summary="Make a version; without changes too, unless allowEmpty is false",
    openapi_extra=schema_of(Commit),
)
def commit(
    lake: CallerLake,
    dataset_id: str,
    wanted: Annotated[Any, Depends(body(Commit))],
) -> Response:
    version = _dataset(lake, dataset_id).commit(
        wanted.message,
        wanted.author,
        wanted.allow_empty is not False,
        expected_revision=wanted.revision,
    )
    return json_response(_version_row(version, []))


@router.post(
    "/{dataset_id}/checkout/{version}",
    summary="Go on from a version; what is uncommitted is put away, or refused without force",
    openapi_extra=schema_of(Checkout),
)
def checkout(
    lake: CallerLake,
    dataset_id: str,
    version: str,
    wanted: Annotated[Any, Depends(body(Checkout))],
) -> Response:
    found = _dataset(lake, dataset_id).checkout(
        version,
        wanted.force is not False,
        author=wanted.author,
        expected_revision=wanted.revision,
    )
    return json_response(found.id)


@router.get("/{dataset_id}/drafts", summary="Uncommitted changes that a checkout put away")
def drafts(lake: CallerLake, dataset_id: str) -> Response:
    rows = _dataset(lake, dataset_id).drafts().to_dict("records")
    return json_response([{**row, "discarded_at": _iso(row["discarded_at"])} for row in rows])


@router.post(
    "/{dataset_id}/restore",
    summary="Bring uncommitted changes back that a checkout put away",
    openapi_extra=schema_of(RestoreDraft),
)
def restore(
    lake: CallerLake,
    dataset_id: str,
    wanted: Annotated[Any, Depends(body(RestoreDraft))],
) -> Response:
    status = _dataset(lake, dataset_id).restore(
        wanted.draft,
        bool(wanted.force),
        author=wanted.author,
        expected_revision=wanted.revision,
    )
    return json_response(status.to_dict())


@router.post(
    "/{dataset_id}/merge",
    summary="Merge a version into another, by default into the head",
    openapi_extra=schema_of(MergeOf),
)
def merge(
    lake: CallerLake,
    dataset_id: str,
    wanted: Annotated[Any, Depends(body(MergeOf))],
) -> Response:
    merged = _dataset(lake, dataset_id).merge(
        wanted.theirs,
        wanted.ours,
        message=wanted.message,
        author=wanted.author,
        expected_revision=wanted.revision,
    )
    return json_response(merged.to_dict())


@router.get("/{dataset_id}/tags", summary="The names given to versions")
def tags(lake: CallerLake, dataset_id: str) -> Response:
    return json_response(_dataset(lake, dataset_id).version_tags())


@router.post(
    "/{dataset_id}/tags", summary="Give a version a name", openapi_extra=schema_of(VersionTag)
)
def tag(
    lake: CallerLake,
    dataset_id: str,
    wanted: Annotated[Any, Depends(body(VersionTag))],
) -> Response:
    dataset = _dataset(lake, dataset_id)
    dataset.tag(wanted.name, wanted.version, force=bool(wanted.force))
    return json_response(dataset.version_tags())


@router.delete("/{dataset_id}/tags/{name:path}", summary="Take the name of a version away")
def untag(lake: CallerLake, dataset_id: str, name: str) -> Response:
    dataset = _dataset(lake, dataset_id)
    dataset.untag(name)
    return json_response(dataset.version_tags())


@router.get("/version/{version_id}", summary="One version, of any dataset")
def one_version(lake: CallerLake, version_id: str) -> Response:
    return json_response(_row_of(*_any_version(lake, version_id)))


@router.get("/version/{version_id}/datapoint-ids", summary="The ids of its datapoints")
def version_ids(lake: CallerLake, version_id: str) -> Response:
    dataset, version = _any_version(lake, version_id)
    return json_response((version or dataset).ids())


@router.get("/version/{version_id}/datapoints", summary="Its datapoints, as they were")
def version_datapoints(request: Request, lake: CallerLake, version_id: str) -> Response:
    dataset, version = _any_version(lake, version_id)
    return _rows(request, (version or dataset).datapoints)


# -- diffs -----------------------------------------------------------------------------------


@router.get("/diff/{version1}/{version2}", summary="Ids added and removed between two versions")
def diff_of_ids(lake: CallerLake, version1: str, version2: str) -> Response:
    before, after = _any_version(lake, version1), _any_version(lake, version2)
    found = lake.datasets.diff(version1, version2)
    return json_response(
        {
            "added": found.ids("added"),
            "removed": found.ids("removed"),
            "version1": _row_of(*before),
            "version2": _row_of(*after),
            "dataset1": _dataset_row(before[0], lake.organization_id, len(before[0])),
            "dataset2": _dataset_row(after[0], lake.organization_id, len(after[0])),
        }
    )


@router.post(
    "/diff",
    summary="How versions differ, of one dataset or two, with labels and distributions",
    openapi_extra=schema_of(DiffOf),
)
def diff_of_versions(lake: CallerLake, wanted: Annotated[Any, Depends(body(DiffOf))]) -> Response:
    return _diff(lake.datasets.diff(wanted.before, wanted.after), wanted.ids, wanted.distributions)


@router.get(
    "/{dataset_id}/diff",
    summary="How two versions differ; by default what is uncommitted",
)
def diff(
    lake: CallerLake,
    dataset_id: str,
    before: _Reference = "HEAD",
    after: _Reference = "draft",
    ids: _Flag = True,
    distributions: _Flag = True,
) -> Response:
    return _diff(_dataset(lake, dataset_id).diff(before, after), ids, distributions)


def _diff(found: Diff, ids: bool | None, distributions: bool | None) -> Response:
    return json_response(
        found.to_dict(ids=ids is not False, distributions=distributions is not False)
    )
