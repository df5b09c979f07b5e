"""Inference with uploads beside bare inference; training data out of a lake beside bare files."""

from __future__ import annotations

import os
import tempfile
import warnings
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
            topic.measures += _loading(sizes, Path(lake))
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


def _loading(sizes: Sizes, folder: Path) -> list[Measure]:
    """Images of 256 x 256 out of a lake, and out of a list of their paths."""
    import numpy as np
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    from katiml.torch import LakeDataset, LakeIterableDataset

    count = sizes.of(4_000)
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    paths = [str(folder / f"{number}.jpg") for number in range(count)]
    for path in paths:
        Image.fromarray(noise).resize((256, 256)).save(path, quality=90)

    class Bare(Dataset[Any]):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> Any:
            with Image.open(paths[index]) as image:
                image.load()
                return _as_tensor({"image": image, "class_name": "c"})

    measures = []
    with katiml.connect(folder / "images") as lake:
        lake.ingest(
            {"type": "IMAGE", "metadata": {"uri": path}, "groundtruth": f"c{number % 10}"}
            for number, path in enumerate(paths)
        )
        by_number = LakeDataset(lake, transform=_as_tensor)
        streamed = LakeIterableDataset(lake, transform=_as_tensor, batch_size=32, page=512)
        for what, dataset in (("LakeDataset", by_number), ("LakeIterableDataset", streamed)):
            for workers in (1, 4):
                with warnings.catch_warnings():
                    # More workers than cores.
                    warnings.simplefilter("ignore")
                    loaders = [
                        DataLoader(data, batch_size=32, num_workers=workers)
                        for data in (dataset, Bare())
                    ]
                    time, floor = _paired(
                        lambda loaders=loaders: _drain(loaders[0]),
                        lambda loaders=loaders: _drain(loaders[1]),
                        sizes.repeats,
                    )
                here, bare = (f"{count / spent:,.0f} images/s" for spent in (time, floor))
                label = f"{what}, {workers} worker{'s' * (workers > 1)}"
                measures.append(Measure(label, here, bare, time / floor, "1.05"))
    return measures


def _as_tensor(item: dict[str, Any]) -> Any:
    import numpy as np
    import torch

    return torch.from_numpy(np.array(item["image"])).permute(2, 0, 1), item["class_name"]


def _drain(batches: Any) -> None:
    for _ in batches:
        pass


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
