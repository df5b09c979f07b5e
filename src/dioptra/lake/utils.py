"""Records in, queries out.

With no `DIOPTRA_APP_ENDPOINT` in the environment these functions work on an embedded lake (that of
`KATIML_LAKE`, by default `~/.katiml`): no server, no key. With it, they call that server, with the
key of `DIOPTRA_API_KEY`. The environment is read at each call.

>>> upload = upload_to_lake([{"type": "TEXT", "text": "hello", "tags": {"source": "docs"}}])
Uploaded 1 records to the lake. ...
>>> wait_for_upload(upload)["status"]
'SUCCEEDED'
>>> filters = [{"left": "tags.name", "op": "=", "right": "source"}]
>>> select_datapoints(filters)["text"].tolist()
['hello']
"""

# Existing code calls these by position.
from __future__ import annotations

import datetime
import gzip
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dioptra import _buckets, _frames, _images, _progress, _settings
from dioptra._embedded import EmbeddedLake, embedded
from dioptra._encode import encode_records
from dioptra._http import ServerLake
from katiml.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "delete_datapoints",
    "delete_groundtruths",
    "delete_predictions",
    "group_by_uri",
    "join_on_datapoints",
    "match",
    "query_dioptra_app",
    "select_bboxes",
    "select_completions",
    "select_datapoints",
    "select_groundtruths",
    "select_lanes",
    "select_predictions",
    "store_to_local_cache",
    "stream_to_lake",
    "upload_image_dataset",
    "upload_local_cache",
    "upload_to_lake",
    "upload_to_lake_from_bucket",
    "upload_to_lake_via_object_store",
    "wait_for_upload",
]

_ALL = ("*",)
_FAILED = ("FAILED", "TIMED_OUT", "ABORTED")
# An upload that says nothing new for this long is taken to be stuck.
_STUCK_SECONDS = 900.0
_LONGEST_PAUSE = 60.0


def upload_to_lake(records: Iterable[Any], disable_batching: bool = False) -> dict[str, Any]:
    """Ingest records; returns the upload, whose `id` `wait_for_upload` takes.

    `records` are dicts, in which NumPy arrays and scalars are welcome. `disable_batching` is
    accepted for older code and changes nothing that can be seen.
    """
    upload, count = _lake().upload(records, batching=not disable_batching)
    return _announced(upload, count)


def stream_to_lake(records: Iterable[Any]) -> dict[str, Any]:
    """Ingest a few records in the request itself; they are committed when this returns."""
    if isinstance(_lake(), EmbeddedLake) and _settings.events_endpoint():
        return ServerLake("").stream(records)
    return _lake().stream(records)


