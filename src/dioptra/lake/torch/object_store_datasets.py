"""The rows of a DataFrame of datapoints, with their images, as a PyTorch dataset."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from dioptra import _progress
from dioptra.lake.torch._export import export_yolo
from katiml.errors import InvalidInput, KatiMLError
from katiml.training.cache import DEFAULT_BYTES, FileCache
from katiml.training.reading import Reader, open_image
from katiml.training.targets import KNOWN_TASKS, targets_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ImageDataset"]


class ImageDataset(Dataset[Any]):
    """Rows of `select_datapoints`, perhaps joined with ground truths by `join_on_datapoints`.

    An item is the row as a dict, with `image` (PIL, for datapoints of type IMAGE with a
    `metadata.uri`) and the targets of its first ground truth of a known task: `class_name`,
    `segmentation_class_mask` (int32), `polygons`, `bboxes`, `lanes` or `completions`; then
    `transform(item)`.

    Attributes: `use_caching` (True) keeps files from afar in `cache_dir` (`DIOPTRA_CACHE_DIR`, or
    `~/.dioptra`), `cache_bytes` (20 GB) of them at most. `on_error` is "raise"; with "skip" an
    image that is missing or broken gives None, which `katiml.torch.collate` leaves out.

    >>> import numpy as np, pandas as pd, tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(f"{folder}/a.png")
    ...     row = {"id": "1", "type": "IMAGE", "metadata": {"uri": f"{folder}/a.png"}}
    ...     ImageDataset(pd.DataFrame([row]))[0]["image"].size
    (6, 4)
    """

    def __init__(
        self,
        dataframe: pd.DataFrame,
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.dataframe = dataframe.reset_index(drop=True)
        self.transform = transform
        self.use_caching = True
        self.cache_dir = os.environ.get("DIOPTRA_CACHE_DIR") or os.path.expanduser("~/.dioptra")
        self.cache_bytes = DEFAULT_BYTES
        self.on_error = "raise"
        self._reader: Reader | None = None
        self._read_with: Any = None

    def __len__(self) -> int:
        return len(self.dataframe)

    @property
    def datapoint_ids(self) -> list[str]:
        """The ids of the rows, as the inference runners want them."""
        if "id" not in self.dataframe.columns:
            return []
        ids: list[str] = self.dataframe["id"].tolist()
        return ids

    @property
    def uris(self) -> list[str | None]:
        """The `metadata.uri` of each row."""
        return [_uri(metadata) for metadata in self.dataframe["metadata"]]

    def __getitem__(self, index: int) -> Any:
        row = self._row(index)
        try:
            item = self._load(row)
        except KatiMLError as error:
            if self.on_error != "skip":
                raise
            warnings.warn(f"row {index} is left out: {error}", stacklevel=2)
            return None
        return item if self.transform is None else self.transform(item)

    def prefetch_images(self, num_workers: int = 1) -> int:
        """Fetch all images into the cache, `num_workers` at a time; returns how many came.

        Those that cannot be fetched are counted in a warning, and raise when they are asked for.
        """
        if not self.use_caching:
            raise InvalidInput(
                "prefetch_images fills the cache, and use_caching is False",
                hint="dataset.use_caching = True",
            )
        uris = list(dict.fromkeys(uri for uri in self.uris if uri and "://" in uri))
        reader = self._reading()
        failed: list[KatiMLError] = []

        def fetch(uri: str) -> None:
            try:
                reader(uri)
            except KatiMLError as error:
                failed.append(error)

        with (
            ThreadPoolExecutor(max(1, num_workers)) as pool,
            _progress.bar("fetching", len(uris), "images") as reached,
        ):
            for done, _ in enumerate(pool.map(fetch, uris), 1):
                reached(done)
        if failed:
            warnings.warn(
                f"{len(failed)} of {len(uris)} images could not be fetched: {failed[0]}",
                stacklevel=2,
            )
        return len(uris) - len(failed)

    def export(
        self,
        path: str | os.PathLike[str],
        format: str,
        class_names: list[str],
        num_workers: int = 1,
    ) -> int:
        """Write images and labels for training: `format` "yolov7" makes `images/`, `labels/` (the
        place in `class_names` and a normalised polygon, or box, on each line) and `data.yaml`.

        Returns how many images were written; rows that lack an image, polygons or a size are left
        out, and a warning says how many. Raises Conflict where `path` exists.
        """
        if format != "yolov7":
            raise InvalidInput(f"unknown format {format!r}", hint="'yolov7'")
        return export_yolo(self._row, self._load, len(self), path, class_names, num_workers)

    def _row(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        columns = self.dataframe.columns
        values = (self.dataframe[name].iat[index] for name in columns)
        return {str(name): value for name, value in zip(columns, values, strict=True)}

    def _load(self, row: dict[str, Any]) -> dict[str, Any]:
        uri = _uri(row.get("metadata"))
        if row.get("type") == "IMAGE" and uri is not None:
            row["image"] = open_image(self._reading()(uri), uri)
        truths = row.get("groundtruths")
        for truth in truths if isinstance(truths, list | tuple) else ():
            if truth and truth.get("task_type") in KNOWN_TASKS:
                row.update(targets_of(truth))
                break
        return row

    def _reading(self) -> Reader:
        settings = (self.use_caching, self.cache_dir, self.cache_bytes)
        if self._reader is None or self._read_with != settings:
            folder = os.path.join(self.cache_dir, "files")
            cache = FileCache(folder, self.cache_bytes) if self.use_caching else None
            self._reader, self._read_with = Reader(cache), settings
        return self._reader


def _uri(metadata: Any) -> str | None:
    uri = metadata.get("uri") if isinstance(metadata, dict) else None
    return uri if isinstance(uri, str) else None
