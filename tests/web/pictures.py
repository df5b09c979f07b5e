"""The pictures of docs/web.md: `python -m tests.web.pictures`, after `make web`."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

import katiml
from tests.web.conftest import FLAGS, chromium_path, eventually, everything, seed, served
from tests.web.test_datapoint import first, tagged

# Every image of the grid is there, and what is drawn over them.
_SEEN = """(images => images.length > 8 && images.every(image => image.naturalWidth > 0)
  && document.querySelectorAll('[role=grid] canvas').length > 8)(
  [...document.querySelectorAll('[role=grid] img')])"""
FOLDER = Path(__file__).parents[2] / "docs/images"


def main() -> None:
    """Make every picture, or those named on the command line, in light and dark."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        lake = folder / "lake"
        seed(lake, everything(folder, 160)[:-2])
        wrong = folder / "streets.ndjson"
        lines = [{"type": "TEXT", "text": f"note {number}"} for number in range(1200)]
        lines[17] = {"type": "image", "metadata": {"uri": "s3://streets/17.jpg"}}
        lines[404] = {"type": "IMAGE", "grountruths": []}  # type: ignore[dict-item]
        lines[611] = {"type": "IMAGE", "timestamp": "yesterday"}
        wrong.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with katiml.connect(lake) as opened:
            upload = opened.ingest(str(wrong)).wait()
            opened.datapoints.delete({"left": "text", "op": "like", "right": "note %"})
            for key in ("laptop", "training jobs"):
                opened.keys.create(key)
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        with served(lake) as full, served(folder / "empty") as empty:
            streets = quote(json.dumps([_tag("source", "streets")]))
            street = first(
                full,
                tagged("streets"),
                {"left": "metadata.uri", "op": "like", "right": "%0008.jpg"},
            )
            pages = {
                "explore": full.url,
                "layers": f"{full.url}/?filters={streets}&tile=272"
                f"&models={quote(json.dumps(['street-l']))}"
                f"&without={quote(json.dumps(['masks', 'polygons', 'lanes']))}"
                f"&open={quote(json.dumps(['tags.hour', 'latency_ms', 'entropy']))}",
                "datapoint": f"{full.url}/datapoints/{street}"
                f"?models={quote(json.dumps(['street-l']))}&without={quote(json.dumps(['polygons']))}",
                "uploads": f"{full.url}/uploads",
                "upload": f"{full.url}/uploads/{upload.id}",
                "sql": f"{full.url}/sql",
                "settings": f"{full.url}/settings",
                "empty": empty.url,
            }
            for theme in ("light", "dark"):
                for what, url in pages.items():
                    if sys.argv[1:] and what not in sys.argv[1:]:
                        continue
                    context = browser.new_context(
                        viewport={"width": 1360, "height": 850}, color_scheme=theme
                    )
                    page = context.new_page()
                    page.goto(url)
                    if what in ("explore", "layers"):
                        eventually(page, _SEEN, 60)
                    if what == "layers":
                        page.get_by_role("group", name="latency_ms: choose a range").wait_for()
                    page.wait_for_load_state("networkidle")
                    page.wait_for_timeout(2000)
                    if what == "sql":
                        page.get_by_role("button", name="Run").click()
                        page.wait_for_timeout(1500)
                        page.get_by_role("button", name="Plot").click()
                        page.wait_for_timeout(1500)
                    _save(page.screenshot(), FOLDER / f"{what}-{theme}.png")
                    context.close()
        browser.close()


def _tag(name: str, value: str) -> dict[str, Any]:
    where = [("name", name), ("value", value)]
    return {
        "exists": "tags",
        "where": [{"left": left, "op": "=", "right": right} for left, right in where],
    }


def _save(png: bytes, path: Path) -> None:
    """As a palette, which a screen does not show and a repository is glad of."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


if __name__ == "__main__":
    main()
