"""Keras models on data, their outputs into the lake."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from dioptra.inference._detections import as_items
from dioptra.inference._ids import ids_of
from dioptra.inference._outputs import Outputs
from dioptra.inference._runner import InferenceRunner
from katiml.errors import InvalidInput

__all__ = ["TfInferenceRunner"]

_MODEL = "the model itself"
_SHOWN = 40
_EMBEDDINGS = ("last_hidden_state", "out", "logits")
_LOGITS = ("logits", "out", "last_hidden_state")


class TfInferenceRunner(InferenceRunner):
    """Runs a Keras 3 model, on any backend, on a `tf.data.Dataset` and sends what it says.

    Parameters are those of `TorchInferenceRunner` of the same name. Paths of layers are names with
    dots between, `[i]` for the i-th of a model's layers: `backbone.[2]`, `predictions`; "" is the
    model itself. With mc_dropout_samples only dropout layers are in training mode.

    >>> import numpy as np
    >>> from dioptra.lake.utils import select_datapoints, upload_to_lake
    >>> _ = upload_to_lake([{"type": "IMAGE", "request_id": name} for name in "ab"])
    Uploaded 2 records ...
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> ids = select_datapoints([])["id"]
    >>> runner = TfInferenceRunner(model, "CLASSIFICATION", "tiny", ids, logits_layer="head")
    >>> runner.run([np.zeros((2, 4), "float32")])
    Inferred 2 datapoints in ...
    """

    def __init__(
        self,
        model: Any,
        model_type: str,
        model_name: str | None = None,
        datapoint_ids: Sequence[str | None] | str | None = None,
        embeddings_layers: Sequence[str] | None = None,
        logits_layer: str | None = None,
        class_names: Sequence[str] | None = None,
        datapoints_metadata: Sequence[Mapping[str, Any]] | None = None,
        dataset_metadata: Mapping[str, Any] | None = None,
        mc_dropout_samples: int = 0,
        channel_last: bool = False,
    ) -> None:
        super().__init__(
            model,
            model_type,
            model_name,
            datapoint_ids,
            embeddings_layers,
            logits_layer,
            class_names,
            datapoints_metadata,
            dataset_metadata,
            mc_dropout_samples,
            channel_last,
        )
        self._layers = {name: find_layer(model, name) for name in self.embeddings_layers}
        self._logits = None if logits_layer is None else find_layer(model, logits_layer)
        self._dropout = [
            layer for layer in model._flatten_layers() if "Dropout" in type(layer).__name__
        ]
        if mc_dropout_samples and not self._dropout:
            raise InvalidInput(
                "mc_dropout_samples is set, and the model has no dropout layers",
                hint="add keras.layers.Dropout, or leave mc_dropout_samples 0",
            )

    def run(self, dataset: Iterable[Any]) -> None:
        """Run the model on every batch, in order, and send what it says while it works.

        Batches are tensors or arrays of any framework, dicts, or (inputs, targets), of which the
        targets are left aside, as Keras does. Raises InvalidInput where outputs and data do not
        fit.
        """
        ids = ids_of(self.datapoint_ids, dataset)
        layers = {f"e{index}": layer for index, layer in enumerate(self._layers.values())}
        if self._logits is not None:
            layers["logits"] = self._logits
        with (
            _listening(layers) as returned,
            _forced(self._dropout if self.mc_dropout_samples else ()),
        ):
            forward = _compiled(self._forward, returned)
            self._run((self._outputs(batch, forward) for batch in dataset), None, ids)

    def _forward(self, inputs: Any) -> Any:
        return self.model(inputs, training=False)

    def _outputs(self, batch: Any, forward: Callable[[Any], tuple[Any, dict[str, Any]]]) -> Outputs:
        inputs = batch[0] if isinstance(batch, tuple) else batch
        passes: list[Any] = []
        embeddings: dict[str, Any] = {}
        result: Any = None
        for _ in range(max(self.mc_dropout_samples, 1)):
            result, returned = forward(inputs)
            for index, name in enumerate(self._layers):
                array = _array_of(returned.get(f"e{index}"), name, _EMBEDDINGS)
                embeddings[name] = embeddings[name] + array if name in embeddings else array
            if self._logits is not None:
                passes.append(_array_of(returned.get("logits"), self.logits_layer or "", _LOGITS))
        if self.mc_dropout_samples > 1:
            embeddings = {name: sum_ / self.mc_dropout_samples for name, sum_ in embeddings.items()}
        logits = None
        if passes:
            logits = np.stack(passes, 1) if self.mc_dropout_samples else passes[0]
        return self._collected(inputs, result, logits, embeddings)

    def _collected(
        self, inputs: Any, result: Any, logits: Any, embeddings: dict[str, Any]
    ) -> Outputs:
        count = len(next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs)
        for name, array in (("the logits", logits), *embeddings.items()):
            if array is not None and len(array) != count:
                raise InvalidInput(
                    f"{name} gives {len(array)} items for a batch of {count}",
                    hint="the items of the batch are the first axis of an output",
                )
        items = None
        boxes = isinstance(result, Mapping) and "boxes" in result
        if boxes and self.model_type in ("OBJECT_DETECTION", "INSTANCE_SEGMENTATION"):
            items = as_items(_rows(result, count), count, self.class_names, "the model")
        elif isinstance(result, list | tuple) and result and isinstance(result[0], Mapping | str):
            items = as_items(result, count, self.class_names, "the model")
        return Outputs(count, logits, embeddings, {}, items)


def find_layer(model: Any, path: str) -> Any:
    """The layer at `path`. Raises InvalidInput, which lists the layers there are.

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="head")])
    >>> find_layer(model, "head") is find_layer(model, "[0]") is model.layers[0]
    True
    """
    current = model
    seen: list[str] = []
    for part in path.split(".") if path else ():
        layers = {layer.name: layer for layer in getattr(current, "layers", ())}
        index = re.fullmatch(r"\[(-?\d+)\]", part)
        try:
            # A layer of a model's own making is an attribute of it.
            child = list(layers.values())[int(index[1])] if index else layers.get(part)
        except IndexError:
            child = None
        if child is None:
            child = getattr(current, part, None)
        if not isinstance(child, keras.Layer):
            where = ".".join(seen) or "the model"
            names = ", ".join(list(layers)[:_SHOWN]) or "no layers"
            raise InvalidInput(
                f"no layer {path!r}: {where} has no {part!r}", hint=f"{where} has: {names}"
            )
        current = child
        seen.append(part)
    return current


@contextmanager
def _listening(layers: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields what the `layers` return, anew after each forward pass; then they are as before."""
    returned: dict[str, Any] = {}

    def listen(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def listened(*args: Any, **kwargs: Any) -> Any:
            output = call(*args, **kwargs)
            returned[name] = output
            return output

        return listened

    with _replaced_calls(layers, listen):
        yield returned


@contextmanager
def _forced(layers: Sequence[Any]) -> Iterator[None]:
    """The layers drop out, whatever the mode of the model."""

    def force(_name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def forced(inputs: Any, *_: Any, **kwargs: Any) -> Any:
            return call(inputs, **{**kwargs, "training": True})

        return forced

    with _replaced_calls({str(index): layer for index, layer in enumerate(layers)}, force):
        yield


@contextmanager
def _replaced_calls(
    layers: Mapping[str, Any], wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    undo: list[tuple[Any, Any]] = []
    try:
        for name, layer in layers.items():
            undo.append((layer, vars(layer).get("call")))
            # Past Keras's own bookkeeping of attributes, which would take it for a part of the
            # layer.
            object.__setattr__(layer, "call", wrap(name, layer.call))
        yield
    finally:
        for layer, own in reversed(undo):
            if own is None:
                object.__delattr__(layer, "call")
            else:
                object.__setattr__(layer, "call", own)


def _compiled(
    forward: Callable[[Any], Any], returned: dict[str, Any]
) -> Callable[[Any], tuple[Any, dict[str, Any]]]:
    """One call of the model: (its result, what the layers returned). A graph with TensorFlow,
    where running a model op by op takes several times as long."""

    def once(inputs: Any) -> tuple[Any, dict[str, Any]]:
        returned.clear()
        return forward(inputs), dict(returned)

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        graph: Callable[[Any], tuple[Any, dict[str, Any]]] = tf.function(
            once, reduce_retracing=True
        )
        return graph
    if backend == "torch":
        import torch

        return torch.no_grad()(once)
    return once


def _array_of(output: Any, name: str, keys: Sequence[str]) -> Any:
    shown = f"layer {name!r}" if name else _MODEL
    if output is None:
        raise InvalidInput(
            f"{shown} was not called in the forward pass", hint="name a layer that the model calls"
        )
    for key in keys:
        value = output.get(key) if isinstance(output, Mapping) else getattr(output, key, None)
        if value is not None:
            output = value
            break
    if isinstance(output, tuple | list):
        output = output[0]
    if not keras.ops.is_tensor(output):
        raise InvalidInput(
            f"{shown} returned {type(output).__name__}, which is no tensor",
            hint=f"a tensor, or a dict or object with one of {', '.join(keys)}",
        )
    array = keras.ops.convert_to_numpy(output)
    # NumPy has no arithmetic for what is narrower than float16.
    return array if array.dtype.kind == "f" and array.itemsize >= 4 else array.astype(np.float32)


def _rows(result: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Detections as KerasHub returns them, one array for a batch -> one dict for each item."""
    names = {"boxes": "boxes", "labels": "labels", "classes": "labels", "scores": "scores"}
    names.update({"confidence": "scores", "masks": "masks"})
    arrays = {
        names[key]: keras.ops.convert_to_numpy(value)
        for key, value in result.items()
        if key in names
    }
    numbers = result.get("num_detections")
    kept = [None] * count if numbers is None else keras.ops.convert_to_numpy(numbers).tolist()
    return [
        {name: array[index][: kept[index]] for name, array in arrays.items()}
        for index in range(count)
    ]
