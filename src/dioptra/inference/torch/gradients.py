"""Gradient embeddings, as BADGE wants them.

Ash et al., Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds, ICLR 2020.
"""

from __future__ import annotations

import torch

from katiml.errors import InvalidInput

__all__ = ["LastLayerGradients"]


class LastLayerGradients:
    """The gradient of the loss by the weights of the last linear layer, as if the class that the
    model thinks most probable were the true one.

    For probabilities p, that class y, and what goes into the layer, h, it is the outer product of
    p - onehot(y) and h: classes x features values. `factorised` (the default) keeps h alone, as
    the embedding `{layer}.input`: with the logits, which are sent too, it says the same in
    `features` values, and BADGE works on the factors. `factorised=False` keeps the product, as the
    gradient embedding `{layer}`. No backward pass is needed, so it costs nothing beside the
    forward pass.

    >>> gradients = LastLayerGradients("fc", factorised=False)
    >>> gradients(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 4.0]]))
    {'fc': tensor([[-1., -2.,  1.,  2.]])}
    """

    def __init__(self, layer: str, *, factorised: bool = True) -> None:
        self.layer = layer
        self.factorised = factorised

    def __call__(self, logits: torch.Tensor, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The products, of logits (items x classes) and what goes into the layer (items x
        features)."""
        self.check(logits, inputs)
        logits, inputs = logits.float(), inputs.float()
        error = logits.softmax(1)
        error = error - torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1])
        return {self.layer: torch.einsum("nc,nd->ncd", error, inputs).flatten(1)}

    @staticmethod
    def check(logits: torch.Tensor, inputs: torch.Tensor) -> None:
        """Raises InvalidInput where these cannot be what a last layer gives and takes."""
        if logits.ndim != 2 or inputs.ndim != 2 or len(logits) != len(inputs):
            raise InvalidInput(
                f"gradients by the last layer want logits of items x classes and inputs of"
                f" items x features, not {tuple(logits.shape)} and {tuple(inputs.shape)}",
                hint="name the linear layer that gives the logits",
            )