def upload_to_lake_via_object_store(
    records: Iterable[Any],
    custom_path: str = "",
    disable_batching: bool = False,
    offset: int | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Write records to the bucket of `DIOPTRA_UPLOAD_BUCKET` and have them ingested from there.

    The better way for large records: the server reads the bucket itself. `offset` and `limit` are
    the first line to ingest and the line to stop before, from 0.
    """
    name = _file_name()
    url = _buckets.bucket_url(custom_path, name)
    count = _write_gzip(url, records)
    path = url.partition("://")[2]
    bucket, _, object_name = path.partition("/")
    upload = _from_bucket(
        bucket, object_name, _settings.storage_type(), disable_batching, offset, limit
    )
    return _announced(upload, count)


def upload_to_lake_from_bucket(
    bucket_name: str,
    object_name: str,
    storage_type: str = "s3",
    disable_batching: bool = False,
    offset: int | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Have a file of a bucket ingested: newline-delimited JSON, a JSON array or Parquet, plain or
    compressed. The server is given an address that is signed for an hour, never credentials."""
    upload = _from_bucket(bucket_name, object_name, storage_type, disable_batching, offset, limit)
    return _announced(upload, None)


def store_to_local_cache(records: Iterable[Any]) -> str:
    """Write records as a file of `DIOPTRA_LOCAL_CACHE_DIR` for later; returns its path."""
    path = str(_settings.local_cache_dir() / _file_name())
    _write_gzip(path, records)
    return path


def upload_local_cache(paths: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Upload files that `store_to_local_cache` wrote, the oldest first, and delete each when it is
    ingested; returns the states of the uploads.

    Without `paths`, all that lie in `DIOPTRA_LOCAL_CACHE_DIR`. Raises RuntimeError when an upload
    failed; its file and those after it stay.
    """
    folder = _settings.local_cache_dir()
    found = (
        [Path(path) for path in paths] if paths is not None else list(folder.glob("*.ndjson.gz"))
    )
    states = []
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns):
        states.append(wait_for_upload(_lake().upload_file(str(path))))
        path.unlink()
    return states


def wait_for_upload(upload_id: str | Mapping[str, Any]) -> dict[str, Any]:
    """Wait until an upload (its id, or what `upload_to_lake` returned) is done; returns its state.

    Raises RuntimeError when it failed, or did not move for 15 minutes.
    """
    identity = upload_id["id"] if isinstance(upload_id, Mapping) else upload_id
    lake = _lake()
    pause, still = 0.05, 0.0
    seen: Any = None
    with _progress.bar("ingesting", None) as reached:
        while True:
            state = lake.execution(str(identity))
            if state["status"] == "SUCCEEDED":
                return state
            if state["status"] in _FAILED:
                reason = state.get("errorMessage") or state["status"]
                raise RuntimeError(
                    f"upload {identity} failed: {reason}. See {lake.where(str(identity))}"
                )
            moved = {name: state[name] for name in state if name != "durationMs"}
            still = 0.0 if moved != seen else still + pause
            seen = moved
            if still > _STUCK_SECONDS:
                raise RuntimeError(
                    f"upload {identity} has not moved for {_STUCK_SECONDS:.0f} s."
                    f" See {lake.where(str(identity))}"
                )
            reached(float((state.get("counts") or {}).get("read") or 0))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def upload_image_dataset(
    dataset: Any,
    dataset_type: str,
    image_field: str | int | None = None,
    groundtruth_field: str | int | None = None,
    datapoints_metadata: Sequence[Mapping[str, Any]] | None = None,
    image_ids: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    dataset_metadata: Mapping[str, Any] | None = None,
    max_batch_size: int = 200,
    num_workers: int = 20,
) -> list[dict[str, Any]]:
    """Store the images of a dataset and ingest a record for each; returns the uploads.

    Images (PIL, arrays, tensors or encoded bytes) are stored as
    `{bucket}/{prefix}/images/{image_id}.{format}`. `datapoints_metadata` holds fields of each
    record, `dataset_metadata` fields of all of them; tags and metadata of both are merged.
    `dataset_type` is CLASSIFICATION (ground truths are names, or indexes into `class_names`) or
    SEGMENTATION (masks of such indexes).
    """
    kind = _images.check_dataset_type(dataset_type)

    def make(index: int, row: Any) -> dict[str, Any]:
        image = _images.to_image(row if image_field is None else row[image_field])
        image_id = str(image_ids[index]) if image_ids else _images.new_image_id(index)
        record: dict[str, Any] = {
            "type": "IMAGE",
            "metadata": _images.store_image(image, image_id),
        }
        if groundtruth_field is not None:
            truth = _images.groundtruth(kind, row[groundtruth_field], class_names)
            record["groundtruths"] = [truth]
        own = datapoints_metadata[index] if datapoints_metadata else {}
        return _merged(record, dataset_metadata or {}, own)

    def send(records: list[dict[str, Any]]) -> dict[str, Any]:
        if _settings.upload_bucket():
            return upload_to_lake_via_object_store(records, custom_path="logs")
        return upload_to_lake(records)

    uploads, batch = [], []
    for record in _images.make_records(dataset, make, num_workers):
        batch.append(record)
        if len(batch) >= max_batch_size:
            uploads.append(send(batch))
            batch = []
    if batch:
        uploads.append(send(batch))
    return uploads


def select_datapoints(
    filters: Sequence[Any] | None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool | None = None,
    fields: Sequence[str] = _ALL,
    offset: int = 0,
) -> pd.DataFrame:
    """The datapoints that pass all of `filters`, each `{"left", "op", "right"}`, as a frame.

    `fields` may reach into attachments and JSON: `["*", "groundtruths.*", "metadata.uri"]`.
    `order_by` decides which rows `limit` keeps.
    """
    return _select("datapoints", filters, limit, order_by, desc, fields, offset)


def select_predictions(
    filters: Sequence[Any] | None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool | None = None,
    fields: Sequence[str] = _ALL,
    offset: int = 0,
) -> pd.DataFrame:
    """The predictions that pass all of `filters`; their column `datapoint` says whose they are."""
    return _select("predictions", filters, limit, order_by, desc, fields, offset)


def select_groundtruths(
    filters: Sequence[Any] | None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool | None = None,
    fields: Sequence[str] = _ALL,
    offset: int = 0,
) -> pd.DataFrame:
    """The ground truths that pass all of `filters`."""
    return _select("groundtruths", filters, limit, order_by, desc, fields, offset)


def select_bboxes(
    filters: Sequence[Any] | None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool | None = None,
    fields: Sequence[str] = _ALL,
    offset: int = 0,
) -> pd.DataFrame:
    """The boxes and instances that pass all of `filters`."""
    return _select("bboxes", filters, limit, order_by, desc, fields, offset)


def select_lanes(
    filters: Sequence[Any] | None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool | None = None,
    fields: Sequence[str] = _ALL,
    offset: int = 0,
) -> pd.DataFrame:
    """The lanes that pass all of `filters`."""
    return _select("lanes", filters, limit, order_by, desc, fields, offset)


def select_completions(
    filters: Sequence[Any] | None,
    limit: int | None = None,
    order_by: str | None = None,
    desc: bool | None = None,
    fields: Sequence[str] = _ALL,
    offset: int = 0,
) -> pd.DataFrame:
    """The completions that pass all of `filters`."""
    return _select("completions", filters, limit, order_by, desc, fields, offset)


def delete_datapoints(
    filters: Sequence[Any],
    order_by: str | None = None,
    desc: bool | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Delete datapoints with all that belongs to them; returns the deleted rows.

    `filters` are as in `select_datapoints`, or ids. **An empty list deletes all of them.**
    """
    return _delete("datapoints", filters, order_by, desc, limit, offset)


def delete_predictions(
    filters: Sequence[Any],
    order_by: str | None = None,
    desc: bool | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Delete predictions, by filters or ids; returns the deleted rows. **`[]` deletes all.**"""
    return _delete("predictions", filters, order_by, desc, limit, offset)


def delete_groundtruths(
    filters: Sequence[Any],
    order_by: str | None = None,
    desc: bool | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Delete ground truths, by filters or ids; returns the deleted rows. **`[]` deletes all.**"""
    return _delete("groundtruths", filters, order_by, desc, limit, offset)


def match(items: Iterable[Any], by: str | Callable[[str], Any] = "uri") -> pd.DataFrame:
    """The datapoint of each path or URI, in their order: columns item, status, datapoint, matches.

    `by` is "uri", "basename" (the last part), "sha256" (of the file, against
    `metadata.sha256`), or a function that makes a key of a path or URI. `status` is matched,
    missing or ambiguous; `datapoint` is None unless it is matched.
    """
    from katiml.matching import match as matched

    lake = _lake()
    return matched(
        lambda filters, fields: lake.select(
            "datapoints", {"filters": filters, "selectColumns": fields}
        ),
        items,
        by,
    )


def join_on_datapoints(
    datapoints: pd.DataFrame,
    groundtruths: pd.DataFrame | None = None,
    predictions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`datapoints` with columns `groundtruths` and `predictions`: the list of each one's rows.

    A datapoint without any has NaN there. Nothing given is changed.
    """
    return _frames.join_on_datapoints(datapoints, groundtruths, predictions)


def group_by_uri(
    datapoints: pd.DataFrame,
    uri_grouped_transform: Callable[[tuple[Any, ...]], dict[str, Any]],
    num_workers: int = 1,
) -> pd.DataFrame:
    """One row for each `metadata.uri` of a joined frame, with the columns the transform returns.

    The transform is given `(ids, metadatas, groundtruths, predictions)`, each a list over all
    datapoints of the uri; an attachment column that the frame does not have is left out. It runs
    in `num_workers` threads.
    """
    return _frames.group_by_uri(datapoints, uri_grouped_transform, num_workers)


def query_dioptra_app(
    method: str, path: str, json: Any = None, files: Mapping[str, Any] | None = None
) -> Any:
    """Call any address of the HTTP API (`"GET", "/api/ingestion/executions"`); returns its JSON."""
    return _lake().request(method, path, json, files)


def _encode_np_array(np_array: np.typing.NDArray[Any], light_compression: bool = False) -> str:
    """An array as text: base64 of an LZ4 frame of a `.npy` file."""
    from katiml.records.arrays import encode

    del light_compression  # LZ4 has one speed here.
    return encode(np.asarray(np_array))


def _decode_to_np_array(value: str) -> np.typing.NDArray[Any]:
    """The array of such a text. Nothing is ever unpickled."""
    from katiml.records.arrays import decode

    return decode(value)


def _lake() -> ServerLake | EmbeddedLake:
    endpoint = _settings.app_endpoint()
    return ServerLake(endpoint) if endpoint else embedded()


def _send(records: Sequence[Any]) -> dict[str, Any]:
    """Records on the way that there is: the bucket where one is named and a server reads it."""
    lake = _lake()
    if _settings.upload_bucket() and isinstance(lake, ServerLake):
        name = _file_name()
        _write_gzip(_buckets.bucket_url(name), records)
        path = _buckets.bucket_url(name).partition("://")[2]
        bucket, _, object_name = path.partition("/")
        return _from_bucket(bucket, object_name, _settings.storage_type(), False, None, None)
    return lake.upload(records, batching=True)[0]


def _announced(upload: dict[str, Any], count: int | None) -> dict[str, Any]:
    what = "a file" if count is None else f"{count} records"
    where = _lake().where(upload.get("id", ""))
    print(f"Uploaded {what} to the lake. View the upload status at {where}")
    return upload


def _file_name() -> str:
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    return f"{uuid.uuid4()}_{now.isoformat()}.ndjson.gz"


def _write_gzip(url: str, records: Iterable[Any]) -> int:
    count = 0
    with _progress.spool() as file:
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=4, mtime=0) as packed:
            for line in encode_records(records):
                packed.write(line)
                count += 1
        file.seek(0)
        _buckets.write(url, iter(lambda: file.read(1 << 20), b""))
    return count


def _from_bucket(
    bucket_name: str,
    object_name: str,
    storage_type: str,
    disable_batching: bool,
    offset: int | None,
    limit: int | None,
) -> dict[str, Any]:
    url = _buckets.address(storage_type, bucket_name, object_name)
    lake = _lake()
    # An embedded lake reads the bucket itself, with this process's credentials.
    source = url if isinstance(lake, EmbeddedLake) else _buckets.sign(url)
    body: dict[str, Any] = {"url": source}
    if offset is None and limit is None and not disable_batching:
        body = {"urls": [source]}
    body.update({"offset": offset} if offset is not None else {})
    body.update({"limit": limit} if limit is not None else {})
    return lake.ingest_events(body)


def _merged(record: dict[str, Any], *more: Mapping[str, Any]) -> dict[str, Any]:
    for fields in more:
        for name, value in fields.items():
            both = name in ("tags", "metadata") and isinstance(value, Mapping)
            record[name] = {**record.get(name, {}), **value} if both else value
    return record


def _select(
    table: str,
    filters: Sequence[Any] | None,
    limit: int | None,
    order_by: str | None,
    desc: bool | None,
    fields: Sequence[str],
    offset: int,
) -> pd.DataFrame:
    from katiml.query import to_pandas

    chosen = _page(filters, order_by, desc, limit, offset)
    columns = [fields] if isinstance(fields, str) else list(fields)
    return to_pandas(_lake().select(table, {**chosen, "selectColumns": columns}))


def _delete(
    table: str,
    filters: Sequence[Any],
    order_by: str | None,
    desc: bool | None,
    limit: int | None,
    offset: int,
) -> list[dict[str, Any]]:
    if filters is None:
        raise InvalidInput(
            "filters is None", hint="pass [] if everything is to be deleted, or filters, or ids"
        )
    listed = list(filters)
    # The documentation passes ids. What is no list (a column of a frame) can only be ids.
    ids = [str(item) for item in listed if isinstance(item, str | uuid.UUID)]
    if ids and len(ids) < len(listed):
        raise InvalidInput("filters and ids cannot be mixed", hint="pass filters, or ids")
    if ids or not isinstance(filters, list | tuple):
        listed = [{"left": "id", "op": "in", "right": ids}]
    return _lake().delete(table, _page(listed, order_by, desc, limit, offset))


def _page(
    filters: Sequence[Any] | None,
    order_by: str | None,
    desc: bool | None,
    limit: int | None,
    offset: int,
) -> dict[str, Any]:
    return {
        "filters": list(filters or []),
        "orderBy": order_by,
        "desc": desc,
        "limit": limit,
        "offset": offset,
    }
