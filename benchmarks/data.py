"""Files of records, made once and kept: the same bytes go to KatiML and to its floor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson

__all__ = ["CLASSES", "embeddings_file", "labels_file", "pool_file"]

CLASSES = [f"class_{number}" for number in range(50)]
_SPLITS = ("train", "pool", "test")
_DUMP = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


def embeddings_file(folder: Path, count: int) -> Path:
    """Predictions with 10 logits and a 512-d embedding each: heavy records, few of them."""

    def record(index: int, random: np.random.Generator) -> dict[str, Any]:
        return {
            "type": "IMAGE",
            "metadata": {"uri": f"s3://images/{index:08d}.jpg", "width": 640, "height": 480},
            "predictions": [
                {
                    "task_type": "CLASSIFICATION",
                    "model_name": "resnet",
                    "class_names": CLASSES[:10],
                    "logits": random.standard_normal(10, np.float32),
                    "embeddings": {"layer4": random.standard_normal(512, np.float32)},
                }
            ],
        }

    return _file(folder / f"embeddings-{count}.ndjson", count, record)


def labels_file(folder: Path, count: int) -> Path:
    """Two tags and a ground truth each: light records, many of them."""

    def record(index: int, random: np.random.Generator) -> dict[str, Any]:
        return {
            "type": "IMAGE",
            "metadata": {"uri": f"s3://images/{index:08d}.jpg", "width": 640, "height": 480},
            "tags": {"split": _SPLITS[index % 3], "source": f"camera_{random.integers(10)}"},
            "groundtruths": [
                {"task_type": "CLASSIFICATION", "class_name": CLASSES[random.integers(50)]}
            ],
        }

    return _file(folder / f"labels-{count}.ndjson", count, record)


def pool_file(folder: Path, count: int) -> Path:
    """What queries are asked of: tags, a ground truth, and a prediction with 10 logits."""

    def record(index: int, random: np.random.Generator) -> dict[str, Any]:
        return {
            "type": "IMAGE",
            "metadata": {"uri": f"s3://images/{index:08d}.jpg", "width": 640, "height": 480},
            "tags": {"split": _SPLITS[index % 3], "source": f"camera_{random.integers(10)}"},
            "groundtruths": [
                {"task_type": "CLASSIFICATION", "class_name": CLASSES[random.integers(50)]}
            ],
            "predictions": [
                {
                    "task_type": "CLASSIFICATION",
                    "model_name": "resnet",
                    "class_names": CLASSES[:10],
                    "logits": random.standard_normal(10, np.float32),
                }
            ],
        }

    return _file(folder / f"pool-{count}.ndjson", count, record)


def _file(
    path: Path, count: int, record: Callable[[int, np.random.Generator], dict[str, Any]]
) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        part = path.with_suffix(".part")
        with part.open("wb") as stream:
            for index in range(count):
                stream.write(orjson.dumps(record(index, random), option=_DUMP))
        os.replace(part, path)
    return path
