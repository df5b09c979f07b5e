"""The web app on many datapoints: how soon something is seen, and whether scrolling is smooth.

    python -m benchmarks.web [datapoints]

Needs the built app and Chromium, as its tests do. A served lake is made with that many datapoints,
whose images are a few hundred drawn streets; those at the beginning have a hundred boxes each.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

import katiml
from katiml.server.webapp import STATIC
from tests.web.conftest import FLAGS, Server, chromium_path
from tests.web.scenes import scene

_IMAGES = 300
_BOXED = 3_000
_BOXES = 100
_CLASSES = ["car", "person", "bicycle", "truck", "bus", "sign"]


def main() -> None:
    """Make the lake, serve it, look at it, print the figures."""
    datapoints = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="katiml-web-") as name:
        folder = Path(name)
        _fill(folder, datapoints)
        server = Server(folder / "lake")
        server.start()
        try:
            for what, value in measure(server.url).items():
                print(f"{what:<66}{value}")
        finally:
            server.stop()


def _fill(folder: Path, datapoints: int) -> None:
    (folder / "images").mkdir()
    uris = []
    for number in range(_IMAGES):
        path = folder / "images" / f"{number}.jpg"
        scene(number)[0].save(path, quality=90)
        uris.append(str(path))
    started = time.perf_counter()
    with (folder / "records.ndjson").open("wb") as file:
        for record in _records(uris, datapoints):
            file.write(
                orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
            )
    with katiml.connect(folder / "lake") as lake:
        upload = lake.ingest(str(folder / "records.ndjson")).wait()
        assert upload.counts["landed"] == datapoints, upload.error
    print(f"{datapoints:,} datapoints were made in {time.perf_counter() - started:.0f} s")


def _records(uris: list[str], datapoints: int) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (datapoints, 4)).round(3)
    names = ["dawn", "day", "dusk", "overcast"]
    for number in range(datapoints):
        truth: list[dict[str, Any]] = [
            {"task_type": "CLASSIFICATION", "class_name": names[number % 4]}
        ]
        if number < _BOXED:
            truth.append({"task_type": "OBJECT_DETECTION", "bboxes": _boxes(random)})
        yield {
            "type": "IMAGE",
            "metadata": {
                "uri": uris[number % _IMAGES],
                "width": 480,
                "height": 320,
                "number": number,
            },
            "tags": {"split": "train" if number % 5 else "test", "camera": f"cam-{number % 7}"},
            "groundtruths": truth,
            "predictions": [
                {
                    "task_type": "CLASSIFICATION",
                    "model_name": "hours",
                    "class_names": names,
                    "logits": logits[number],
                }
            ],
        }


def _boxes(random: np.random.Generator) -> list[dict[str, Any]]:
    places = random.uniform(0, 1, (_BOXES, 4)).round(3)
    return [
        {
            "class_name": _CLASSES[index % len(_CLASSES)],
            "left": float(x * 420),
            "top": float(y * 270),
            "width": float(8 + w * 50),
            "height": float(8 + h * 40),
        }
        for index, (x, y, w, h) in enumerate(places)
    ]


# Long enough for a person to call it scrolling; each frame is a row of pixels further.
_SCROLL = """(step) => new Promise(resolve => {
  const place = document.querySelector('[role=grid]').parentElement, times = [];
  let last = performance.now(), left = 240;
  const frame = now => {
    times.push(now - last); last = now;
    place.scrollTop += step;
    if (left-- > 0) requestAnimationFrame(frame); else resolve(times.slice(5));
  };
  requestAnimationFrame(frame);
})"""
_THUMBNAILS = (
    "[...document.querySelectorAll('[role=grid] img')].filter(i => i.naturalWidth > 0).length"
)


def measure(url: str) -> dict[str, str]:
    """The figures of one run, as texts."""
    from playwright.sync_api import sync_playwright

    found: dict[str, str] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        _until(page, f"{_THUMBNAILS} > 3")
        for what in ("thumbnails made (first visit)", "thumbnails kept (reload)"):
            if "kept" in what:
                page.wait_for_timeout(1500)
            started = time.perf_counter()
            page.reload(wait_until="commit")
            _until(page, f"{_THUMBNAILS} >= 12")
            found[f"page to first 12 images, {what}"] = (
                f"{(time.perf_counter() - started) * 1000:.0f} ms"
            )
        page.wait_for_timeout(2000)
        blank = browser.new_page(viewport={"width": 1440, "height": 900})
        blank.set_content("<div role=grid style='height:99999px'><p>nothing</p></div>")
        floor = blank.evaluate(_SCROLL, 12)
        found["frames of an empty page, the floor of this machine"] = (
            f"{1000 / statistics.mean(floor):.0f} frames/s"
        )
        blank.close()
        found.update(_scrolling(page))
        found.update(_filtering(page, url))
        memory = page.evaluate("performance.memory.usedJSHeapSize / 1e6")
        found["JavaScript memory afterwards"] = f"{memory:.0f} MB"
        browser.close()
    sizes = {
        path.name: len(gzip.compress(path.read_bytes(), 9)) for path in STATIC.glob("assets/*.js")
    }
    first = sum(size for name, size in sizes.items() if name.startswith("index"))
    found["first JavaScript, gzip"] = f"{first / 1000:.0f} KB"
    found["all JavaScript, gzip"] = f"{sum(sizes.values()) / 1000:.0f} KB"
    return found


def _scrolling(page: Any) -> dict[str, str]:
    found = {}
    for what, step in (("slowly", 12), ("quickly", 60)):
        page.evaluate("document.querySelector('[role=grid]').parentElement.scrollTop = 0")
        page.wait_for_timeout(1500)
        times = page.evaluate(_SCROLL, step)
        late = sum(one > 25 for one in times) / len(times)
        mean, median = 1000 / statistics.mean(times), 1000 / statistics.median(times)
        found[f"scrolling {what} over {_BOXES} boxes a tile"] = (
            f"{mean:.0f} frames/s, median {median:.0f}, {late:.0%} late"
        )
    return found


def _filtering(page: Any, url: str) -> dict[str, str]:
    """From the moment that a filter is chosen to its first row."""
    times: dict[str, list[float]] = {"a tag": [], "a class": []}
    for value in ("cam-1", "cam-2", "cam-3"):
        filters = {
            "a tag": {
                "exists": "tags",
                "where": [
                    {"left": "name", "op": "=", "right": "camera"},
                    {"left": "value", "op": "=", "right": value},
                ],
            },
            "a class": {
                "left": "groundtruths.class_name",
                "op": "=",
                "right": {"cam-1": "dawn", "cam-2": "day", "cam-3": "dusk"}[value],
            },
        }
        for what, one in filters.items():
            page.goto(f"{url}/?panel=false")
            _until(page, "document.querySelector('[data-index]') !== null")
            page.wait_for_timeout(500)
            # The address is what a chip becomes; going there is what choosing one does.
            page.evaluate(
                "to => { window.__started = performance.now(); history.pushState({}, '', to);"
                " dispatchEvent(new PopStateEvent('popstate')); }",
                f"/?panel=false&filters={_quoted([one])}",
            )
            took = page.evaluate(_FIRST_ROW)
            times[what].append(took)
    return {
        f"{what} as a filter, to its first row": ", ".join(f"{one:.0f} ms" for one in sorted(all_))
        for what, all_ in times.items()
    }


# The first row, once the page says that it is one of those that pass.
_FIRST_ROW = """() => new Promise(resolve => {
  const look = () => {
    const first = document.querySelector('[data-index="0"]');
    const passed = document.querySelector('[role=status]').textContent.includes(' of ');
    if (first && passed && first.href.includes('filters')) {
      resolve(performance.now() - window.__started);
    } else requestAnimationFrame(look);
  };
  look();
})"""


def _quoted(value: Any) -> str:
    from urllib.parse import quote

    return quote(json.dumps(value))


def _until(page: Any, expression: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise AssertionError(f"never true: {expression}")
        page.wait_for_timeout(5)


if __name__ == "__main__":
    main()
