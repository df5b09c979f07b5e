"""Inference with Keras 3, on any of its backends."""

from __future__ import annotations

from katiml.extras import need

need("keras", "tensorflow")
