"""Embeddings, gradient embeddings and logits of a selection, and what is near what."""

from __future__ import annotations

from katiml.vectors.select import Select

__all__ = ["Select"]
