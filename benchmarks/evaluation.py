"""Evaluating models, beside the SQL that counts by hand and beside pycocotools."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import katiml
from benchmarks.common import Measure, Sizes, Topic, median_time, seconds
from benchmarks.queries import build_lake
from katiml.schema import SCHEMA_VERSION

__all__ = ["run"]

_CLASSES = 20
_COUNTED = """
    SELECT truths.class_name, said.class_name, count(*)
    FROM lake.groundtruths truths JOIN lake.predictions said USING (datapoint)
    WHERE truths.organization_id = 'default' AND said.organization_id = 'default'
      AND truths.task_type = 'CLASSIFICATION' AND said.task_type = 'CLASSIFICATION'
      AND said.model_name = 'resnet'
    GROUP BY ALL
"""


def run(sizes: Sizes, folder: Path) -> Topic:
    """A confusion matrix, and COCO's average precision of boxes."""
    topic = Topic("Evaluation", "SQL by hand, or pycocotools")
    count = sizes.of(1_000_000)
    with katiml.connect(build_lake(folder, count)) as lake:
        here = median_time(lambda: lake.evaluate("resnet"), sizes.repeats, warm=1)
        floor = median_time(lambda: lake.scope.store.query(_COUNTED), sizes.repeats, warm=1)
    what = f"{count:,} classifications"
    topic.measures.append(Measure(what, seconds(here), seconds(floor), here / floor))
    images = sizes.of(10_000)
    boxes = _boxes(images)
    with katiml.connect(_boxed_lake(folder, images, boxes)) as lake:
        found = lake.evaluate("detector")
        here = median_time(lambda: lake.evaluate("detector"), sizes.repeats)
    expected = _coco(images, boxes)
    if not np.isclose(found.overall["map"], expected, atol=1e-9):
        raise RuntimeError(f"map is {found.overall['map']}, pycocotools says {expected}")
    floor = median_time(lambda: _coco(images, boxes), sizes.repeats)
    total = sum(len(part) for kind in boxes for part in kind)
    what = f"average precision of {total:,} boxes in {images:,} images"
    topic.measures.append(Measure(what, seconds(here), seconds(floor), here / floor))
    return topic


def _boxes(images: int) -> tuple[list[Any], list[Any]]:
    """Of each image true boxes and detections: label, score, left, top, width, height."""
    random = np.random.default_rng(0)
    truths, found = [], []
    for _ in range(images):
        count = int(random.integers(1, 15))
        own = np.empty((count, 6))
        own[:, 0], own[:, 1] = random.integers(_CLASSES, size=count), 1
        own[:, 2:4] = random.uniform(0, 400, (count, 2))
        own[:, 4:] = np.exp(random.uniform(2, 5, (count, 2)))
        near = np.repeat(own, 2, axis=0)
        near[:, 2:] += random.normal(size=(2 * count, 4)) * near[:, 4:5] * 0.1
        near[:, 4:] = np.maximum(near[:, 4:], 1)
        near[:, 1] = random.random(2 * count)
        truths.append(own)
        found.append(near)
    return truths, found


def _boxed_lake(folder: Path, images: int, boxes: tuple[list[Any], list[Any]]) -> str:
    home = folder / f"boxes-{images}-schema-{SCHEMA_VERSION}"
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        with katiml.connect(str(home)) as lake:
            lake.ingest(_record(*both) for both in zip(*boxes, strict=True))
        (home / "complete").touch()
    return str(home)


def _record(truths: Any, found: Any) -> dict[str, Any]:
    def items(rows: Any, *, scored: bool) -> list[dict[str, Any]]:
        return [
            {
                "class_name": f"class_{label:.0f}",
                "left": left,
                "top": top,
                "width": width,
                "height": height,
                **({"confidence": score} if scored else {}),
            }
            for label, score, left, top, width, height in rows.tolist()
        ]

    kind = {"task_type": "OBJECT_DETECTION"}
    said = {**kind, "model_name": "detector", "bboxes": items(found, scored=True)}
    return {
        "type": "IMAGE",
        "groundtruths": [{**kind, "bboxes": items(truths, scored=False)}],
        "predictions": [said],
    }


def _coco(images: int, boxes: tuple[list[Any], list[Any]]) -> float:
    """pycocotools from arrays in memory to its mean average precision."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths = [(image, *row) for image, rows in enumerate(boxes[0]) for row in rows.tolist()]
    found = [(image, *row) for image, rows in enumerate(boxes[1]) for row in rows.tolist()]
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label, "name": str(label)} for label in range(_CLASSES)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": int(label),
                "bbox": sides,
                "area": sides[2] * sides[3],
                "iscrowd": 0,
            }
            for number, (image, label, _, *sides) in enumerate(truths, 1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        results = coco.loadRes(
            [
                {"image_id": image, "category_id": int(label), "score": score, "bbox": sides}
                for image, label, score, *sides in found
            ]
        )
        evaluated = COCOeval(coco, results, "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return float(evaluated.stats[0])
