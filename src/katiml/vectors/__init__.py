"""Embeddings, gradient embeddings and logits of a selection, and what is near what."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from katiml.vectors.index import Searcher
    from katiml.vectors.load import Estimate, Vectors, estimate_vectors, load_vectors
    from katiml.vectors.neighbors import nearest
    from katiml.vectors.projections import project
    from katiml.vectors.select import Select

__all__ = [
    "Estimate",
    "Searcher",
    "Select",
    "Vectors",
    "estimate_vectors",
    "load_vectors",
    "nearest",
    "project",
]

# Imported when first asked for: mining on a device needs the mathematics and NumPy alone.
_HOMES = {
    "Estimate": "load",
    "Searcher": "index",
    "Select": "select",
    "Vectors": "load",
    "estimate_vectors": "load",
    "load_vectors": "load",
    "nearest": "neighbors",
    "project": "projections",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"katiml.vectors.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'katiml.vectors' has no attribute {name!r}")
