"""Images and labels as YOLO trains on them."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dioptra import _progress
from katiml.errors import Conflict, KatiMLError

__all__ = ["export_yolo"]

Row = dict[str, Any]


def export_yolo(
    row_of: Callable[[int], Row],
    load: Callable[[Row], Row],
    count: int,
    path: str | os.PathLike[str],
    class_names: Sequence[str],
    num_workers: int,
) -> int:
    """See `ImageDataset.export`."""
    folder = Path(path)
    if folder.exists():
        raise Conflict(f"{folder} exists", hint="choose a folder that does not")
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    places = {name: place for place, name in enumerate(class_names)}

    def write(index: int) -> str | None:
        try:
            row = load(row_of(index))
        except KatiMLError as error:
            return str(error)
        metadata = row.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        shapes = row.get("polygons") or row.get("bboxes") or ()
        uri, width, height = (metadata.get(name) for name in ("uri", "width", "height"))
        if "image" not in row or not shapes or not width or not height:
            return "without image, polygons, width or height"
        lines = [_line(shape, places, width, height) for shape in shapes]
        base = str(uri).replace("\\", "/").rpartition("/")[2]
        digest = hashlib.md5(str(uri).encode(), usedforsecurity=False).hexdigest()
        name = f"{digest}_{base}"
        image = row["image"]
        image.save(folder / "images" / name, format=image.format)
        label = (folder / "labels" / name).with_suffix(".txt")
        label.write_text("".join(line for line in lines if line))
        return None

    written, reasons = 0, []
    with (
        ThreadPoolExecutor(max(1, num_workers)) as pool,
        _progress.bar("exporting", count, "images") as reached,
    ):
        for done, reason in enumerate(pool.map(write, range(count)), 1):
            reached(done)
            written += reason is None
            reasons += [reason] if reason else []
    # A list in JSON is one in YAML.
    (folder / "data.yaml").write_text(f"names: {json.dumps(list(class_names))}\n")
    if reasons:
        warnings.warn(f"{len(reasons)} rows are left out: {reasons[0]}", stacklevel=3)
    return written


def _line(shape: Row, places: dict[str, int], width: float, height: float) -> str | None:
    place = places.get(str(shape.get("class_name")))
    if place is None:
        return None
    polygon = shape.get("coco_polygon")
    if polygon is not None:
        sides = (width, height)
        numbers = [value / sides[index % 2] for index, value in enumerate(polygon)]
    elif shape.get("left") is not None:
        numbers = [
            (shape["left"] + shape["width"] / 2) / width,
            (shape["top"] + shape["height"] / 2) / height,
            shape["width"] / width,
            shape["height"] / height,
        ]
    else:
        return None
    return f"{place} {' '.join(f'{number:.6g}' for number in numbers)}\n"
