"""Models on data, their outputs into the lake: one runner for PyTorch, one for Keras."""

from __future__ import annotations
