"""What all runners share: whose outputs they are, records, uploads, progress."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dioptra import _progress
from dioptra.inference._outputs import Outputs, check_model_type, predictions_of
from dioptra.inference._sender import Sender
from dioptra.lake import utils
from katiml.errors import InvalidInput

__all__ = ["InferenceRunner"]

# Segmentation logits are megabytes each: records are sent before they are many, if they are large.
_BATCH_BYTES = 64 << 20


class InferenceRunner:
    """The base of the runners. `max_batch_size` records at most travel together; with
    `use_local_storage` they are written to `DIOPTRA_LOCAL_CACHE_DIR` instead, and
    `upload_stored` sends them later. `uploads` lists what was sent."""

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
        if isinstance(embeddings_layers, str):
            embeddings_layers = [embeddings_layers]
        if mc_dropout_samples < 0:
            raise InvalidInput(f"mc_dropout_samples is {mc_dropout_samples}", hint="0 is none")
        self.model = model
        self.model_type = check_model_type(model_type)
        self.model_name = model_name
        self.datapoint_ids = _listed(datapoint_ids)
        self.embeddings_layers = list(embeddings_layers or ())
        self.logits_layer = logits_layer
        self.class_names = [str(name) for name in _listed(class_names)]
        self.datapoints_metadata = _listed(datapoints_metadata)
        self.dataset_metadata = dict(dataset_metadata or {})
        self.mc_dropout_samples = mc_dropout_samples
        self.channel_last = channel_last
        self.max_batch_size = 1000
        self.use_local_storage = False
        self.uploads: list[dict[str, Any]] = []
        self.stored: list[str] = []

    def upload_stored(self) -> list[dict[str, Any]]:
        """Upload what `use_local_storage` wrote, delete those files, and return the uploads."""
        made = []
        while self.stored:
            made.append(utils.upload_local_cache([self.stored[0]])[0])
            self.uploads.append(made[-1])
            self.stored.pop(0)
        return made

    def wait_for_uploads(self) -> list[dict[str, Any]]:
        """Wait until all uploads are ingested; returns their states.

        Records that the lake rejected are counted in `counts` and named in a warning. Raises
        RuntimeError when an upload failed.
        """
        states = [utils.wait_for_upload(upload) for upload in self.uploads]
        rejected = sum((state.get("counts") or {}).get("rejected") or 0 for state in states)
        if rejected:
            warnings.warn(
                f"{rejected} records were rejected; `katiml uploads rejected ID` says why",
                stacklevel=2,
            )
        return states

    def _run(
        self, batches: Iterable[Outputs], total: int | None, ids: Sequence[str | None]
    ) -> None:
        """Make records of what the model says of each batch, and have them sent meanwhile."""
        self._check_lengths(total, ids)
        sender = Sender(self._send)
        start, done, size = time.perf_counter(), 0, 0
        waiting: list[dict[str, Any]] = []
        try:
            with _progress.bar("inference", total or len(ids) or None, "items") as reached:
                for outputs in batches:
                    waiting += self._records(outputs, ids, done)
                    done += outputs.count
                    size += _bytes(outputs)
                    reached(done)
                    while len(waiting) >= self.max_batch_size or size >= _BATCH_BYTES:
                        sender.put(waiting[: self.max_batch_size])
                        waiting, size = waiting[self.max_batch_size :], 0
            if waiting:
                sender.put(waiting)
        finally:
            sender.close()
        if total is None and done < len(ids):
            warnings.warn(
                f"datapoint_ids has {len(ids)} entries, the data {done}: the rest is not used",
                stacklevel=3,
            )
        spent = time.perf_counter() - start
        where = f"{len(self.stored)} files" if self.stored else f"{len(self.uploads)} uploads"
        print(
            f"Inferred {done:,} datapoints in {spent:.1f} s"
            f" ({done / max(spent, 1e-9):,.0f} a second), {where}."
        )

    def _check_lengths(self, total: int | None, ids: Sequence[str | None]) -> None:
        for name, given in (
            ("datapoint_ids", ids),
            ("datapoints_metadata", self.datapoints_metadata),
        ):
            if given and total is not None and len(given) < total:
                raise InvalidInput(
                    f"{name} has {len(given)} entries, the data {total}",
                    hint="one for each item, in the order of the data",
                )
            if given and total is not None and len(given) > total:
                warnings.warn(
                    f"{name} has {len(given)} entries, the data {total}: the rest is not used",
                    stacklevel=4,
                )

    def _records(
        self, outputs: Outputs, ids: Sequence[str | None], first: int
    ) -> list[dict[str, Any]]:
        common: dict[str, Any] = {"task_type": self.model_type}
        if self.model_name is not None:
            common["model_name"] = self.model_name
        if self.class_names:
            common["class_names"] = self.class_names
        own = self._metadata(first, outputs.count)
        predictions = predictions_of(
            outputs,
            common,
            channel_last=self.channel_last,
            passes=self.mc_dropout_samples,
            # Patches are cut from whole feature maps.
            pool=not any("_preprocessor" in fields for fields in (self.dataset_metadata, *own)),
        )
        chosen = _part(ids, first, outputs.count, "datapoint_ids") or [...] * outputs.count
        records = []
        for id_, fields, prediction in zip(chosen, own, predictions, strict=True):
            if id_ is None:
                continue
            record = {} if id_ is ... else {"id": str(id_)}
            records.append({**record, **_merged(self.dataset_metadata, fields)})
            records[-1]["predictions"] = [prediction]
        return records

    def _metadata(self, first: int, count: int) -> list[Mapping[str, Any]]:
        part = _part(self.datapoints_metadata, first, count, "datapoints_metadata")
        return part or [{}] * count

    def _send(self, records: list[dict[str, Any]]) -> None:
        if self.use_local_storage:
            self.stored.append(utils.store_to_local_cache(records))
        else:
            self.uploads.append(utils._send(records))


def _listed(values: Any) -> Any:
    """A list of what is a sequence, array or column; a text stays."""
    if values is None:
        return []
    return values if isinstance(values, str) else list(values)


def _part(values: Sequence[Any], first: int, count: int, name: str) -> list[Any]:
    if not values:
        return []
    if first + count > len(values):
        raise InvalidInput(
            f"{name} has {len(values)} entries, and the data goes on",
            hint="one for each item, in the order of the data",
        )
    return list(values[first : first + count])


def _merged(fields: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Both; an item's own fields win, tags and metadata of both are kept."""
    merged = {**fields, **own}
    for name in ("tags", "metadata"):
        if isinstance(fields.get(name), Mapping) and isinstance(own.get(name), Mapping):
            merged[name] = {**fields[name], **own[name]}
    return merged


def _bytes(outputs: Outputs) -> int:
    arrays = [*outputs.embeddings.values(), *outputs.grad_embeddings.values()]
    if outputs.logits is not None:
        arrays.append(outputs.logits)
    size = sum(array.nbytes for array in arrays)
    for item in outputs.items or ():
        for box in item.get("bboxes") or ():
            mask = box.get("segmentation_mask") if isinstance(box, Mapping) else None
            size += mask.nbytes if isinstance(mask, np.ndarray) else 200
    return size
