"""The lake in this process: no server, no key."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

if TYPE_CHECKING:
    from katiml.ingest import Upload
    from katiml.lake import Lake

__all__ = ["EmbeddedLake", "close", "embedded"]

_lock = Lock()
_open: dict[str, EmbeddedLake] = {}


def embedded() -> EmbeddedLake:
    """The lake of `KATIML_LAKE`, opened once; a changed variable closes it and opens the other."""
    url = os.environ.get("KATIML_LAKE", "")
    with _lock:
        found = _open.get(url)
        if found is None:
            import katiml

            _close_all()
            found = _open[url] = EmbeddedLake(katiml.connect(url or None))
        return found


def close() -> None:
    """Close the embedded lake; the next call opens it again."""
    with _lock:
        _close_all()


def _close_all() -> None:
    for lake in _open.values():
        lake.lake.close()
    _open.clear()


atexit.register(close)


class EmbeddedLake:
    """A `katiml.Lake` with the methods of `ServerLake`."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._app: Any = None

    def where(self, upload_id: str) -> str:
        """How a person looks at an upload."""
        return f"`katiml uploads {upload_id}`"

    def request(self, method: str, path: str, json: Any = None, files: Any = None) -> Any:
        """Any address of the HTTP API, answered in this process."""
        from dioptra._http import answer_of

        with ThreadPoolExecutor(1) as pool:
            # A thread of its own, because a notebook's has an event loop that already runs.
            return answer_of(
                pool.submit(asyncio.run, self._ask(method, path, json, files)).result()
            )

    async def _ask(self, method: str, path: str, json: Any, files: Any) -> Any:
        import httpx

        if self._app is None:
            from katiml.server.app import create_app
            from katiml.server.auth import caller_lake

            self._app = create_app(self.lake)
            self._app.dependency_overrides[caller_lake] = lambda: self.lake
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://embedded") as client:
            return await client.request(method, path, json=json, files=files)

    def select(self, table: str, chosen: Mapping[str, Any]) -> pa.Table:
        """Rows of a table as Arrow."""
        collection = getattr(self.lake, table)
        rows: pa.Table = collection.select(**_arguments(chosen), **_seen(chosen), form="arrow")
        return rows

    def delete(self, table: str, chosen: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Delete rows; returns them."""
        from katiml.query.delete import delete_rows

        arguments = _arguments(chosen)
        arguments.pop("fields")
        rows: list[dict[str, Any]] = msgspec.json.decode(
            delete_rows(self.lake.scope, table, **arguments, all=True)[0]
        )
        return rows

    def upload(self, records: Iterable[Any], *, batching: bool) -> tuple[dict[str, Any], int]:
        """Ingest records; returns (answer, number of records)."""
        del batching  # The embedded lake has one way.
        upload = self.lake.ingest(records)
        return self._answer(upload), upload.counts["read"]

    def ingest(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Have URLs ingested in the background."""
        from katiml.ingest import Source

        urls = body.get("urls") or [body["url"]]
        first, last = body.get("offset") or 0, body.get("limit")
        return self._answer(self.lake.ingest([Source(url, first, last) for url in urls]))

    ingest_events = ingest

    def stream(self, records: Iterable[Any]) -> dict[str, Any]:
        """Ingest records; they are committed when it returns."""
        return self._answer(self.lake.ingest(records))

    def execution(self, upload_id: str) -> dict[str, Any]:
        """The state of an upload."""
        from katiml.server.executions import as_execution

        return as_execution(self.lake.uploads.get(upload_id))

    @staticmethod
    def _answer(upload: Upload) -> dict[str, Any]:
        from katiml.server.executions import as_answer

        return as_answer(upload)


def _arguments(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "filters": chosen.get("filters"),
        "fields": chosen.get("selectColumns"),
        "order_by": chosen.get("orderBy"),
        "desc": bool(chosen.get("desc")),
        "limit": chosen.get("limit"),
        "offset": chosen.get("offset") or 0,
    }


def _seen(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {"dataset": chosen.get("datasetId"), "version": chosen.get("versionId")}
