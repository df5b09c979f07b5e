"""Pascal VOC: images, an XML file for each in `Annotations/`, lists in `ImageSets/Main/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # see _parse

import numpy as np

from katiml.errors import InvalidSource
from katiml.formats.items import Item, Names, boxes_of, copy_image, image_size, note_left_out
from katiml.formats.report import Report
from katiml.records.arrays import encode
from katiml.training.reading import Reader

__all__ = ["READ_OPTIONS", "WRITE_OPTIONS", "read", "write"]

READ_OPTIONS = ("split_tag",)
WRITE_OPTIONS = ("split_tag",)
_MAX_BYTES = 16 << 20
_FLAGS = ("difficult", "truncated", "occluded")


def read(path: Path, report: Report, split_tag: str = "split") -> Iterator[dict[str, Any]]:
    """One OBJECT_DETECTION record an annotation file; with a mask in `SegmentationClass/`, that
    too. VOC counts pixels from 1, both ends included; the lake from 0. `difficult`, `truncated`
    and `occluded` are kept as metrics; the lists train, val, test become the tag `split_tag`."""
    root = path.absolute()
    files = sorted((root / "Annotations").glob("*.xml"))
    if not files:
        raise InvalidSource(f"no XML files in {root / 'Annotations'}")
    splits = _splits(root)
    for file in files:
        try:
            tree = _parse(file)
            record = _record(root, file, tree, report)
            mask = root / "SegmentationClass" / f"{file.stem}.png"
            if mask.exists():
                found = {"task_type": "SEGMENTATION", "segmentation_class_mask": _read_mask(mask)}
                record["groundtruths"].append(found)
        except (ElementTree.ParseError, ValueError) as error:
            report.note("annotation files that cannot be read are left out", f"{file}: {error}")
            continue
        if file.stem in splits:
            record["tags"] = {split_tag: splits[file.stem]}
        report.records += 1
        yield record


def _parse(file: Path) -> ElementTree.Element:
    content = file.read_bytes()
    # Entities are how a small file becomes an endless one; VOC has none.
    if len(content) > _MAX_BYTES or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("over 16 MB, or with a document type")
    return ElementTree.fromstring(content)  # noqa: S314


def _record(root: Path, file: Path, tree: ElementTree.Element, report: Report) -> dict[str, Any]:
    name = tree.findtext("filename") or f"{file.stem}.jpg"
    image = root / "JPEGImages" / Path(name.replace("\\", "/")).name
    metadata: dict[str, Any] = {"uri": str(image)}
    for side in ("width", "height"):
        text = tree.findtext(f"size/{side}")
        if text and float(text) > 0:
            metadata[side] = int(float(text))
    if "width" not in metadata and (size := image_size(image)):
        metadata["width"], metadata["height"] = size
    boxes = []
    for number, element in enumerate(tree.iter("object"), 1):
        try:
            boxes.append(_box(element))
        except (TypeError, ValueError):
            report.note("objects without name and bndbox are left out", f"{file}: object {number}")
        if element.find("part") is not None:
            report.note("parts of objects are left out", str(file))
        if (element.findtext("pose") or "Unspecified") != "Unspecified":
            report.note("poses are not kept", str(file))
    truth = {"task_type": "OBJECT_DETECTION", "bboxes": boxes}
    return {"type": "IMAGE", "metadata": metadata, "groundtruths": [truth]}


def _box(element: ElementTree.Element) -> dict[str, Any]:
    sides = {name: float(element.findtext(f"bndbox/{name}") or "x") for name in _CORNERS}
    name = element.findtext("name")
    if not name:
        raise ValueError("no name")
    box: dict[str, Any] = {
        "class_name": name,
        "left": sides["xmin"] - 1,
        "top": sides["ymin"] - 1,
        "width": sides["xmax"] - sides["xmin"] + 1,
        "height": sides["ymax"] - sides["ymin"] + 1,
    }
    flags = {flag: 1.0 for flag in _FLAGS if (element.findtext(flag) or "0").strip() == "1"}
    return {**box, "metrics": flags} if flags else box


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _splits(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for split in ("train", "val", "test"):
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        if file.exists():
            found.update(
                {line.split()[0]: split for line in file.read_text().splitlines() if line.strip()}
            )
    return found


def _read_mask(path: Path) -> str:
    from PIL import Image

    try:
        with Image.open(path) as image:
            # The values of a palette image are its classes.
            return encode(np.asarray(image if image.mode in ("P", "L") else image.convert("L")))
    except Exception as error:
        raise ValueError(f"{path.name}: {error}") from error


def write(items: Iterable[Item], path: Path, report: Report, split_tag: str = "split") -> None:
    """Copy images and write an XML file for each; a list for each value of the tag `split_tag`."""
    reader, unique = Reader(), Names()
    splits: dict[str, list[str]] = {}
    (path / "Annotations").mkdir()
    tasks = ("OBJECT_DETECTION", "INSTANCE_SEGMENTATION", "SEGMENTATION")
    for item in note_left_out(items, report, tasks, ("tags",)):
        name = unique(item.uri, item.id)
        target = path / "JPEGImages" / name
        if not copy_image(item, target, reader, report):
            continue
        stem = Path(name).stem
        size = item.metadata.get("width"), item.metadata.get("height")
        width, height = size if all(size) else (image_size(target) or (0, 0))
        root = ElementTree.Element("annotation")
        _add(root, "folder", path.name)
        _add(root, "filename", name)
        sides = ElementTree.SubElement(root, "size")
        for key, value in (("width", width), ("height", height), ("depth", 3)):
            _add(sides, key, str(value))
        _add(root, "segmented", str(int(item.truth("SEGMENTATION") is not None)))
        for box in boxes_of(item):
            _add_object(root, box, report, item.id)
        ElementTree.indent(root)
        (path / "Annotations" / f"{stem}.xml").write_bytes(ElementTree.tostring(root))
        _write_mask(path, stem, item, report)
        if split_tag in item.tags:
            splits.setdefault(item.tags[split_tag].replace("/", "_"), []).append(stem)
        if set(item.tags) - {split_tag}:
            report.note("tags are not kept", item.id)
        report.records += 1
    for split, stems in splits.items():
        folder = path / "ImageSets" / "Main"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))


def _write_mask(path: Path, stem: str, item: Item, report: Report) -> None:
    from PIL import Image

    truth = item.truth("SEGMENTATION")
    mask = None if truth is None else truth.get("segmentation_class_mask")
    if mask is None:
        return
    if mask.min() < 0 or mask.max() > 255:
        report.note("masks of more than 256 classes are left out", item.id)
        return
    folder = path / "SegmentationClass"
    folder.mkdir(exist_ok=True)
    Image.fromarray(mask.astype(np.uint8)).save(folder / f"{stem}.png")


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text


def _add_object(root: ElementTree.Element, box: dict[str, Any], report: Report, where: str) -> None:
    if "class_name" not in box or "left" not in box:
        report.note("boxes without class or place are left out", where)
        return
    if "coco_polygon" in box or "segmentation_mask" in box:
        report.note("polygons and masks are kept as their boxes", where)
    element = ElementTree.SubElement(root, "object")
    _add(element, "name", box["class_name"])
    _add(element, "pose", "Unspecified")
    metrics = box.get("metrics") or {}
    for flag in _FLAGS:
        _add(element, flag, str(int(bool(metrics.get(flag)))))
    corners = ElementTree.SubElement(element, "bndbox")
    left, top = box["left"], box["top"]
    values = (left + 1, top + 1, left + box["width"], top + box["height"])
    for name, value in zip(_CORNERS, values, strict=True):
        _add(corners, name, f"{value:.10g}")
