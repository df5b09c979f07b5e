"""Joining and grouping of the frames that `select_*` returns."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from dioptra import _progress
from katiml.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["group_by_uri", "join_on_datapoints"]

_ATTACHMENTS = ("groundtruths", "predictions")


def join_on_datapoints(
    datapoints: pd.DataFrame,
    groundtruths: pd.DataFrame | None = None,
    predictions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """See `dioptra.lake.utils.join_on_datapoints`."""
    joined = datapoints.copy()
    for name, attachments in (("predictions", predictions), ("groundtruths", groundtruths)):
        if attachments is not None:
            joined[name] = joined[_column(joined, "id")].map(_by_datapoint(attachments))
    return joined


def _by_datapoint(attachments: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    if attachments.empty:
        return {}
    owners = attachments[_column(attachments, "datapoint")]
    grouped: dict[str, list[dict[str, Any]]] = {}
    rows = attachments.drop(columns="datapoint", errors="ignore").to_dict("records")
    for owner, row in zip(owners, rows, strict=True):
        grouped.setdefault(owner, []).append({str(key): value for key, value in row.items()})
    return grouped


def group_by_uri(
    datapoints: pd.DataFrame,
    uri_grouped_transform: Callable[[tuple[Any, ...]], dict[str, Any]],
    num_workers: int = 1,
) -> pd.DataFrame:
    """See `dioptra.lake.utils.group_by_uri`."""
    import pandas as pd

    columns = ["id", "metadata", *(name for name in _ATTACHMENTS if name in datapoints.columns)]
    for name in columns[:2]:
        _column(datapoints, name)
    uris = [_uri(metadata) for metadata in datapoints["metadata"]]
    groups: dict[str, dict[str, list[Any]]] = {}
    for uri, values in zip(
        uris, zip(*(datapoints[name] for name in columns), strict=True), strict=True
    ):
        if uri is None:
            continue
        group = groups.setdefault(uri, {name: [] for name in columns})
        for name, value in zip(columns, values, strict=True):
            if name not in _ATTACHMENTS:
                group[name].append(value)
            elif isinstance(value, list | tuple | np.ndarray):
                group[name].extend(value)
    ordered = {uri: groups[uri] for uri in sorted(groups)}
    inputs = [tuple(group[name] for name in columns) for group in ordered.values()]
    made = _transformed(inputs, uri_grouped_transform, num_workers)
    rows = [
        {**group, "uri": uri, **new}
        for (uri, group), new in zip(ordered.items(), made, strict=True)
    ]
    index = pd.Index(list(ordered), name="uri", dtype="object")
    # The order of the columns is the frame's own, then what the transform added.
    kept = [name for name in datapoints.columns if name in columns]
    added = dict.fromkeys(name for new in made for name in new)
    names = list(dict.fromkeys([*kept, "uri", *added]))
    return pd.DataFrame(rows, index=index, columns=pd.Index(names))


def _transformed(
    inputs: list[tuple[Any, ...]],
    transform: Callable[[tuple[Any, ...]], dict[str, Any]],
    num_workers: int,
) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    # Threads rather than processes: the transform may be a lambda, nothing is copied, and what
    # takes time in one (reading and resizing images, NumPy) lets other threads run.
    with (
        ThreadPoolExecutor(max(1, num_workers)) as pool,
        _progress.bar("transforming", len(inputs)) as reached,
    ):
        for new in pool.map(transform, inputs):
            if not isinstance(new, dict):
                raise InvalidInput(
                    f"uri_grouped_transform returned {type(new).__name__}",
                    hint="it returns a dict of new columns for the rows of one uri",
                )
            made.append(new)
            reached(len(made))
    return made


def _uri(metadata: Any) -> str | None:
    uri = metadata.get("uri") if isinstance(metadata, dict) else None
    return uri if isinstance(uri, str) else None


def _column(frame: pd.DataFrame, name: str) -> str:
    if name not in frame.columns:
        raise InvalidInput(
            f"the frame has no column {name!r}", hint="keep '*' among the fields you select"
        )
    return name
