"""The demo's data: scikit-learn's digits, what a classifier makes of them, and both as records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from katiml.errors import MissingExtra

__all__ = [
    "MODEL",
    "NAMES",
    "SCALE",
    "Digits",
    "accuracy",
    "digits",
    "pixels",
    "records",
    "write_images",
    "write_records",
]

MODEL = "logistic-regression"
NAMES = [str(digit) for digit in range(10)]
SCALE = 8  # pixels of a PNG file for each of the 8 x 8 pixels of a digit
_LABELLED = 100  # digits whose label the model may see


@dataclass(frozen=True)
class Digits:
    """1,797 digits, and what a classifier that saw some of them makes of all.

    `images` (n, 8, 8) in 0…16, `labels` (n,) int, `split` (n,) text: "train" (seen with their
    labels), "pool" (labels may be bought) or "test", `logits` (n, 10) float64, `embeddings` (n, 16)
    float32.
    """

    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    split: np.ndarray[Any, Any]
    logits: np.ndarray[Any, Any]
    embeddings: np.ndarray[Any, Any]


def digits() -> Digits:
    """Scikit-learn's digits and a logistic regression trained on the first hundred of them.

    >>> digits().logits.shape
    (1797, 10)
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.decomposition import PCA
    except ImportError:
        raise MissingExtra(
            "the demo needs scikit-learn, which is not installed",
            hint="pip install 'katiml[demo]'",
        ) from None
    loaded = load_digits()
    features = loaded.data / 16.0
    places = np.arange(len(features))
    split = np.select([places < _LABELLED, places % 3 == 0], ["train", "test"], "pool")
    labelled = split == "train"
    model = _classifier().fit(features[labelled], loaded.target[labelled])
    embeddings = PCA(16, random_state=0).fit(features[labelled]).transform(features)
    return Digits(
        images=loaded.images,
        labels=loaded.target,
        split=split,
        logits=model.decision_function(features),
        embeddings=embeddings.astype(np.float32),
    )


def _classifier() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, max_iter=1000)


def accuracy(data: Digits, more: list[int]) -> float:
    """How many of the test digits a classifier gets right that saw the labels of `more` too."""
    features = data.images.reshape(len(data.images), -1) / 16.0
    seen = data.split == "train"
    seen[more] = True
    model = _classifier().fit(features[seen], data.labels[seen])
    tested = data.split == "test"
    return float(model.score(features[tested], data.labels[tested]))


def pixels(data: Digits) -> np.ndarray[Any, Any]:
    """The images as (n, 64, 64) uint8, large enough to look at."""
    grey = (data.images * (255 / 16)).astype(np.uint8)
    return grey.repeat(SCALE, axis=1).repeat(SCALE, axis=2)


def write_images(data: Digits, folder: Path) -> list[str]:
    """One PNG file of 64 x 64 pixels for each digit; their paths, which become `metadata.uri`."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    uris = []
    for index, image in enumerate(pixels(data)):
        path = folder / f"{index:04d}.png"
        Image.fromarray(image).save(path)
        uris.append(str(path.resolve()))
    return uris


def write_records(data: Digits, uris: list[str], path: Path) -> Path:
    """The records as a file of one JSON object a line, as a training job would write them."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    with path.open("wb") as file:
        for record in records(data, uris):
            file.write(orjson.dumps(record, option=options))
    return path


def records(data: Digits, uris: list[str]) -> Iterator[dict[str, Any]]:
    """One record for each digit, whose image is at its `uri`."""
    return (_record(data, index, uri) for index, uri in enumerate(uris))


def _record(data: Digits, index: int, uri: str) -> dict[str, Any]:
    size = data.images.shape[1] * SCALE
    split = str(data.split[index])
    record: dict[str, Any] = {
        "type": "IMAGE",
        "metadata": {"uri": uri, "width": size, "height": size},
        "tags": {"source": "katiml-demo", "split": split},
        "predictions": [
            {
                "task_type": "CLASSIFICATION",
                "model_name": MODEL,
                "class_names": NAMES,
                "logits": data.logits[index],
                "embeddings": {"pca": data.embeddings[index]},
            }
        ],
    }
    if split == "train":
        name = NAMES[data.labels[index]]
        record["groundtruths"] = [{"task_type": "CLASSIFICATION", "class_name": name}]
    return record
