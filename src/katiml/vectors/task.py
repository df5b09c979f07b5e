"""Projections of a selection as tasks: vectors to points of a plane, kept in the lake's objects."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyroaring import BitMap

from katiml.errors import InvalidInput, NotFound
from katiml.query.fields import shown
from katiml.store.scope import Scope, ScopedTransaction
from katiml.store.views import View
from katiml.tasks import Done, Run, Task, submit
from katiml.tasks.executors import executor_of_environment, spread_over
from katiml.tasks.state import State, as_plain
from katiml.vectors.load import FIELDS, Vectors, estimate_vectors, load_vectors
from katiml.vectors.projections import PROJECTIONS, project
from katiml.vectors.select import Select, datapoint_ids, id_array

__all__ = ["KIND", "begin_projection", "project_task", "read_points"]

KIND = "projection"
# Projections whose points are kept.
_KEPT = 20
_SELECT = ("filters", "limit", "order_by", "desc")
_SEED = 2**32 - 1


def begin_projection(
    scope: Scope,
    *,
    select: Mapping[str, Any] | None = None,
    model_name: str | None = None,
    embeddings_field: str = "embeddings",
    method: str = "umap",
    dataset_ids: list[str] | None = None,
    seed: int = 0,
    skip_caching: bool = False,
) -> Task:
    """Have vectors projected in the background; `read_points` has the points afterwards.

    `select` is {filters, limit, order_by, desc}; with `dataset_ids`, of the members of these
    datasets. Raises InvalidInput and InvalidFilter for what cannot be done, NotFound for a
    dataset that is not there, TooLarge.
    """
    told = {
        "select": {name: value for name, value in (select or {}).items() if value is not None},
        "model_name": model_name,
        "embeddings_field": embeddings_field,
        "method": _method(method),
        "dataset_ids": dataset_ids or [],
        "seed": seed,
        "skip_caching": skip_caching,
    }
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _SEED:
        raise InvalidInput(f"seed is {shown(seed)}", hint=f"a whole number from 0 to {_SEED}")
    narrowed, chosen = _narrowed(scope, dataset_ids or []), _select(told)
    found = estimate_vectors(narrowed, chosen, model_name=model_name, field=embeddings_field)
    # The vectors, their components, and the graph of neighbours that t-SNE and UMAP make.
    memory = 2 * found.bytes + found.vectors * (64 if told["method"] == "pca" else 1_500)
    return submit(scope, State(KIND, arguments=as_plain(told), memory=memory))


def project_task(run: Run) -> Done:
    """Load, project, and keep the points with SUCCESS."""
    told = run.arguments
    scope = _narrowed(run.scope, told["dataset_ids"])
    select = _select(told).fixed(scope)

    def loading(done: int, total: int) -> None:
        run.progress(0.3 * done / total if total else None, f"{done:,} vectors read")

    vectors = load_vectors(
        scope,
        select,
        model_name=told["model_name"],
        field=told["embeddings_field"],
        skip_caching=told["skip_caching"],
        progress=loading,
    )
    run.progress(0.3, f"{told['method']} of {len(vectors):,} vectors")
    known = None if told["skip_caching"] else _known(run, vectors.state)
    if known is not None:
        run.log("nothing has changed since this was done before")
        content = known
    else:
        with spread_over(executor_of_environment(run.check)):
            places = project(vectors.matrix, told["method"], seed=told["seed"])
        run.progress(0.95, "writing")
        content = _as_parquet(_points(run.scope, scope, select, told, vectors, places))
    stored = run.scope.store.objects.put(run.scope.organization_id, content)
    result = {
        "object": stored,
        "size": len(vectors),
        "model_name": vectors.name,
        "missing": {reason: len(ids) for reason, ids in vectors.missing.items()},
        "state": vectors.state,
    }
    forgotten: list[str] = []

    def write(transaction: ScopedTransaction) -> None:
        forgotten.extend(_forget_oldest(transaction))

    return Done(result, write, after=lambda: _drop(run.scope, forgotten))


def read_points(scope: Scope, task: Task) -> pa.Table:
    """The points of a projection that is done: datapoint, x, y, vector, prediction, and dataset
    where datasets were named.

    Raises what made it fail, and NotFound where its points were forgotten.
    """
    result = task.check().result
    if task.kind != KIND or result is None:
        raise NotFound(f"task {task.id} has no points", hint="wait for it, or run it again")
    with scope.store.objects.open(scope.organization_id, result["object"]) as file:
        return pq.read_table(pa.BufferReader(file.read()))


def _method(method: str) -> str:
    name = str(method).lower().replace("-", "").replace("_", "")
    if name not in PROJECTIONS:
        raise InvalidInput(
            f"{shown(method)} is no projection", hint=f"projections: {', '.join(PROJECTIONS)}"
        )
    return name


def _select(told: Mapping[str, Any]) -> Select:
    unknown = set(told["select"]) - set(_SELECT)
    if unknown:
        raise InvalidInput(
            f"select has no {shown(min(unknown))}", hint=f"it has {', '.join(_SELECT)}"
        )
    if told["embeddings_field"] not in FIELDS:
        raise InvalidInput(
            f"embeddings_field is {shown(told['embeddings_field'])}",
            hint=f"one of {', '.join(FIELDS)}",
        )
    return Select(**told["select"])


def _narrowed(scope: Scope, dataset_ids: list[str]) -> Scope:
    """The lake as the members of some datasets; all of it where none is named."""
    if not dataset_ids:
        return scope
    members = BitMap()
    for dataset_id in dataset_ids:
        members |= _members(scope, dataset_id)
    return scope.at(View(members=members))


def _members(scope: Scope, dataset_id: str) -> BitMap:
    from katiml.datasets import Datasets

    return Datasets(scope).scope(dataset_id).view.members or BitMap()


def _points(
    lake: Scope,
    scope: Scope,
    select: Select,
    told: Mapping[str, Any],
    vectors: Vectors,
    places: NDArray[np.float32],
) -> pa.Table:
    owners = _owners(scope, vectors)
    table = pa.table(
        {
            "datapoint": pa.array(vectors.ids).cast(pa.string()),
            "x": places[:, 0],
            "y": places[:, 1],
            **owners,
        }
    )
    if not told["dataset_ids"]:
        return table
    parts = []
    for dataset_id in told["dataset_ids"]:
        own = datapoint_ids(lake.at(View(members=_members(lake, dataset_id))), select)
        part = table.filter(pa.array(np.isin(vectors.ids, own)))
        parts.append(part.append_column("dataset", pa.array([dataset_id] * len(part), pa.string())))
    return pa.concat_tables(parts)


def _owners(scope: Scope, vectors: Vectors) -> dict[str, pa.Array]:
    """The ids of the vectors and of their predictions, in the order of the points."""
    found = scope.query(
        "SELECT CAST(datapoint AS VARCHAR) AS datapoint, "
        "CAST(arg_max(id, (created_at, id)) AS VARCHAR) AS vector, "
        "CAST(arg_max(prediction, (created_at, id)) AS VARCHAR) AS prediction "
        "FROM {feature_vectors} WHERE type = $type AND model_name = $name AND data IS NOT NULL "
        "GROUP BY datapoint ORDER BY datapoint",
        {"type": FIELDS[vectors.field], "name": vectors.name},
    )
    ids = id_array(found["datapoint"])
    rows = np.searchsorted(ids, vectors.ids)
    # A vector that was replaced meanwhile has no owner to show.
    rows = np.where(np.append(ids, b"")[rows] == vectors.ids, rows, -1)
    index = pa.array(np.where(rows < 0, 0, rows), mask=rows < 0)
    return {name: found[name].combine_chunks().take(index) for name in ("vector", "prediction")}


def _as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _known(run: Run, state: str) -> bytes | None:
    """The points of the same projection of the same data, where they are kept."""
    told = orjson.dumps(run.arguments, option=orjson.OPT_SORT_KEYS)
    rows = run.scope.query(
        "SELECT * FROM {tasks} WHERE kind = $kind AND status = 'SUCCESS' ORDER BY created_at DESC",
        {"kind": KIND},
    ).to_pylist()
    for row in rows:
        known = State.of(row)
        same = orjson.dumps(known.arguments, option=orjson.OPT_SORT_KEYS) == told
        if same and known.result is not None and known.result["state"] == state:
            objects, owner = run.scope.store.objects, run.scope.organization_id
            try:
                with objects.open(owner, known.result["object"]) as file:
                    return file.read()
            except NotFound:
                continue
    return None


def _forget_oldest(transaction: ScopedTransaction) -> list[str]:
    """Forget the oldest projections; returns their objects."""
    old = (
        "FROM {tasks} WHERE kind = $kind AND finished_at IS NOT NULL "
        "ORDER BY created_at DESC, id DESC OFFSET $kept"
    )
    parameters = {"kind": KIND, "kept": _KEPT}
    results = transaction.query(f"SELECT result {old}", parameters).column(0).to_pylist()
    ids = f"(SELECT id {old})"
    transaction.delete("task_logs", f"task IN {ids}", parameters)
    transaction.delete("tasks", f"id IN {ids}", parameters)
    return [orjson.loads(result)["object"] for result in results if result]


def _drop(scope: Scope, objects: list[str]) -> None:
    for name in objects:
        scope.store.objects.delete(scope.organization_id, name)
