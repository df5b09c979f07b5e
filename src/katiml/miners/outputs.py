"""What models say and what labels are, of a selection, as arrays in the order of ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from katiml.errors import InvalidInput
from katiml.vectors.select import Chosen, id_array

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["Outputs", "load_committee", "load_labels", "load_probabilities", "positions_in"]

_MOST_LAYOUTS = 1000
_CONDITION = (
    "task_type = 'CLASSIFICATION' AND model_name = $model AND len(confidences) > 0 AND {within}"
)

Ids = NDArray[np.bytes_]


class Outputs(NamedTuple):
    """(N,) ids, sorted, (N, C) float32 probabilities and the C class names."""

    ids: Ids
    probabilities: NDArray[np.float32]
    class_names: list[str]


def load_probabilities(scope: Scope, chosen: Chosen, model: str) -> Outputs:
    """The confidences of a model's classifications.

    Lists of class names that differ are brought together by name; a class that a prediction does
    not know has probability 0. Raises InvalidInput where there are none.
    """
    where = _CONDITION.replace("{within}", chosen.within())
    parameters = {**chosen.parameters, "model": model}
    layouts = scope.query(
        "SELECT class_names, len(confidences) AS classes, count(*) AS count FROM {predictions} "
        f"WHERE {where} GROUP BY ALL ORDER BY count DESC, classes, class_names LIMIT $most",
        {**parameters, "most": _MOST_LAYOUTS + 1},
    ).to_pylist()
    if not layouts:
        raise _no_probabilities(scope, chosen, model)
    if len(layouts) > _MOST_LAYOUTS:
        raise InvalidInput(
            f"predictions of {model!r} have more than {_MOST_LAYOUTS} different class_names",
            hint="send one list of class_names, in one order, with all predictions of a model",
        )
    named = [_names(layout["class_names"], layout["classes"]) for layout in layouts]
    names = list(dict.fromkeys(name for own in named for name in own))
    place = {name: index for index, name in enumerate(names)}
    count = sum(layout["count"] for layout in layouts)
    matrix = np.zeros((count, len(names)), np.float32)
    ids = np.empty(count, "S36")
    done = 0
    for layout, own in zip(layouts, named, strict=True):
        rows = scope.stream(
            "SELECT CAST(datapoint AS VARCHAR) AS id, confidences FROM {predictions} "
            f"WHERE {where} AND class_names IS NOT DISTINCT FROM CAST($names AS VARCHAR[]) "
            "AND len(confidences) = $classes",
            {**parameters, "names": layout["class_names"], "classes": layout["classes"]},
        )
        columns = np.array([place[name] for name in own])
        for batch in rows:
            stop = min(done + batch.num_rows, count)  # what was written meanwhile is not ours
            ids[done:stop] = id_array(batch.column(0))[: stop - done]
            values = _numbers(batch.column(1)).reshape(batch.num_rows, -1)[: stop - done]
            matrix[done:stop, columns] = values
            done = stop
    order = np.argsort(ids[:done])
    in_order = bool((order == np.arange(done)).all())
    return Outputs(ids[:done][order], matrix[:done] if in_order else matrix[order], names)


def _names(given: Sequence[str] | None, classes: int) -> list[str]:
    """The names of the classes; numbers where there are too few."""
    names = list(given or ())[:classes]
    names += [str(index) for index in range(len(names), classes)]
    if len(set(names)) < classes:
        names = [f"{name} ({index})" for index, name in enumerate(names)]
    return names


def _numbers(lists: pa.Array) -> NDArray[np.float64]:
    return np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.float64)


def _no_probabilities(scope: Scope, chosen: Chosen, model: str) -> InvalidInput:
    found = scope.query(
        "SELECT DISTINCT task_type FROM {predictions} "
        f"WHERE model_name = $model AND {chosen.within()} ORDER BY task_type",
        {**chosen.parameters, "model": model},
    )
    kinds = ", ".join(kind or "no task type" for kind in found.column(0).to_pylist()) or "nothing"
    return InvalidInput(
        f"no classifications with confidences of {model!r} are in the selection",
        hint=f"it has: {kinds}; send CLASSIFICATION predictions with logits or confidences",
    )


def load_labels(scope: Scope, chosen: Chosen, class_names: Sequence[str]) -> tuple[Ids, Any]:
    """(N,) ids, sorted, and (N,) int64: the class their ground truth names; -1 is none of these."""
    found = scope.query(
        "SELECT CAST(datapoint AS VARCHAR) AS id, any_value(class_name) AS name "
        "FROM {groundtruths} WHERE task_type = 'CLASSIFICATION' AND class_name IS NOT NULL "
        f"AND {chosen.within()} GROUP BY datapoint",
        chosen.parameters,
    )
    ids = id_array(found.column("id"))
    known = pc.index_in(found.column("name"), value_set=pa.array(class_names, pa.string()))
    codes = pc.fill_null(known, -1).to_numpy().astype(np.int64)
    order = np.argsort(ids)
    return ids[order], codes[order]


def load_committee(
    scope: Scope, chosen: Chosen, models: Sequence[str]
) -> tuple[Ids, NDArray[np.float32], list[str]]:
    """(N,) ids of what all models have classified, (M, N, C) probabilities, C class names."""
    members = [load_probabilities(scope, chosen, model) for model in models]
    ids = reduce(np.intersect1d, [member.ids for member in members])
    if not len(ids):
        raise InvalidInput(
            f"no datapoint of the selection was classified by all of {', '.join(map(repr, models))}"
        )
    names = list(dict.fromkeys(name for member in members for name in member.class_names))
    place = {name: index for index, name in enumerate(names)}
    committee = np.zeros((len(members), len(ids), len(names)), np.float32)
    for own, member in zip(committee, members, strict=True):
        columns = [place[name] for name in member.class_names]
        own[:, columns] = member.probabilities[positions_in(member.ids, ids)]
    return ids, committee, names


def positions_in(ids: Ids, wanted: Ids) -> NDArray[np.intp]:
    """Where each of the `wanted`, all of which are there, stands in sorted ids."""
    return np.searchsorted(ids, wanted)
