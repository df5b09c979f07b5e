"""Datapoints as PyTorch datasets."""

from __future__ import annotations

from katiml.extras import need

need("torch", "torch")
