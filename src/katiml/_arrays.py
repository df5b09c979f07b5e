"""NumPy, torch and CuPy arrays through one interface.

NumPy needs nothing else to be installed; other arrays go through `array-api-compat`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Array", "as_floats", "namespace", "to_numpy"]

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
