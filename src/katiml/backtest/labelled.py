"""Labelled embeddings of a lake, as arrays for a backtest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml.errors import InvalidInput
from katiml.vectors import Select, load_vectors
from katiml.vectors.select import id_array

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["LabelledVectors", "read_labelled"]


@dataclass(frozen=True)
class LabelledVectors:
    """(N,) ids, (N, D) embeddings, (N,) class names; how many datapoints had only one of both."""

    ids: NDArray[np.bytes_]
    embeddings: NDArray[np.floating[Any]]
    labels: NDArray[Any]
    name: str
    without_label: int
    without_embedding: int


def read_labelled(
    scope: Scope,
    model_name: str | None = None,
    filters: Any = None,
    *,
    embeddings_field: str = "embeddings",
    progress: Callable[[int, int], None] | None = None,
) -> LabelledVectors:
    """The datapoints that pass `filters` and have an embedding and a class as ground truth.

    `model_name` is `model:layer`, or None where there is one. Raises InvalidInput where none has
    both.

    >>> import katiml
    >>> with katiml.connect(getfixture("tmp_path")) as lake:
    ...     _ = lake.ingest([{"type": "IMAGE",
    ...         "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": "cat"}],
    ...         "predictions": [{"task_type": "CLASSIFICATION", "model_name": "net",
    ...             "embeddings": {"pool": [0.5, 1.0]}}]}])
    ...     found = read_labelled(lake.scope)
    >>> found.labels.tolist(), found.embeddings.tolist(), found.name
    (['cat'], [[0.5, 1.0]], 'net:pool')
    """
    select = Select(filters).fixed(scope)
    vectors = load_vectors(
        scope, select, model_name=model_name, field=embeddings_field, progress=progress
    )
    chosen = select.chosen()
    found = scope.query(
        "SELECT CAST(datapoint AS VARCHAR) AS datapoint, class_name FROM {groundtruths} "
        "WHERE task_type = 'CLASSIFICATION' AND class_name IS NOT NULL "
        f"AND {chosen.within()} ORDER BY datapoint",
        chosen.parameters,
    )
    if not found.num_rows:
        raise InvalidInput(
            "the selection has no ground truths of CLASSIFICATION",
            hint="a backtest needs datapoints whose classes are known",
        )
    labelled = id_array(found.column("datapoint"))
    ids = np.asarray(vectors.ids)
    place = np.searchsorted(ids, labelled)
    both = np.zeros(len(labelled), np.bool_)
    inside = place < len(ids)
    both[inside] = ids[place[inside]] == labelled[inside]
    if not both.any():
        raise InvalidInput(
            f"no datapoint has both a ground truth of CLASSIFICATION and {vectors.name!r}",
            hint=f"{len(labelled):,} have a label, {len(ids):,} an embedding",
        )
    names = np.array(found.column("class_name").to_pylist(), dtype=object)
    rows = place[both]
    return LabelledVectors(
        ids[rows],
        np.asarray(vectors.matrix[rows]),
        names[both],
        vectors.name,
        len(ids) - int(both.sum()),
        int((~both).sum()),
    )
