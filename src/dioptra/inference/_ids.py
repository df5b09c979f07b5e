"""Whose outputs a model's outputs are: the datapoints of the items of a dataset, in its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dioptra.lake import utils
from katiml.errors import InvalidInput

__all__ = ["ids_of"]

_WAYS = ("by uri", "by basename", "by sha256")


def ids_of(given: Sequence[str | None] | str, dataset: Any) -> Sequence[str | None]:
    """The ids that were given; "by uri" (or basename, sha256): those of the datapoints that have
    the files of `dataset`; none given: those that the dataset itself knows.

    Raises InvalidInput where files have no datapoint, or several.
    """
    if not isinstance(given, str):
        return given or _own(dataset, "datapoint_ids") or []
    if given not in _WAYS:
        raise InvalidInput(
            f"datapoint_ids is {given!r}",
            hint=f"a list of ids, or one of {', '.join(map(repr, _WAYS))}",
        )
    files = _own(dataset, "uris") or _own(dataset, "paths") or _samples(dataset)
    if files is None:
        raise InvalidInput(
            f"the files of a {type(dataset).__name__} are not known",
            hint="give the dataset a list `uris`, or datapoint_ids=match(paths)['datapoint']",
        )
    found = utils.match(files, by=given.removeprefix("by "))
    wrong = found[found["status"] != "matched"]
    if len(wrong):
        first = ", ".join(
            f"{item} ({status})"
            for item, status in zip(wrong["item"][:3], wrong["status"][:3], strict=True)
        )
        raise InvalidInput(
            f"{len(wrong)} of {len(found)} files have no datapoint, or several: {first}",
            hint="datapoint_ids=match(paths)['datapoint'] leaves those without one out",
        )
    ids: list[str | None] = found["datapoint"].tolist()
    return ids


def _own(dataset: Any, name: str) -> list[Any] | None:
    """An attribute of a dataset, also through `torch.utils.data.Subset`."""
    values = getattr(dataset, name, None)
    if values is not None:
        return list(values)
    inner = getattr(dataset, "dataset", None)
    indices = getattr(dataset, "indices", None)
    if inner is None or indices is None:
        return None
    values = _own(inner, name)
    return None if values is None else [values[index] for index in indices]


def _samples(dataset: Any) -> list[Any] | None:
    """The paths of an image folder, as torchvision keeps them: pairs of path and class."""
    samples = _own(dataset, "samples")
    return None if samples is None else [sample[0] for sample in samples]
