"""Datapoints of a lake as writers of formats want them; and what these have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from katiml.errors import KatiMLError
from katiml.formats.report import Report
from katiml.lake import Lake
from katiml.records.arrays import decode
from katiml.training.reading import Reader
from katiml.training.rows import ids_of

__all__ = [
    "IMAGE_ENDINGS",
    "Item",
    "Names",
    "boxes_of",
    "copy_image",
    "image_size",
    "lake_items",
    "note_left_out",
]

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_PAGE = 1_000
_BOX = ("class_name", "top", "left", "height", "width", "coco_polygon")
_TRUTH_FIELDS = [
    "datapoint",
    "task_type",
    "class_name",
    "class_names",
    "top",
    "left",
    "height",
    "width",
    "encoded_segmentation_class_mask",
    *(f"bboxes.{name}" for name in (*_BOX, "encoded_segmentation_mask", "metrics")),
    "lanes.coco_polyline",
    "lanes.classifications",
    "completions.text",
    "completions.metrics",
]


@dataclass
class Item:
    """One datapoint: what it is, its tags, its ground truths as records spell them."""

    id: str
    type: str
    metadata: dict[str, Any]
    text: str | None
    tags: dict[str, str]
    groundtruths: list[dict[str, Any]] = field(default_factory=list)

    @property
    def uri(self) -> str | None:
        """Where its file is."""
        uri = self.metadata.get("uri")
        return uri if isinstance(uri, str) else None

    def truth(self, *task_types: str) -> dict[str, Any] | None:
        """The first ground truth of these tasks."""
        found = (truth for truth in self.groundtruths if truth["task_type"] in task_types)
        return next(found, None)


def lake_items(
    lake: Lake,
    filters: Any = None,
    *,
    order_by: str | None = None,
    desc: bool = False,
    limit: int | None = None,
) -> Iterator[Item]:
    """The datapoints that pass `filters`, read a page at a time."""
    ids = ids_of(lake, filters, order_by, desc, limit)
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        fields = ["id", "type", "metadata", "text", "tags.name", "tags.value"]
        rows = lake.datapoints.select({"left": "id", "op": "in", "right": page}, fields)
        chosen = {"left": "datapoint", "op": "in", "right": page}
        truths: dict[str, list[dict[str, Any]]] = {}
        for row in lake.groundtruths.select(chosen, _TRUTH_FIELDS).to_dict("records"):
            truths.setdefault(str(row["datapoint"]), []).append(_truth(row))
        found = {str(row["id"]): row for row in rows.to_dict("records")}
        for id_ in page:
            if id_ in found:
                row = found[id_]
                tags = {tag["name"]: tag["value"] for tag in row["tags"] or ()}
                metadata = row["metadata"] or {}
                yield Item(id_, row["type"], metadata, row["text"], tags, truths.get(id_, []))


def _truth(row: Mapping[Any, Any]) -> dict[str, Any]:
    truth = _present({str(name): row[name] for name in row if name != "datapoint"})
    mask = truth.pop("encoded_segmentation_class_mask", None)
    if mask is not None:
        truth["segmentation_class_mask"] = decode(mask)
    for box in truth.get("bboxes", ()):
        encoded = box.pop("encoded_segmentation_mask", None)
        if encoded is not None:
            box["segmentation_mask"] = decode(encoded)
    return truth


def _present(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not there: None, NaN; and empty lists but for `bboxes`."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            found[name] = [_present(item) for item in value]
        elif not (isinstance(value, list) and not value):
            found[name] = value
    return found


def boxes_of(item: Item) -> list[dict[str, Any]]:
    """The boxes and instances of an item, of both tasks that have them."""
    found: list[dict[str, Any]] = []
    for truth in item.groundtruths:
        if truth["task_type"] in ("OBJECT_DETECTION", "INSTANCE_SEGMENTATION"):
            own = truth.get("bboxes") or ([truth] if "left" in truth else [])
            found += own
    return found


class Names:
    """File names that are used once, made of URIs.

    >>> names = Names()
    >>> names("s3://b/x/cat.jpg", "1"), names("s3://b/y/cat.jpg", "2"), names("..", "3")
    ('cat.jpg', 'cat_2.jpg', '3')
    """

    def __init__(self) -> None:
        self._used: set[str] = set()

    def __call__(self, uri: str | None, id_: str) -> str:
        base = (uri or "").partition("?")[0].replace("\\", "/").rpartition("/")[2]
        name = base if base.strip(". ") else id_
        stem = Path(name).stem
        # Labels are named by the stem.
        if stem in self._used:
            name = f"{stem}_{id_}{Path(name).suffix}"
        self._used.add(Path(name).stem)
        return name


def copy_image(item: Item, target: Path, reader: Reader, report: Report) -> bool:
    """Copy the file of an item; False, and a note, where that cannot be."""
    if item.uri is None:
        report.note("datapoints without a file are left out", item.id)
        return False
    try:
        content = reader(item.uri)
    except KatiMLError as error:
        report.note("files that cannot be read are left out", error.message)
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return True


def image_size(path: Path | str) -> tuple[int, int] | None:
    """(width, height) by the header of an image file; None where it is none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except Exception:  # noqa: BLE001  # Pillow raises many kinds for broken files
        return None


def note_left_out(
    items: Iterable[Item], report: Report, tasks: tuple[str, ...], keeps: tuple[str, ...] = ()
) -> Iterator[Item]:
    """Pass items on, and count what a format that holds `tasks`, and `keeps`, cannot."""
    for item in items:
        for truth in item.groundtruths:
            if truth["task_type"] not in tasks:
                report.note(f"{truth['task_type']} ground truths are not kept", item.id)
        other = set(item.metadata) - {"uri", "width", "height"}
        if "tags" not in keeps and item.tags:
            report.note("tags are not kept", json.dumps(item.tags)[:80])
        if "metadata" not in keeps and other:
            report.note("metadata other than uri, width, height is not kept", ", ".join(other)[:80])
        yield item
