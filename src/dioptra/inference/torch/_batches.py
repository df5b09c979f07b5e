"""Batches of a torch loader: how many items, where they live, in which order they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from katiml.errors import InvalidInput

__all__ = ["count_of", "length_of", "moved", "refuse_shuffling"]


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with all its tensors on `device`."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple) and not hasattr(batch, "_fields"):
        return type(batch)(moved(value, device) for value in batch)
    return batch


def count_of(batch: Any, result: Any, counts: Mapping[str, int]) -> int:
    """How many items a batch has: by the batch where it is a tensor or a dict of tensors, else by
    what came out of it.

    >>> count_of({"input_ids": torch.zeros(3, 5)}, None, {})
    3
    """
    if isinstance(batch, Mapping):
        tensors = (value for value in batch.values() if isinstance(value, torch.Tensor))
        batch = next((tensor for tensor in tensors if tensor.ndim), None)
    if isinstance(batch, torch.Tensor) and batch.ndim:
        return len(batch)
    if isinstance(result, list | tuple) and result and isinstance(result[0], Mapping | str):
        return len(result)
    if counts:
        return next(iter(counts.values()))
    if hasattr(batch, "__len__"):
        return len(batch)
    raise InvalidInput(
        f"how many items a batch of type {type(batch).__name__} has is not known",
        hint="batches are tensors, dicts of tensors or lists",
    )


def length_of(loader: Any) -> int | None:
    """How many items a loader will give; None where that is not known.

    >>> from torch.utils.data import DataLoader
    >>> length_of(DataLoader(range(10), batch_size=4, drop_last=True)), length_of(iter([]))
    (8, None)
    """
    try:
        count = len(loader.sampler)
    except (AttributeError, TypeError):
        return None
    batch_size = getattr(loader, "batch_size", None)
    if getattr(loader, "drop_last", False) and batch_size:
        count -= count % batch_size
    return int(count)


def refuse_shuffling(loader: Any) -> None:
    """Raises InvalidInput for a loader whose order is not that of its dataset."""
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler):
        raise InvalidInput(
            f"the data loader draws with a {type(sampler).__name__}: ids and metadata, which are in"
            " the order of the data, would go to other items",
            hint="DataLoader(..., shuffle=False)",
        )
