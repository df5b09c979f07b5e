"""An image dataset, row by row -> images in a bucket or folder, records in the lake."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from dioptra import _buckets, _progress, _settings
from katiml.errors import InvalidInput

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["check_dataset_type", "make_records", "store_image", "to_image"]

_FORMATS = {
    "JPEG": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
}
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


def check_dataset_type(dataset_type: str) -> str:
    """CLASSIFICATION or SEGMENTATION. Raises InvalidInput for another.

    >>> check_dataset_type("SEMANTIC_SEGMENTATION")
    'SEGMENTATION'
    """
    found = {"SEMANTIC_SEGMENTATION": "SEGMENTATION"}.get(dataset_type, dataset_type)
    if found not in ("CLASSIFICATION", "SEGMENTATION"):
        raise InvalidInput(
            f"dataset_type is {dataset_type!r}", hint="it is CLASSIFICATION or SEGMENTATION"
        )
    return found


def make_records(
    dataset: Any,
    make: Callable[[int, Any], dict[str, Any]],
    num_workers: int,
) -> Iterator[dict[str, Any]]:
    """`make(index, row)` of each row, in order, `num_workers` at a time, read as needed."""
    total = len(dataset) if hasattr(dataset, "__len__") else None
    rows = enumerate(iter(dataset))
    with (
        ThreadPoolExecutor(max(1, num_workers)) as pool,
        _progress.bar("uploading images", total) as reached,
    ):
        done = 0
        while batch := list(islice(rows, 4 * max(1, num_workers))):
            for record in pool.map(lambda item: make(*item), batch):
                done += 1
                reached(done)
                yield record


def to_image(value: Any) -> Image.Image:
    """A PIL image of an image, an H x W or H x W x C array of uint8 (or floats from 0 to 1), a
    tensor of that shape, encoded bytes, or a dict with `bytes` or `path`. Raises InvalidInput.

    >>> to_image(np.zeros((2, 3, 3), np.uint8)).size
    (3, 2)
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if isinstance(value, Image.Image):
            return value
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return Image.open(io.BytesIO(value))
        if isinstance(value, str):
            return Image.open(value)
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        if array.dtype.kind == "f":
            array = np.rint(np.clip(array, 0.0, 1.0) * 255).astype(np.uint8)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[:, :, 0]
        return Image.fromarray(np.ascontiguousarray(array))
    except (UnidentifiedImageError, OSError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"a {type(value).__name__} cannot be read as an image: {error}",
            hint="image_field names the column that holds the image",
        ) from error


def store_image(image: Image.Image, image_id: str) -> dict[str, Any]:
    """Store one image in the bucket of `DIOPTRA_UPLOAD_BUCKET`, or, for an embedded lake without
    a bucket, in the local cache folder; returns `metadata`: uri, width, height."""
    kind = image.format if image.format in _FORMATS else "PNG"
    if kind == "PNG" and image.mode not in _MODES:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    # A JPEG that is read and written again must not get worse.
    image.save(buffer, format=kind, **({"quality": "keep"} if kind == "JPEG" else {}))
    name = f"{image_id}.{_FORMATS[kind or 'PNG']}"
    if _settings.upload_bucket() or not _settings.is_embedded():
        uri = _buckets.bucket_url("images", name)
    else:
        uri = str((_settings.local_cache_dir() / "images" / name).absolute())
    _buckets.write(uri, [buffer.getvalue()])
    return {"uri": uri, "width": image.width, "height": image.height}


def new_image_id(index: int) -> str:
    """The id of an image that was given none."""
    return f"{index}_{uuid.uuid4()}"


def groundtruth(dataset_type: str, value: Any, class_names: Sequence[str] | None) -> dict[str, Any]:
    """The ground truth of one row: a class (name, or index into `class_names`) or a mask.

    >>> groundtruth("CLASSIFICATION", np.int64(1), ["cat", "dog"])
    {'task_type': 'CLASSIFICATION', 'class_name': 'dog'}
    """
    if dataset_type == "CLASSIFICATION":
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            if class_names is None or not 0 <= value < len(class_names):
                raise InvalidInput(
                    f"class {value} has no name", hint="class_names is a list of all names"
                )
            value = class_names[int(value)]
        return {"task_type": dataset_type, "class_name": str(value)}
    mask = np.asarray(to_image(value)) if not isinstance(value, np.ndarray | list) else value
    found = {"task_type": dataset_type, "segmentation_class_mask": np.asarray(mask)}
    return {**found, "class_names": list(class_names)} if class_names is not None else found
