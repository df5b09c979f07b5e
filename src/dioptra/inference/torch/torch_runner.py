"""PyTorch models on data, their outputs into the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from dioptra.inference._detections import as_items
from dioptra.inference._ids import ids_of
from dioptra.inference._outputs import Outputs, to_array
from dioptra.inference._runner import InferenceRunner
from dioptra.inference.torch._batches import count_of, length_of, moved, refuse_shuffling
from dioptra.inference.torch._layers import (
    dropout_layers,
    evaluating,
    find_layer,
    listening,
    tensor_of,
)
from dioptra.inference.torch.gradients import LastLayerGradients
from katiml.errors import InvalidInput

__all__ = ["TorchInferenceRunner"]

_MODEL = "the model itself"
_EMBEDDINGS = ("last_hidden_state", "out", "logits")
_LOGITS = ("logits", "out", "last_hidden_state")
_DETECTORS = ("OBJECT_DETECTION", "INSTANCE_SEGMENTATION")
Tensors = dict[str, torch.Tensor]


class TorchInferenceRunner(InferenceRunner):
    """Runs a model on a data loader and sends logits, embeddings and detections to the lake.

    Parameters:
        model: any `torch.nn.Module`.
        model_type: CLASSIFICATION, OBJECT_DETECTION, INSTANCE_SEGMENTATION, SEGMENTATION,
            LANE_DETECTION or COMPLETION.
        model_name: under which the predictions are kept.
        datapoint_ids: whose outputs these are, in the order of the data (None leaves an item out);
            "by uri", "by basename" or "by sha256" finds them by the files of the dataset; by
            default those that the dataset knows (`ImageDataset`, `LakeDataset`).
        embeddings_layers: paths of layers, names with dots between, `[i]` for the i-th of a list:
            `layer4.[0].conv1`. Of Hugging Face's outputs `last_hidden_state` is taken.
        logits_layer: the path of the layer that gives the logits; "" is the model itself.
        class_names: one for each logit; for detectors the names of the labels.
        datapoints_metadata: fields of each record, in the order of the data: ids, tags ...
        dataset_metadata: fields of all records.
        data_transform: called with each batch before the model.
        grad_embeddings_transform: called with the logits (which carry gradients), returns
            {layer: tensor}; or a `LastLayerGradients`.
        logits_transform: called as (logits, embeddings, metadata=the datapoints_metadata of the
            batch), returns a list with one dict for each item: `bboxes`, `lanes`, `completions`,
            `metrics` or any field of a prediction; or boxes, labels, scores, masks. The logits
            themselves are not sent then.
        mc_dropout_samples: passes with dropout. Only dropout layers are in train mode.
        channel_last: feature maps come as height x width x channels.
        forward_kwargs: further arguments of each forward.
        device: where to run; by default where the model is.
        token_pooling: "mean" or "first" makes one vector of embeddings of tokens (items x tokens x
            features), the mean by the `attention_mask` of the batch; by default they are kept.

    Without logits_transform, a model that returns a list of dicts (torchvision's detectors) or of
    texts is read as `logits_transform` would have returned it.

    >>> from torch.utils.data import DataLoader
    >>> from dioptra.lake.utils import select_datapoints, select_predictions, upload_to_lake
    >>> _ = upload_to_lake([{"type": "IMAGE", "request_id": name} for name in "ab"])
    Uploaded 2 records ...
    >>> runner = TorchInferenceRunner(
    ...     nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.Linear(8, 2)),
    ...     "CLASSIFICATION",
    ...     "tiny",
    ...     datapoint_ids=select_datapoints([])["id"],
    ...     embeddings_layers=["[1]"],
    ...     logits_layer="[2]",
    ...     class_names=["cat", "dog"],
    ... )
    >>> runner.run(DataLoader(torch.zeros(2, 1, 2, 2), batch_size=2))
    Inferred 2 datapoints in ...
    >>> runner.wait_for_uploads()[0]["status"]
    'SUCCEEDED'
    >>> len(select_predictions([])["metrics"][0])
    1
    """

    def __init__(
        self,
        model: nn.Module,
        model_type: str,
        model_name: str | None = None,
        datapoint_ids: Sequence[str | None] | str | None = None,
        embeddings_layers: Sequence[str] | None = None,
        logits_layer: str | None = None,
        class_names: Sequence[str] | None = None,
        datapoints_metadata: Sequence[Mapping[str, Any]] | None = None,
        dataset_metadata: Mapping[str, Any] | None = None,
        data_transform: Callable[[Any], Any] | None = None,
        grad_embeddings_transform: Callable[..., Tensors] | LastLayerGradients | None = None,
        logits_transform: Callable[..., Any] | None = None,
        mc_dropout_samples: int = 0,
        channel_last: bool = False,
        forward_kwargs: Mapping[str, Any] | None = None,
        device: str | torch.device | None = None,
        *,
        token_pooling: str | None = None,
    ) -> None:
        super().__init__(
            # Hooks on the layers of a compiled model would not be called.
            getattr(model, "_orig_mod", model),
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
        if token_pooling not in (None, "mean", "first"):
            raise InvalidInput(f"token_pooling is {token_pooling!r}", hint="'mean' or 'first'")
        self.data_transform = data_transform
        self.grad_embeddings_transform = grad_embeddings_transform
        self.logits_transform = logits_transform
        self.forward_kwargs = dict(forward_kwargs or {})
        self.device = device
        self.token_pooling = token_pooling
        # The place in the data of the first item of the batch that is worked on.
        self._first = 0
        self._layers = {name: find_layer(self.model, name) for name in self.embeddings_layers}
        self._logits = None if logits_layer is None else find_layer(self.model, logits_layer)
        gradients = grad_embeddings_transform
        self._inputs = (
            {gradients.layer: find_layer(self.model, gradients.layer)}
            if isinstance(gradients, LastLayerGradients)
            else {}
        )
        self._factorised = isinstance(gradients, LastLayerGradients) and gradients.factorised
        if self._factorised and logits_transform is not None:
            raise InvalidInput(
                "the logits are a factor of the gradients, and a logits_transform keeps them back",
                hint=f"LastLayerGradients({gradients.layer!r}, factorised=False)",  # type: ignore[union-attr]
            )
        self._dropout = dropout_layers(self.model) if self.mc_dropout_samples else []
        if self.mc_dropout_samples and not self._dropout:
            raise InvalidInput(
                "mc_dropout_samples is set, and the model has no dropout layers",
                hint="torch.nn.functional.dropout inside forward is no layer: use nn.Dropout",
            )
        if (gradients or logits_transform) and self._logits is None:
            raise InvalidInput(
                "grad_embeddings_transform and logits_transform need a logits_layer",
                hint="logits_layer='' takes what the model itself returns",
            )

    def run(self, dataloader: Iterable[Any]) -> None:
        """Run the model on every batch, in order, and send what it says while it works.

        Batches are tensors, dicts (`model(**batch)`) or whatever the model takes as its one
        argument. Raises InvalidInput where outputs and data do not fit, or the loader shuffles.
        """
        dataset = getattr(dataloader, "dataset", None)
        ids = ids_of(self.datapoint_ids, dataset)
        if ids or self.datapoints_metadata:
            refuse_shuffling(dataloader)
        self._first = 0
        with ExitStack() as stack:
            layers = {f"e{index}": layer for index, layer in enumerate(self._layers.values())}
            if self._logits is not None:
                layers["logits"] = self._logits
            stack.enter_context(evaluating(self.model, self._dropout))
            returned, given = stack.enter_context(listening(layers, self._inputs))
            by_gradients = callable(self.grad_embeddings_transform) and not self._inputs
            stack.enter_context(torch.set_grad_enabled(by_gradients))
            device = self._move_model()
            self._run(
                (self._outputs(batch, device, returned, given) for batch in dataloader),
                length_of(dataloader),
                ids,
            )

    def _move_model(self) -> torch.device:
        parameter = next(self.model.parameters(), None)
        here = torch.device("cpu") if parameter is None else parameter.device
        if self.device is None:
            return here
        wanted = torch.device(self.device)
        if parameter is not None and (
            wanted.type != here.type or wanted.index not in (None, here.index)
        ):
            self.model.to(wanted)
        return wanted

    def _outputs(
        self, batch: Any, device: torch.device, returned: dict[str, Any], given: dict[str, Any]
    ) -> Outputs:
        if self.data_transform is not None:
            batch = self.data_transform(batch)
        batch = moved(batch, device)
        passes: list[torch.Tensor] = []
        embeddings: Tensors = {}
        gradients: Tensors = {}
        result: Any = None
        for _ in range(max(self.mc_dropout_samples, 1)):
            returned.clear()
            result = self._forward(batch)
            for index, name in enumerate(self._layers):
                tensor = self._tensor(returned.get(f"e{index}"), name, _EMBEDDINGS)
                _add(embeddings, name, self._pooled(tensor, batch, name))
            if self._logits is not None:
                logits = self._tensor(returned.get("logits"), self.logits_layer or "", _LOGITS)
                for name, tensor in self._gradients(logits, given).items():
                    into = embeddings if self._factorised else gradients
                    _add(into, name, tensor.detach())
                passes.append(logits.detach())
        if self.mc_dropout_samples > 1:
            embeddings = {
                name: total / self.mc_dropout_samples for name, total in embeddings.items()
            }
            gradients = {name: total / self.mc_dropout_samples for name, total in gradients.items()}
        return self._collected(batch, result, passes, embeddings, gradients)

    def _forward(self, batch: Any) -> Any:
        try:
            if isinstance(batch, Mapping):
                return self.model(**batch, **self.forward_kwargs)
            return self.model(batch, **self.forward_kwargs)
        except (TypeError, AttributeError) as error:
            if not isinstance(batch, list | tuple):
                raise
            raise InvalidInput(
                f"the model does not take a {type(batch).__name__} of {len(batch)}: {error}",
                hint="where the loader gives (inputs, targets), set"
                " data_transform=lambda batch: batch[0]",
            ) from error

    @staticmethod
    def _tensor(output: Any, name: str, keys: Sequence[str]) -> torch.Tensor:
        shown = f"layer {name!r}" if name else _MODEL
        if output is None:
            raise InvalidInput(
                f"{shown} was not called in the forward pass",
                hint="name a layer that the model calls",
            )
        tensor = tensor_of(output, keys)
        if tensor is None:
            raise InvalidInput(
                f"{shown} returned {type(output).__name__}, in which there is no tensor",
                hint=f"a tensor, or a dict or object with one of {', '.join(keys)}",
            )
        return tensor

    def _pooled(self, tensor: torch.Tensor, batch: Any, name: str) -> torch.Tensor:
        tensor = tensor.detach()
        if self.token_pooling is None or tensor.ndim != 3:
            return tensor
        if self.token_pooling == "first":  # noqa: S105
            return tensor[:, 0]
        mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
        if mask is None:
            return tensor.mean(1)
        if mask.shape != tensor.shape[:2]:
            raise InvalidInput(
                f"attention_mask has the shape {tuple(mask.shape)}, layer {name!r} gives"
                f" {tuple(tensor.shape[:2])} items x tokens"
            )
        weights = mask.to(tensor.dtype)[..., None]
        mean: torch.Tensor = (tensor * weights).sum(1) / weights.sum(1).clamp(min=1)
        return mean

    def _gradients(self, logits: torch.Tensor, given: Mapping[str, Any]) -> Tensors:
        transform = self.grad_embeddings_transform
        if transform is None:
            return {}
        if isinstance(transform, LastLayerGradients):
            inputs = self._tensor(given.get(transform.layer), transform.layer, ())
            if not self._factorised:
                return transform(logits.detach(), inputs.detach())
            transform.check(logits, inputs)
            return {f"{transform.layer}.input": inputs}
        made: Tensors = transform(logits)
        return made

    def _collected(
        self,
        batch: Any,
        result: Any,
        passes: list[torch.Tensor],
        embeddings: Tensors,
        gradients: Tensors,
    ) -> Outputs:
        counts = {
            **{f"layer {name!r}": len(tensor) for name, tensor in embeddings.items()},
            **{f"gradients {name!r}": len(tensor) for name, tensor in gradients.items()},
            **({"the logits": len(passes[0])} if passes else {}),
        }
        count = count_of(batch, result, counts)
        for what, found in counts.items():
            if found != count:
                raise InvalidInput(
                    f"{what} gives {found} items for a batch of {count}",
                    hint="the items of the batch are the first axis of an output",
                )
        logits = None
        if passes:
            logits = torch.stack(passes, 1) if self.mc_dropout_samples else passes[0]
        items = self._items(result, logits, embeddings, count)
        self._first += count
        sent = logits if self.logits_transform is None else None
        return Outputs(
            count,
            None if sent is None else to_array(sent),
            {name: to_array(tensor) for name, tensor in embeddings.items()},
            {name: to_array(tensor) for name, tensor in gradients.items()},
            items,
        )

    def _items(
        self, result: Any, logits: torch.Tensor | None, embeddings: Tensors, count: int
    ) -> list[Any] | None:
        if self.logits_transform is not None:
            metadata = self._metadata(self._first, count)
            made = self.logits_transform(logits, embeddings, metadata=metadata)
            return as_items(made, count, self.class_names, "logits_transform")
        if isinstance(result, list | tuple) and result and isinstance(result[0], Mapping | str):
            if self.mc_dropout_samples:
                raise InvalidInput(
                    "the boxes or texts of several dropout passes cannot be averaged",
                    hint="give a logits_layer and a logits_transform, which sees all passes",
                )
            return as_items(result, count, self.class_names, "the model")
        if self.model_type in _DETECTORS and logits is None and not embeddings:
            raise InvalidInput(
                f"the model returned {type(result).__name__}: no boxes are found in that",
                hint="give a logits_layer and a logits_transform that makes bboxes of the logits",
            )
        return None


def _add(totals: Tensors, name: str, tensor: torch.Tensor) -> None:
    totals[name] = totals[name] + tensor if name in totals else tensor
