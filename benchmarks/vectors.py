"""Vectors for benchmarks: as a file, and as a lake that was written table by table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import katiml
from katiml.schema import SCHEMA_VERSION
from katiml.store.ids import uuid7

__all__ = ["WIDTH", "build_vector_lake", "clustered", "matrix_file"]

WIDTH = 256
_CENTRES = 200
_BATCH = 50_000


def clustered(random: np.random.Generator, count: int, width: int = WIDTH) -> Any:
    """(count, width) float32 vectors about a few hundred centres, as embeddings are."""
    centres = np.random.default_rng(1).standard_normal((_CENTRES, width), np.float32)
    noise = random.standard_normal((count, width), np.float32)
    noise *= 0.7
    noise += centres[random.integers(_CENTRES, size=count)]
    return noise


def matrix_file(folder: Path, count: int) -> Path:
    """A `.npy` file of (count, 256) float32."""
    path = folder / f"vectors-{count}.npy"
    if not path.exists():
        part = path.with_suffix(".part")
        matrix = np.lib.format.open_memmap(part, "w+", np.float32, (count, WIDTH))
        random = np.random.default_rng(0)
        for start in range(0, count, _BATCH):
            stop = min(start + _BATCH, count)
            matrix[start:stop] = clustered(random, stop - start)
        matrix.flush()
        part.replace(path)
    return path


def build_vector_lake(folder: Path, count: int) -> str:
    """A lake of `count` datapoints with one embedding of 256 each, float16 as ingest keeps it."""
    home = folder / f"vectors-{count}-schema-{SCHEMA_VERSION}"
    done = home / "complete"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        with katiml.connect(str(home)) as lake:
            random = np.random.default_rng(0)
            for start in range(0, count, _BATCH):
                _append(lake, clustered(random, min(_BATCH, count - start)))
        done.touch()
    return str(home)


def _append(lake: Any, vectors: Any) -> None:
    count = len(vectors)
    datapoints, predictions, first = uuid7(count), uuid7(count), lake.scope.reserve_rows(count)
    halves = vectors.astype("<f2")
    offsets = np.arange(count + 1, dtype=np.int64) * halves[0].nbytes
    data = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(halves)]
    )
    shape = pa.scalar([vectors.shape[1]], pa.list_(pa.int32()))

    def work(transaction: Any) -> None:
        transaction.append(
            "datapoints",
            pa.table(
                {
                    "id": datapoints,
                    "type": pa.repeat("IMAGE", count),
                    "row": pa.array(np.arange(first, first + count)),
                }
            ),
        )
        transaction.append(
            "predictions",
            pa.table(
                {
                    "id": predictions,
                    "datapoint": datapoints,
                    "task_type": pa.repeat("CLASSIFICATION", count),
                    "model_name": pa.repeat("resnet", count),
                }
            ),
        )
        transaction.append(
            "feature_vectors",
            pa.table(
                {
                    "id": uuid7(count),
                    "datapoint": datapoints,
                    "prediction": predictions,
                    "type": pa.repeat("EMBEDDINGS", count),
                    "model_name": pa.repeat("resnet:layer4", count),
                    "dtype": pa.repeat("float16", count),
                    "shape": pa.repeat(shape, count),
                    "data": data,
                }
            ),
        )

    lake.scope.transact(work)
