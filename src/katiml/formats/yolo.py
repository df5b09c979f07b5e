"""YOLO: images, and beside them labels: class and box (detect) or polygon (segment), normalised."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from katiml.errors import InvalidInput, InvalidSource
from katiml.extras import need
from katiml.formats.items import (
    IMAGE_ENDINGS,
    Item,
    Names,
    boxes_of,
    copy_image,
    image_size,
    note_left_out,
)
from katiml.formats.report import Report
from katiml.training.reading import Reader

__all__ = ["READ_OPTIONS", "WRITE_OPTIONS", "read", "write"]

READ_OPTIONS = ("split_tag",)
WRITE_OPTIONS = ("class_names", "task", "split_tag")
_SPLITS = ("train", "val", "test")
_MAX_LABEL_BYTES = 16 << 20


def read(path: Path, report: Report, split_tag: str = "split") -> Iterator[dict[str, Any]]:
    """One record an image below `images/`; labels lie at the same place below `labels/`. Names come
    from `data.yaml` (or `dataset.yaml`), else `classes.txt`; folders train, val and test become the
    tag `split_tag`.

    Lines of 5 numbers are boxes; longer ones polygons, which make INSTANCE_SEGMENTATION. A line
    that is wrong (a number outside 0 to 1, an unknown class) is left out and counted.
    """
    root = path.absolute()
    names = _names(root)
    files = sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in IMAGE_ENDINGS and "images" in file.relative_to(root).parts
    )
    if not files:
        raise InvalidSource(f"no images below {root}", hint="they lie in a folder `images`")
    for file in files:
        parts = list(file.relative_to(root).parts)
        place = len(parts) - 1 - parts[::-1].index("images")
        label = root.joinpath(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")
        size = image_size(file)
        if size is None:
            report.note("images that cannot be read are left out", str(file))
            continue
        record: dict[str, Any] = {
            "type": "IMAGE",
            "metadata": {"uri": str(file), "width": size[0], "height": size[1]},
        }
        split = next((part for part in parts if part in (*_SPLITS, "valid")), None)
        if split:
            record["tags"] = {split_tag: split}
        if label.exists():
            record["groundtruths"] = [_truth(label, size, names, report)]
        report.records += 1
        yield record


def _names(root: Path) -> list[str] | dict[int, str]:
    for name in ("data.yaml", "dataset.yaml", "data.yml"):
        file = root / name
        if file.exists():
            yaml = need("yaml", "formats")
            try:
                found = (yaml.safe_load(file.read_text()) or {}).get("names")
            except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
                raise InvalidSource(f"{file} cannot be read: {error}") from error
            if isinstance(found, dict):
                return {int(key): str(value) for key, value in found.items()}
            if isinstance(found, list):
                return [str(value) for value in found]
            raise InvalidSource(f"{file} has no names", hint="names: [cat, dog]")
    file = root / "classes.txt"
    return file.read_text().splitlines() if file.exists() else {}


def _truth(
    label: Path, size: tuple[int, int], names: list[str] | dict[int, str], report: Report
) -> dict[str, Any]:
    boxes = []
    if label.stat().st_size > _MAX_LABEL_BYTES:
        report.note("label files over 16 MB are left out", str(label))
        return {"task_type": "OBJECT_DETECTION", "bboxes": []}
    for number, line in enumerate(label.read_text(errors="replace").splitlines(), 1):
        if line.strip():
            try:
                boxes.append(_box(line.split(), size, names))
            except ValueError as error:
                report.note("wrong lines are left out", f"{label}:{number}: {error}")
    shapes = any("coco_polygon" in box for box in boxes)
    task = "INSTANCE_SEGMENTATION" if shapes else "OBJECT_DETECTION"
    return {"task_type": task, "bboxes": boxes}


def _box(
    words: list[str], size: tuple[int, int], names: list[str] | dict[int, str]
) -> dict[str, Any]:
    place = int(words[0])
    numbers = [float(word) for word in words[1:]]
    if any(not 0 <= number <= 1 for number in numbers):
        raise ValueError("a number outside 0 to 1")
    known = names.get(place) if isinstance(names, dict) else None
    if isinstance(names, list):
        if not 0 <= place < len(names):
            raise ValueError(f"class {place} of {len(names)}")
        known = names[place]
    box: dict[str, Any] = {"class_name": known if known is not None else str(place)}
    width, height = size
    if len(numbers) == 4:
        x, y, w, h = numbers
        box.update(left=(x - w / 2) * width, top=(y - h / 2) * height)
        box.update(width=w * width, height=h * height)
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        box["coco_polygon"] = [n * size[index % 2] for index, n in enumerate(numbers)]
    else:
        raise ValueError(f"{len(numbers)} numbers: a box has 4, a polygon 6 or more")
    return box


def write(
    items: Iterable[Item],
    path: Path,
    report: Report,
    class_names: list[str] | None = None,
    task: str | None = None,
    split_tag: str = "split",
) -> None:
    """`images/SPLIT/`, `labels/SPLIT/` and `data.yaml`. `task` is "detect" or "segment"; by default
    segment where any box has a polygon. The tag `split_tag` says the split, else it is train."""
    if task not in (None, "detect", "segment"):
        raise InvalidInput(f"task is {task!r}", hint="'detect' or 'segment'")
    reader, unique = Reader(), Names()
    labels: list[tuple[Path, tuple[float, float], list[dict[str, Any]]]] = []
    splits: dict[str, None] = {}
    tasks = ("OBJECT_DETECTION", "INSTANCE_SEGMENTATION")
    for item in note_left_out(items, report, tasks, ("tags",)):
        split = item.tags.get(split_tag, "train").replace("/", "_").strip(". ") or "train"
        if set(item.tags) - {split_tag}:
            report.note("tags are not kept", item.id)
        name = unique(item.uri, item.id)
        target = path / "images" / split / name
        if not copy_image(item, target, reader, report):
            continue
        size = item.metadata.get("width"), item.metadata.get("height")
        width, height = size if all(size) else (image_size(target) or (None, None))
        if not width or not height:
            report.note("images of unknown size are left out", item.id)
            target.unlink()
            continue
        splits[split] = None
        label = (path / "labels" / split / name).with_suffix(".txt")
        if item.truth(*tasks):
            labels.append((label, (float(width), float(height)), boxes_of(item)))
        report.records += 1
    found = [box for *_, boxes in labels for box in boxes]
    segment = any("coco_polygon" in box for box in found) if task is None else task == "segment"
    names = class_names or sorted({str(box["class_name"]) for box in found if "class_name" in box})
    places = {name: place for place, name in enumerate(names)}
    for label, sides, boxes in labels:
        label.parent.mkdir(parents=True, exist_ok=True)
        lines = [_line(box, sides, places, segment, report, str(label.stem)) for box in boxes]
        label.write_text("".join(line for line in lines if line))
    # JSON values are YAML values.
    content = [f"names: {json.dumps(names, ensure_ascii=False)}", f"nc: {len(names)}"]
    content += [f"{json.dumps(split)}: {json.dumps('images/' + split)}" for split in splits]
    (path / "data.yaml").write_text("\n".join(content) + "\n")


def _line(
    box: dict[str, Any],
    sides: tuple[float, float],
    places: dict[str, int],
    segment: bool,
    report: Report,
    where: str,
) -> str | None:
    place = places.get(str(box.get("class_name")))
    if place is None:
        report.note("boxes of classes that are not in class_names are left out", where)
        return None
    if "left" not in box:
        report.note("boxes without a place are left out", where)
        return None
    left, top, width, height = (float(box[name]) for name in ("left", "top", "width", "height"))
    polygon = box.get("coco_polygon")
    if "segmentation_mask" in box:
        report.note("masks are kept as their boxes", where)
    if segment:
        right, bottom = left + width, top + height
        corners = polygon or [left, top, right, top, right, bottom, left, bottom]
        numbers = [number / sides[index % 2] for index, number in enumerate(corners)]
    else:
        if polygon:
            report.note("polygons are kept as their boxes", where)
        numbers = [(left + width / 2) / sides[0], (top + height / 2) / sides[1]]
        numbers += [width / sides[0], height / sides[1]]
    clipped = [min(max(number, 0.0), 1.0) for number in numbers]
    if clipped != numbers:
        report.note("boxes past the image are clipped", where)
    # Nine digits put any pixel of any image back where it was.
    return f"{place} {' '.join(f'{number:.9g}' for number in clipped)}\n"
