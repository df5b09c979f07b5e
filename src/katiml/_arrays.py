"""NumPy, torch and CuPy arrays through one interface.

NumPy needs nothing else to be installed; other arrays go through `array-api-compat`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from katiml.errors import InvalidInput, MissingExtra

__all__ = [
    "Array",
    "as_floats",
    "check_device",
    "kth_smallest",
    "namespace",
    "on_device",
    "to_numpy",
]

_DEVICE = re.compile(r"cuda(:\d{1,3})?\Z")
_MOVED_AT_ONCE = 2**28

# An array of NumPy, torch or CuPy.
Array = Any


def namespace(array: Array) -> Any:
    """The functions that work on this array: `numpy`, or the array API of its library."""
    if isinstance(array, np.ndarray | np.generic) or not hasattr(array, "shape"):
        return np
    from array_api_compat import array_namespace

    return array_namespace(array)


def as_floats(values: Any) -> tuple[Any, Array]:
    """(namespace, `values` as floats): float64 of NumPy, otherwise float32 at least."""
    xp = namespace(values)
    if xp is np:
        return np, np.asarray(values, dtype=np.float64)
    wide = values.dtype in (xp.float32, xp.float64)
    return xp, values if wide else xp.astype(values, xp.float32)


def to_numpy(array: Array) -> np.ndarray[Any, Any]:
    """The same values as a NumPy array in main memory."""
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "detach"):
        return np.asarray(array.detach().cpu().numpy())
    if hasattr(array, "get"):
        return np.asarray(array.get())
    return np.asarray(array)


def kth_smallest(array: Array, k: int) -> np.ndarray[Any, Any]:
    """(C,) the k-th smallest value, from 1, of each column of (R, C); R must be at least k."""
    if isinstance(array, np.ndarray):
        return np.asarray(np.partition(array, k - 1, axis=0)[k - 1])
    xp = namespace(array)
    if hasattr(xp, "topk"):  # torch: sorting would take many times as long
        return to_numpy(xp.topk(array, k, dim=0, largest=False).values[k - 1])
    return to_numpy(xp.sort(array, axis=0)[k - 1])


def check_device(device: str) -> None:
    """InvalidInput unless this machine has the device ("cpu", "cuda", "cuda:1")."""
    if device == "cpu":
        return
    if not isinstance(device, str) or not _DEVICE.match(device):
        raise InvalidInput(f"device is {device!r:.100}", hint="'cpu', 'cuda' or 'cuda:1'")
    try:
        import torch
    except ImportError:
        raise MissingExtra(
            f"device {device!r} needs torch, which is not installed",
            hint="install torch with CUDA (pytorch.org), or leave device out",
        ) from None
    number = int(device.partition(":")[2] or 0)
    if not torch.cuda.is_available() or number >= torch.cuda.device_count():
        raise InvalidInput(
            f"this machine has no device {device!r}", hint="leave device out: the CPU does it too"
        )


def on_device(array: Any, device: str) -> Array:
    """The array for work on that device: as it is for "cpu", otherwise a torch tensor there."""
    if device == "cpu" or not isinstance(array, np.ndarray):
        return array
    import torch

    moved = torch.empty(array.shape, dtype=getattr(torch, array.dtype.name), device=device)
    step = max(1, _MOVED_AT_ONCE // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        # A copy, because the file behind it may be read-only, which torch warns of.
        moved[start : start + step] = torch.from_numpy(np.array(array[start : start + step]))
    return moved
