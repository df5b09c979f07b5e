"""The queries once more through a running server: as JSON and as Arrow, beside the library."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pyarrow as pa

import katiml
from benchmarks import queries
from benchmarks.common import Measure, Sizes, Topic, median_time, seconds

__all__ = ["run"]

_KEY = "benchmarks-only-0123456789abcdefghijklmnop"
_ARROW = "application/vnd.apache.arrow.stream"
_ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "3 filters + ground truths": (
        "/api/datapoints/select",
        {"filters": queries.THREE_FILTERS, "selectColumns": queries.JOINED_FIELDS},
    ),
    "top 1,000 by entropy": (
        "/api/predictions/select",
        {
            "selectColumns": queries.BEST_FIELDS,
            "orderBy": "metrics.entropy",
            "desc": True,
            "limit": 1000,
        },
    ),
    "100,000 predictions": (
        "/api/predictions/select",
        {"selectColumns": queries.BEST_FIELDS, "limit": 100_000},
    ),
}


def run(sizes: Sizes, folder: Path) -> Topic:
    """Answers are read whole: parsed from JSON, or as an Arrow table."""
    count = sizes.of(1_000_000)
    topic = Topic(f"The same through HTTP, {count:,} datapoints", "library, in process")
    home = queries.build_lake(folder, count)
    with katiml.connect(home) as lake:
        floors = [
            median_time(_library(lake, *asked), sizes.repeats, 1) for asked in _ASKED.values()
        ]
    with _server(home) as client:
        for (what, (path, body)), floor in zip(_ASKED.items(), floors, strict=True):
            for form, accept, read in (
                ("JSON", "application/json", orjson.loads),
                ("Arrow", _ARROW, lambda content: pa.ipc.open_stream(content).read_all()),
            ):

                def ask(path=path, body=body, accept=accept, read=read) -> object:  # type: ignore[no-untyped-def]
                    answer = client.post(path, json=body, headers={"accept": accept})
                    answer.raise_for_status()
                    return read(answer.content)

                here = median_time(ask, sizes.repeats, warm=1)
                topic.measures.append(
                    Measure(f"{what}, {form}", seconds(here), seconds(floor), here / floor)
                )
    return topic


def _library(lake: Any, path: str, body: dict[str, Any]) -> Any:
    collection = getattr(lake, path.split("/")[2])
    return lambda: collection.select(
        body.get("filters"),
        body["selectColumns"],
        order_by=body.get("orderBy"),
        desc=body.get("desc", False),
        limit=body.get("limit"),
        form="arrow",
    )


@contextmanager
def _server(home: str) -> Iterator[httpx.Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "katiml", "serve", "--lake", home, "--port", str(port)],
        env={**os.environ, "KATIML_API_KEY": _KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": _KEY}, timeout=300
    )
    try:
        for _ in range(300):
            try:
                client.get("/health").raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None:
                    raise RuntimeError("the server did not start") from None
                time.sleep(0.1)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(30)
