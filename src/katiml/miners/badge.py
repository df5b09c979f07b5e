"""BADGE: uncertain and diverse at once, by gradients of the loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, namespace
from katiml.errors import InvalidInput
from katiml.miners.strategy import Inputs, Picks, Run, Strategy
from katiml.vectors.seeding import (
    Plain,
    Spread,
    from_products,
    k_means_plus_plus,
    products_with,
    squared_norms,
)

__all__ = ["Badge", "Gradients"]


class Gradients:
    """Gradients of the loss in a last linear layer, never written out.

    Row i is (p - onehot(argmax p)) ⊗ h, C x D numbers, from (N, C) probabilities p and (N, D)
    outputs h of the layer before. Products of such rows are products of their factors, so this
    takes N (C + D) numbers and not N C D.

    >>> gradients = Gradients(np.array([[0.8, 0.2], [0.5, 0.5]]), np.array([[1.0], [2.0]]))
    >>> gradients.squares.round(3).tolist(), gradients.squared_distances(0).round(3).tolist()
    ([0.08, 2.0], [0.0, 1.28])
    """

    def __init__(self, probabilities: Array, vectors: Array) -> None:
        if len(probabilities) != len(vectors):
            raise InvalidInput(f"{len(probabilities)} probabilities for {len(vectors)} vectors")
        self.residuals = _residuals(probabilities, vectors)
        self.vectors = vectors
        self.squares = squared_norms(self.residuals) * squared_norms(vectors)

    def squared_distances(self, position: int) -> NDArray[np.float64]:
        """(N,) squared distances of all gradients to one of them."""
        products = products_with(self.residuals, position) * products_with(self.vectors, position)
        return from_products(self.squares, products, position)


def _residuals(probabilities: Array, vectors: Array) -> Array:
    xp = namespace(probabilities)
    dtype = vectors.dtype if vectors.dtype in (xp.float32, xp.float64) else xp.float32
    if xp is np:
        residuals = np.array(probabilities, dtype=dtype)
        residuals[np.arange(len(residuals)), residuals.argmax(axis=1)] -= 1.0
        return residuals
    residuals = xp.astype(probabilities, dtype, copy=True)
    everyone = xp.arange(residuals.shape[0], device=residuals.device)
    residuals[everyone, xp.argmax(residuals, axis=1)] -= 1.0
    return residuals


class Badge(Strategy):
    """Batches whose gradients are large (the model is unsure) and point apart (they differ).

    Takes stored gradient embeddings, or makes them of probabilities and the embeddings of the layer
    before the last. The score is the squared distance to the nearest pick before it.
    """

    name = "BADGE"
    summary = "Unsure and unlike each other: spread over the gradients of the loss."
    paper = "Ash, Zhang, Krishnamurthy, Langford and Agarwal, Deep Batch Active Learning, ICLR 2020"
    needs = ("gradients",)
    uses = ("probabilities", "vectors")

    def _require(self, inputs: Inputs) -> None:
        factors = inputs.probabilities is not None and inputs.vectors is not None
        if inputs.gradients is None and not factors:
            raise InvalidInput("BADGE needs gradients, or probabilities and vectors")
        self._check_finite(inputs, (*self.needs, *self.uses))

    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        rows: Spread = (
            Gradients(inputs.probabilities, inputs.vectors)
            if inputs.gradients is None
            else Plain(inputs.gradients)
        )
        positions, distances, _ = k_means_plus_plus(rows, size, run.random, progress=run.progress)
        lengths = np.sqrt(np.maximum(rows.squares[positions], 0.0))
        return Picks(positions, distances, {"gradient_norm": lengths})
