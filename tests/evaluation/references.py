"""Random detections, and what pycocotools makes of them."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HEIGHT, WIDTH = 160, 200
# In the order of COCOeval.stats.
SUMMARY = [
    "map", "map_50", "map_75", "map_small", "map_medium", "map_large",
    "mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large",
]  # fmt: skip


@dataclass
class Box:
    """One box of one image, (left, top, width, height) as COCO has it."""

    image: int
    label: int
    sides: list[float]
    score: float = 1.0
    crowd: bool = False

    @property
    def polygon(self) -> list[float]:
        """A quadrilateral inside the box."""
        x, y, w, h = self.sides
        return [x, y, x + w, y + h * 0.2, x + w * 0.7, y + h, x, y + h * 0.8]


def drawn(polygon: list[float], height: int, width: int) -> np.ndarray[Any, Any]:
    """The (height, width) mask of a polygon, 0 and 1."""
    with warnings.catch_warnings():
        # pycocotools is older than the copy keyword of NumPy 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        runs = coco_mask.frPyObjects([polygon], height, width)[0]
        return np.array(coco_mask.decode(runs))


def random_boxes(
    seed: int, *, images: int = 20, classes: int = 4, crowds: bool = True
) -> tuple[list[Box], list[Box]]:
    """True boxes of all sizes; detections near them, twice, elsewhere, and with equal scores."""
    random = np.random.default_rng(seed)
    truths: list[Box] = []
    found: list[Box] = []
    for image in range(images):
        for _ in range(random.integers(0, 10)):
            size = float(np.exp(random.uniform(1.5, 5)))
            x, y = random.uniform(0, WIDTH - 40), random.uniform(0, HEIGHT - 40)
            w, h = min(size * random.uniform(0.6, 1.5), WIDTH - x), min(size, HEIGHT - y)
            sides = np.round([x, y, w, h]).clip(1)
            label = int(random.integers(classes))
            crowd = bool(crowds and random.random() < 0.08)
            truths.append(Box(image, label, sides.tolist(), crowd=crowd))
            for _ in range(random.integers(0, 4)):
                moved = np.round(sides + random.normal(0, 0.12 * size, 4)).clip(1)
                said = label if random.random() < 0.8 else int(random.integers(classes))
                score = round(float(random.random()), 1 if seed % 2 else 6)
                found.append(Box(image, said, moved.tolist(), score))
        for _ in range(random.integers(0, 5)):
            sides = np.round(random.uniform(2, 60, 4))
            found.append(
                Box(image, int(random.integers(classes)), sides.tolist(), round(random.random(), 1))
            )
    return truths, found


def coco_reference(
    truths: list[Box], found: list[Box], *, masks: bool, images: int = 20, classes: int = 4
) -> tuple[dict[str, float], np.ndarray[Any, Any]]:
    """COCO's summary (NaN where it has none), and average precision by class."""
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": index, "height": HEIGHT, "width": WIDTH} for index in range(images)],
        "categories": [{"id": index, "name": str(index)} for index in range(classes)],
        "annotations": [_annotation(index, box, masks) for index, box in enumerate(truths, 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        results = coco.loadRes([_result(box, masks) for box in found])
        evaluated = COCOeval(coco, results, "segm" if masks else "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    stats = np.where(evaluated.stats == -1, np.nan, evaluated.stats)
    precision = evaluated.eval["precision"][:, :, :, 0, 2]
    by_class = np.array([precision[:, :, index].mean() for index in range(classes)])
    return dict(zip(SUMMARY, stats.tolist(), strict=True)), by_class


def _annotation(index: int, box: Box, masks: bool) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "id": index,
        "image_id": box.image,
        "category_id": box.label,
        "bbox": box.sides,
        "area": box.sides[2] * box.sides[3],
        "iscrowd": int(box.crowd),
    }
    if masks:
        runs = coco_mask.frPyObjects([box.polygon], HEIGHT, WIDTH)[0]
        annotation |= {"segmentation": runs, "area": float(coco_mask.area(runs))}
    return annotation


def _result(box: Box, masks: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "image_id": box.image,
        "category_id": box.label,
        "score": box.score,
    }
    if masks:
        result["segmentation"] = coco_mask.frPyObjects([box.polygon], HEIGHT, WIDTH)[0]
    else:
        result["bbox"] = box.sides
    return result
