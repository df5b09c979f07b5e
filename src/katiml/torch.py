"""Datapoints of a lake as PyTorch datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from katiml.errors import InvalidInput
from katiml.extras import need
from katiml.lake import Lake
from katiml.training.cache import FileCache
from katiml.training.rows import read_rows
from katiml.training.source import Source, Transform, chosen_ids

need("torch", "torch")

import torch  # noqa: E402
from torch.utils.data import Dataset, IterableDataset, default_collate, get_worker_info  # noqa: E402

__all__ = ["LakeDataset", "LakeIterableDataset", "collate"]


class LakeDataset(Dataset[Any]):
    """The datapoints that pass `filters`, by number.

    An item is a dict: `id`, `type`, `metadata`, `text`, `image` (a PIL image, where the datapoint
    is of type IMAGE and has a `metadata.uri`), and the targets of its ground truths: `class_name`,
    `segmentation_class_mask`, `polygons`, `bboxes`, `lanes`, `completions` (see
    `katiml.training.targets`); `transform(item)` makes of it what the loader collates. Rows are
    read once and kept in memory as Arrow, which worker processes share; files are read when an
    item is asked for.

    Parameters:
        lake: the lake; only the rows are kept of it.
        filters, order_by, desc, limit: which datapoints, in which order.
        ids: these datapoints instead, in this order.
        task_types: only the ground truths of these; [] reads none.
        transform: called with each item.
        cache: keeps files from afar.
        on_error: "raise", or "skip": an image that is missing or broken gives None and a warning;
            `collate` leaves it out of its batch.

    >>> import katiml
    >>> with katiml.connect() as lake:
    ...     _ = lake.ingest([{"type": "TEXT", "text": "hi", "groundtruth": "greeting"}])
    ...     dataset = LakeDataset(lake)
    >>> dataset[0]["text"], dataset[0]["class_name"]
    ('hi', 'greeting')
    """

    def __init__(
        self,
        lake: Lake,
        filters: Any = None,
        *,
        order_by: str | None = None,
        desc: bool = False,
        limit: int | None = None,
        ids: Sequence[str] | None = None,
        task_types: Sequence[str] | None = None,
        transform: Transform | None = None,
        cache: FileCache | None = None,
        on_error: str = "raise",
    ) -> None:
        chosen = chosen_ids(lake, filters, order_by, desc, limit, ids)
        self.rows = read_rows(lake, chosen, task_types)
        self.transform = transform
        self._source = Source(lake, cache, on_error)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def datapoint_ids(self) -> list[str]:
        """The ids of the items, in order, as the inference runners want them."""
        return self.rows.ids

    def __getitem__(self, index: int) -> Any:
        place = index + len(self.rows) if index < 0 else index
        return self._source.finish(self.rows[place], self.transform)


class LakeIterableDataset(IterableDataset[Any]):
    """The datapoints that pass `filters`, streamed: rows are read a page at a time.

    Items are those of `LakeDataset`. The ids are listed once; each worker of a loader, and each
    rank of a distributed run, reads a share of its own. With `batch_size` set to that of the
    loader, the order of batches is the same with any number of workers.

    Parameters beyond those of `LakeDataset`:
        shuffle: a new order each epoch, the same in every process with the same `seed`.
        batch_size: that of the loader.
        page: how many rows are read at once.
        rank, world_size: by default those of `torch.distributed`, where it is initialised.
        uneven: what happens where the ranks' shares differ by one: "pad" repeats items, so that
            every rank has as many (others would wait for ever), "drop" leaves some out, "keep"
            neither.

    An epoch is resumed by `load_state_dict({"epoch": 2, "samples": 1280})`: 1280 samples of this
    rank were seen. `state_dict()` gives it where the loader has no workers; in a worker (as
    torchdata's StatefulDataLoader asks) that of the worker.
    """

    def __init__(
        self,
        lake: Lake,
        filters: Any = None,
        *,
        order_by: str | None = None,
        desc: bool = False,
        limit: int | None = None,
        ids: Sequence[str] | None = None,
        task_types: Sequence[str] | None = None,
        transform: Transform | None = None,
        cache: FileCache | None = None,
        on_error: str = "raise",
        shuffle: bool = False,
        seed: int = 0,
        batch_size: int = 1,
        page: int = 256,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: str = "pad",
    ) -> None:
        super().__init__()
        if batch_size < 1 or page < 1:
            raise InvalidInput(f"batch_size is {batch_size} and page {page}", hint="1 at least")
        if uneven not in ("pad", "drop", "keep"):
            raise InvalidInput(f"uneven is {uneven!r}", hint="'pad', 'drop' or 'keep'")
        self._rank, self._world_size = _place(rank, world_size)
        self.ids = chosen_ids(lake, filters, order_by, desc, limit, ids)
        self._task_types = task_types
        self.transform = transform
        self._source = Source(lake, cache, on_error)
        self._shuffle, self._seed = shuffle, seed
        self._batch_size, self._page, self._uneven = batch_size, page, uneven
        self.epoch = 0
        self._skipped = 0
        self._worker_skipped = 0
        self._given = 0

    def __len__(self) -> int:
        return len(self._share()) - self._skipped

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch, at its start, the next time."""
        self.epoch, self._skipped, self._worker_skipped, self._given = epoch, 0, 0, 0

    def state_dict(self) -> dict[str, int]:
        """How far this process is: the epoch, and samples of the rank, or of the worker."""
        if get_worker_info() is None:
            return {"epoch": self.epoch, "samples": self._skipped + self._given}
        given = self._worker_skipped + self._given
        return {"epoch": self.epoch, "samples": self._skipped, "worker_samples": given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there the next time."""
        self.set_epoch(int(state["epoch"]))
        self._skipped = int(state.get("samples", 0))
        self._worker_skipped = int(state.get("worker_samples", 0))

    def __iter__(self) -> Iterator[Any]:
        self._given = 0
        chosen = self._of_this_worker(self._share()[self._skipped :])[self._worker_skipped :]
        ids = [self.ids[place] for place in chosen]
        stream = self._source.stream(ids, self._task_types, self.transform, self._page)
        for item in stream:
            self._given += 1
            if item is not None:
                yield item

    def _share(self) -> Any:
        """The places in `ids` that belong to this rank, in the order of this epoch."""
        places = np.arange(len(self.ids))
        if self._shuffle:
            np.random.default_rng((self._seed, self.epoch)).shuffle(places)
        rest = -len(places) % self._world_size
        if rest and self._uneven == "pad" and len(places):
            places = np.concatenate([places, np.resize(places, rest)])
        elif rest and self._uneven == "drop":
            places = places[: len(places) // self._world_size * self._world_size]
        return places[self._rank :: self._world_size]

    def _of_this_worker(self, places: Any) -> Any:
        worker = get_worker_info()
        if worker is None or worker.num_workers == 1:
            return places
        # A loader takes a batch from each worker in turn: whole batches keep the order.
        batches = np.arange(len(places)) // self._batch_size
        return places[batches % worker.num_workers == worker.id]


def collate(items: Sequence[Any]) -> Any:
    """`torch.utils.data.default_collate` of the items that are not None; None if all are.

    >>> collate([torch.tensor(1), None, torch.tensor(3)])
    tensor([1, 3])
    """
    kept = [item for item in items if item is not None]
    return default_collate(kept) if kept else None


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if rank is None and world_size is None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1
    if rank is None or world_size is None or not 0 <= rank < world_size:
        raise InvalidInput(
            f"rank {rank} of world_size {world_size}", hint="ranks go from 0 to world_size - 1"
        )
    return rank, world_size
