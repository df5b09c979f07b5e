"""Inference with uploads beside bare inference; training data out of a lake beside bare files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import katiml
from benchmarks.common import Measure, Sizes, Topic, median_time, seconds

__all__ = ["run"]

_SIDE = 32


def run(sizes: Sizes, folder: Path) -> Topic:
    """A small CNN on images of 32 x 32: logits and an embedding of 128 values, and dropout."""
    topic = Topic("Training", "bare PyTorch")
    try:
        import torch
    except ImportError:
        return topic
    del torch
    with tempfile.TemporaryDirectory(dir=folder) as lake:
        os.environ["KATIML_LAKE"] = lake
        try:
            topic.measures += _inference(sizes)
        finally:
            from dioptra import _embedded

            _embedded.close()
            del os.environ["KATIML_LAKE"]
    return topic


def _small_cnn() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
    )


def _inference(sizes: Sizes) -> list[Measure]:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from dioptra.inference.torch.torch_runner import TorchInferenceRunner

    count = sizes.of(20_000)
    model = _small_cnn().eval()
    loader = DataLoader(TensorDataset(torch.rand(count, 3, _SIDE, _SIDE)), batch_size=64)
    with katiml.connect() as lake:
        lake.ingest({"type": "IMAGE", "request_id": str(n)} for n in range(count))
        ids = lake.datapoints.select(fields="id")["id"].tolist()

    def bare() -> None:
        with torch.no_grad():
            for (images,) in loader:
                model(images)

    def here() -> None:
        runner = TorchInferenceRunner(
            model,
            "CLASSIFICATION",
            "cnn",
            ids,
            ["[7]"],
            "[9]",
            data_transform=lambda batch: batch[0],
        )
        runner.run(loader)

    time, floor = _paired(here, bare, sizes.repeats)
    what = f"{count:,} images, logits and embeddings uploaded"
    return [Measure(what, seconds(time), seconds(floor), time / floor, "1.15")]


def _paired(
    here: Callable[[], object], bare: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """The pair of runs whose ratio is the median: what else the machine does hits both alike."""
    pairs = []
    for number in range(repeats + 1):
        pair = (median_time(here, 1), median_time(bare, 1))
        if number:  # the first is warming up
            pairs.append(pair)
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]
