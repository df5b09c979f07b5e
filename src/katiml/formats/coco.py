"""COCO: one JSON file of images, annotations (boxes, polygons, masks) and categories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from katiml.errors import InvalidInput, InvalidSource
from katiml.formats.items import Item, Names, boxes_of, note_left_out
from katiml.formats.report import Report
from katiml.formats.rle import decode_rle, encode_rle, fill_polygons
from katiml.records.arrays import encode

__all__ = ["READ_OPTIONS", "WRITE_OPTIONS", "read", "write"]

READ_OPTIONS = ("images",)
WRITE_OPTIONS = ("class_names",)


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int
    id: int | None = None
    bbox: list[float] | None = None
    segmentation: Any = None
    iscrowd: int = 0
    area: float | None = None


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class _File(msgspec.Struct, gc=False):
    images: list[dict[str, Any]]
    annotations: list[_Annotation] = []
    categories: list[_Category] = []


_decoder = msgspec.json.Decoder(_File)


def read(path: Path, report: Report, images: str | None = None) -> Iterator[dict[str, Any]]:
    """One record an image. `images` is the folder or the address before the file names; by
    default the folder of the file, or `images` in it.

    Boxes without segmentation anywhere make OBJECT_DETECTION, else INSTANCE_SEGMENTATION. Several
    polygons of one object, and runs, become masks. Crowds and areas are kept as metrics.
    """
    try:
        found = _decoder.decode(path.read_bytes())
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidSource(
            f"{path} is no COCO file: {error}",
            hint="an object with images, annotations and categories",
        ) from error
    names = {category.id: category.name for category in found.categories}
    ids = {image.get("id") for image in found.images}
    by_image: dict[Any, list[_Annotation]] = {}
    for annotation in found.annotations:
        if annotation.image_id not in ids:
            report.note("annotations of no image are left out", f"image {annotation.image_id}")
        elif annotation.category_id not in names:
            where = f"category {annotation.category_id} of annotation {annotation.id}"
            report.note("annotations of no category are left out", where)
        else:
            by_image.setdefault(annotation.image_id, []).append(annotation)
    has_shapes = any(annotation.segmentation for annotation in found.annotations)
    task = "INSTANCE_SEGMENTATION" if has_shapes else "OBJECT_DETECTION"
    prefix = images if images is not None else str(_images_of(path))
    for image in found.images:
        name = image.get("file_name")
        if not isinstance(name, str):
            report.note("images without file_name are left out", str(image.get("id")))
            continue
        metadata = {key: value for key, value in image.items() if key not in ("id", "file_name")}
        metadata["uri"] = f"{prefix.rstrip('/')}/{name}" if prefix else name
        boxes = [
            box
            for annotation in by_image.get(image.get("id"), ())
            if (box := _box(annotation, names, image, report)) is not None
        ]
        truth = {"task_type": task, "bboxes": boxes}
        report.records += 1
        yield {"type": "IMAGE", "metadata": metadata, "groundtruths": [truth]}


def _images_of(path: Path) -> Path:
    inside = path.absolute().parent / "images"
    return inside if inside.is_dir() else path.absolute().parent


def _box(
    annotation: _Annotation, names: dict[int, str], image: dict[str, Any], report: Report
) -> dict[str, Any] | None:
    box: dict[str, Any] = {"class_name": names[annotation.category_id]}
    where = f"annotation {annotation.id}"
    if annotation.bbox is not None:
        if len(annotation.bbox) != 4:
            report.note("boxes that are not 4 numbers are left out", where)
            return None
        box["left"], box["top"], box["width"], box["height"] = annotation.bbox
    try:
        box.update(_shape(annotation.segmentation, image, where, report))
    except (InvalidInput, TypeError, ValueError, KeyError) as error:
        report.note("segmentations that cannot be read are left out", f"{where}: {error}")
    if annotation.iscrowd or annotation.area is not None:
        metrics = {"iscrowd": 1.0} if annotation.iscrowd else {}
        box["metrics"] = {
            **metrics,
            **({} if annotation.area is None else {"area": annotation.area}),
        }
    if len(box) - ("metrics" in box) == 1:
        report.note("annotations without box and segmentation are left out", where)
        return None
    return box


def _shape(value: Any, image: dict[str, Any], where: str, report: Report) -> dict[str, Any]:
    if not value:
        return {}
    if isinstance(value, dict):
        return {"segmentation_mask": encode(decode_rle(value))}
    polygons = [[float(number) for number in polygon] for polygon in value]
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise InvalidInput("a polygon has 3 points or more, of two numbers each")
    if len(polygons) == 1:
        return {"coco_polygon": polygons[0]}
    report.note("objects of several polygons are kept as masks", where)
    height, width = int(image["height"]), int(image["width"])
    if height * width > 1 << 28:
        raise InvalidInput(f"an image of {height} x {width} pixels")
    return {"segmentation_mask": encode(fill_polygons(polygons, height, width))}


def write(
    items: Iterable[Item], path: Path, report: Report, class_names: list[str] | None = None
) -> None:
    """One COCO file; categories are numbered from 1, in the order of `class_names`, else by name.
    Images stay where they are: `file_name` is their base name, `coco_url` the whole."""
    images: list[dict[str, Any]] = []
    found: list[tuple[str, dict[str, Any]]] = []
    unique = Names()
    tasks = ("OBJECT_DETECTION", "INSTANCE_SEGMENTATION")
    for item in note_left_out(items, report, tasks, ("metadata",)):
        if item.type != "IMAGE":
            report.note(f"datapoints of type {item.type} are left out", item.id)
            continue
        number = len(images) + 1
        metadata = {name: value for name, value in item.metadata.items() if name != "uri"}
        name = {"file_name": unique(item.uri, item.id), "coco_url": item.uri or ""}
        images.append({"id": number, **metadata, **name})
        for box in boxes_of(item):
            annotation = _annotation(box, number, report, item.id)
            if annotation is not None:
                found.append((str(box["class_name"]), annotation))
        report.records += 1
    names = class_names or sorted({name for name, _ in found})
    places = {name: place for place, name in enumerate(names, 1)}
    annotations: list[dict[str, Any]] = []
    for class_name, annotation in found:
        if class_name in places:
            numbers = {"id": len(annotations) + 1, "category_id": places[class_name]}
            annotations.append({**numbers, **annotation})
        else:
            report.note("boxes of classes that are not in class_names are left out", class_name)
    categories = [{"id": place, "name": name} for name, place in places.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))


def _annotation(
    box: dict[str, Any], image: int, report: Report, where: str
) -> dict[str, Any] | None:
    if "class_name" not in box or "left" not in box:
        report.note("boxes without class or place are left out", where)
        return None
    bbox = [float(box[name]) for name in ("left", "top", "width", "height")]
    metrics = box.get("metrics") or {}
    annotation: dict[str, Any] = {
        "image_id": image,
        "bbox": bbox,
        "area": metrics.get("area", bbox[2] * bbox[3]),
        "iscrowd": int(metrics.get("iscrowd", 0)),
    }
    polygon, mask = box.get("coco_polygon"), box.get("segmentation_mask")
    if mask is not None:
        annotation["segmentation"] = encode_rle(mask)
        annotation["area"] = metrics.get("area", float((mask != 0).sum()))
    elif polygon is not None:
        annotation["segmentation"] = [list(polygon)]
        xs, ys = polygon[::2], polygon[1::2]
        doubled = sum(
            x * next_y - next_x * y
            for x, y, next_x, next_y in zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
        )
        annotation["area"] = metrics.get("area", abs(doubled) / 2)
    return annotation
