"""Loading the demo data while a browser watches."""

from __future__ import annotations

import io
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from katiml.errors import KatiMLError

if TYPE_CHECKING:
    from katiml.demo import Digits
    from katiml.lake import Lake

__all__ = ["DemoLoading"]

_log = logging.getLogger("katiml.server")
_BATCH = 200
_IDLE = {"status": "IDLE", "step": "", "done": 0, "total": 0, "error": None}


class DemoLoading:
    """The loading of each organization: at most one at a time, none twice."""

    def __init__(self) -> None:
        self._states: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def state(self, organization_id: str) -> dict[str, Any]:
        """`{"status": IDLE | RUNNING | SUCCEEDED | FAILED, "step", "done", "total", "error"}`."""
        with self._lock:
            return dict(self._states.get(organization_id, _IDLE))

    def start(self, lake: Lake) -> dict[str, Any]:
        """Load in the background, unless that is going on; returns the state."""
        organization_id = lake.organization_id
        with self._lock:
            if self._states.get(organization_id, _IDLE)["status"] == "RUNNING":
                return dict(self._states[organization_id])
            self._states[organization_id] = {**_IDLE, "status": "RUNNING", "step": "starting"}
        threading.Thread(target=self._run, args=(lake,), name="demo", daemon=True).start()
        return self.state(organization_id)

    def _set(self, lake: Lake, **changes: Any) -> None:
        with self._lock:
            self._states[lake.organization_id].update(changes)

    def _run(self, lake: Lake) -> None:
        try:
            self._load(lake)
            self._set(lake, status="SUCCEEDED")
        except KatiMLError as error:
            self._set(lake, status="FAILED", error=str(error))
        except Exception:  # noqa: BLE001 - the browser is told, the log has it
            _log.exception("the demo data could not be loaded")
            self._set(lake, status="FAILED", error="a mistake of ours; the server's log has it")

    def _load(self, lake: Lake) -> None:
        from katiml.demo import digits, records

        earlier = [
            {"left": "tags.name", "op": "=", "right": "source"},
            {"left": "tags.value", "op": "=", "right": "katiml-demo"},
        ]
        if lake.datapoints.count(earlier):
            return
        self._set(lake, step="training a classifier on 100 handwritten digits")
        data = digits()
        total = len(data.labels)
        self._set(lake, step="storing the images", total=total)
        uris = self._store(lake, data)
        self._set(lake, step="ingesting the records", done=0)
        made = list(records(data, uris))
        for start in range(0, total, _BATCH):
            lake.ingest(made[start : start + _BATCH])
            self._set(lake, done=min(total, start + _BATCH))

    def _store(self, lake: Lake, data: Digits) -> list[str]:
        """The images as objects of the lake, so that whoever may see the lake may see them."""
        from PIL import Image

        from katiml.demo import pixels

        def put(image: Any) -> str:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            stored = lake.scope.store.objects.put(lake.organization_id, buffer.getvalue())
            return f"object://{stored}"

        uris = []
        with ThreadPoolExecutor(8) as pool:
            for uri in pool.map(put, pixels(data)):
                uris.append(uri)
                if len(uris) % 50 == 0:
                    self._set(lake, done=len(uris))
        return uris
