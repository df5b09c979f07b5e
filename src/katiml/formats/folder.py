"""A folder of class folders: `cat/1.jpg`, or `train/cat/1.jpg`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from katiml.formats.items import IMAGE_ENDINGS, Item, Names, copy_image, image_size, note_left_out
from katiml.formats.report import Report
from katiml.training.reading import Reader

__all__ = ["READ_OPTIONS", "WRITE_OPTIONS", "read", "write"]

READ_OPTIONS = ("split_tag",)
WRITE_OPTIONS = ("split_tag",)
_SPLITS = {"train", "val", "valid", "validation", "test"}


def read(path: Path, report: Report, split_tag: str = "split") -> Iterator[dict[str, Any]]:
    """One CLASSIFICATION record an image. Where all folders are named train, val, test and the
    like, they become the tag `split_tag`."""
    folders = sorted(child for child in path.absolute().iterdir() if child.is_dir())
    if folders and all(folder.name.lower() in _SPLITS for folder in folders):
        for folder in folders:
            for child in sorted(child for child in folder.iterdir() if child.is_dir()):
                yield from _class(child, {split_tag: folder.name}, report)
        return
    for folder in folders:
        yield from _class(folder, {}, report)


def _class(folder: Path, tags: dict[str, str], report: Report) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.rglob("*")):
        if file.is_dir():
            continue
        if file.suffix.lower() not in IMAGE_ENDINGS:
            report.note("files that are no images are left out", str(file))
            continue
        size = image_size(file)
        if size is None:
            report.note("images that cannot be read are left out", str(file))
            continue
        metadata = {"uri": str(file), "width": size[0], "height": size[1]}
        truth = {"task_type": "CLASSIFICATION", "class_name": folder.name}
        record = {"type": "IMAGE", "metadata": metadata, "groundtruths": [truth]}
        report.records += 1
        yield {**record, "tags": tags} if tags else record


def write(items: Iterable[Item], path: Path, report: Report, split_tag: str = "split") -> None:
    """Copy each image into the folder of its class, below that of its tag `split_tag` where the
    first item has one."""
    reader, names = Reader(), Names()
    with_splits: bool | None = None
    for item in note_left_out(items, report, ("CLASSIFICATION",), ("tags",)):
        with_splits = split_tag in item.tags if with_splits is None else with_splits
        truth = item.truth("CLASSIFICATION")
        if truth is None or "class_name" not in truth:
            report.note("datapoints without a class are left out", item.id)
            continue
        folder = path
        if with_splits:
            folder /= _safe(item.tags.get(split_tag, "train"))
        if set(item.tags) - ({split_tag} if with_splits else set()):
            report.note("tags are not kept", item.id)
        target = folder / _safe(truth["class_name"]) / names(item.uri, item.id)
        report.records += copy_image(item, target, reader, report)


def _safe(name: str) -> str:
    """A name that is one part of a path."""
    return name.replace("/", "_").replace("\\", "_").replace("\0", "_").strip(". ") or "_"
