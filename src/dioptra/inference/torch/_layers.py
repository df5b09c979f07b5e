"""Layers of a torch model: found by path, listened to, put into train mode and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from katiml.errors import InvalidInput

__all__ = ["dropout_layers", "evaluating", "find_layer", "listening", "tensor_of"]

_SHOWN = 40


def find_layer(model: nn.Module, path: str) -> nn.Module:
    """The layer at `path`: names with dots between them, `[i]` for the i-th of a list; `""` is the
    model itself. Raises InvalidInput, which lists the layers there are.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> find_layer(model, "[0]"), find_layer(model, "1")
    (Linear(in_features=2, out_features=3, bias=True), ReLU())
    """
    current = model
    seen: list[str] = []
    for part in path.split(".") if path else ():
        children = dict(current.named_children())
        index = re.fullmatch(r"\[(-?\d+)\]", part)
        if index and (place := int(index[1]) + len(children) * (index[1][0] == "-")) >= 0:
            found = list(children.values())[place : place + 1]
            child = found[0] if found else None
        else:
            child = children.get(part)
        if child is None:
            where = ".".join(seen) or "the model"
            names = ", ".join(list(children)[:_SHOWN]) or "no layers"
            more = f" and {len(children) - _SHOWN} more" if len(children) > _SHOWN else ""
            raise InvalidInput(
                f"no layer {path!r}: {where} has no {part!r}",
                hint=f"{where} has: {names}{more}",
            )
        current = child
        seen.append(part)
    return current


def tensor_of(output: Any, names: Sequence[str]) -> torch.Tensor | None:
    """The tensor of a layer's output: itself, the first of `names` that a dict or an output object
    (of Hugging Face's models) has, or the first tensor of a tuple. None where there is none."""
    if isinstance(output, torch.Tensor):
        return output
    for name in names:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, torch.Tensor):
            return value
    if isinstance(output, tuple | list):
        return next((value for value in output if isinstance(value, torch.Tensor)), None)
    return None


@contextmanager
def listening(
    layers: Mapping[str, nn.Module], inputs_of: Mapping[str, nn.Module]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields what the `layers` return and what goes into `inputs_of`, anew after each forward.

    Nothing listens any more when the block ends, however it ends.
    """
    returned: dict[str, Any] = {}
    given: dict[str, Any] = {}

    def listen(name: str) -> Any:
        def hook(_layer: nn.Module, _inputs: Any, output: Any) -> None:
            returned[name] = output

        return hook

    def listen_before(name: str) -> Any:
        def hook(_layer: nn.Module, inputs: Any) -> None:
            given[name] = inputs[0] if inputs else None

        return hook

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_hook(listen(name)).remove)
        for name, layer in inputs_of.items():
            stack.callback(layer.register_forward_pre_hook(listen_before(name)).remove)
        yield returned, given


def dropout_layers(model: nn.Module) -> list[nn.Module]:
    """The dropout layers of a model, those of its own making too if they are named so."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.modules.dropout._DropoutNd) or "Dropout" in type(layer).__name__
    ]


@contextmanager
def evaluating(model: nn.Module, active: Sequence[nn.Module] = ()) -> Iterator[None]:
    """The model in eval mode but for the `active` layers; afterwards each layer is as it was."""
    before = [(layer, layer.training) for layer in model.modules()]
    try:
        model.eval()
        for layer in active:
            layer.train()
        yield
    finally:
        for layer, mode in before:
            layer.training = mode
