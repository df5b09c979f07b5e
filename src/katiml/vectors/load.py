"""The vectors of a selection as one matrix, in the order of datapoint ids."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from katiml.errors import InvalidInput
from katiml.query.aggregate import distinct_values
from katiml.query.fields import resolve, shown
from katiml.query.filters import Condition
from katiml.vectors.cache import Cache, Draft, cache_folder
from katiml.vectors.select import Chosen, Select, id_array
from katiml.vectors.state import state_of

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["FIELDS", "Estimate", "Vectors", "estimate_vectors", "load_vectors", "resolve_name"]

# What a user asks for -> the type of the rows of feature_vectors.
FIELDS = {
    "embeddings": "EMBEDDINGS",
    "grad_embeddings": "GRAD_EMBEDDINGS",
    "logits": "LOGITS",
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Vectors:
    """(N,) ids of 36 characters, sorted, and (N, D) their vectors, memory-mapped and read-only.

    `missing` holds, by reason, the ids of the datapoints of the selection that have none; `state`
    is that of the lake (see `state_of`).
    """

    ids: NDArray[np.bytes_]
    matrix: NDArray[np.floating[Any]]
    name: str
    field: str
    missing: Mapping[str, NDArray[np.bytes_]]
    state: str
    cached: bool = False

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Estimate:
    """What `load_vectors` would load: how many, how wide, how much, and what is missing why."""

    name: str
    datapoints: int
    vectors: int
    width: int
    bytes: int
    missing: Mapping[str, int]


@dataclass(frozen=True)
class _Layout:
    """Vectors that are stored alike."""

    dtype: str
    shape: tuple[int, ...]
    count: int

    def width(self, field: str) -> int:
        """How many values each becomes: of logits of several passes, those of one."""
        if field == "logits" and len(self.shape) == 2:
            return self.shape[1]
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class _Source:
    """The rows of feature_vectors that are asked for."""

    scope: Scope
    chosen: Chosen
    field: str
    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        return {**self.chosen.parameters, "type": FIELDS[self.field], "name": self.name}

    def rows(self) -> str:
        """FROM and WHERE; a datapoint's newest vector where it has several of this name."""
        return (
            f"FROM {{feature_vectors}} WHERE type = $type AND model_name = $name "
            f"AND data IS NOT NULL AND {self.chosen.within()}"
        )

    def layouts(self) -> tuple[list[_Layout], int]:
        """How they are stored, and how many there are above one a datapoint."""
        found = self.scope.query(
            "SELECT dtype, shape, count(*) AS count, count(DISTINCT datapoint) AS different "
            f"{self.rows()} GROUP BY dtype, shape ORDER BY count DESC, dtype, shape",
            self.parameters,
        ).to_pylist()
        layouts = [_Layout(row["dtype"], tuple(row["shape"]), row["count"]) for row in found]
        total = sum(layout.count for layout in layouts)
        if len(layouts) > 1:
            sql = f"SELECT count(DISTINCT datapoint) AS n {self.rows()}"
            different = self.scope.query(sql, self.parameters).column(0)[0].as_py()
        else:
            different = sum(row["different"] for row in found)
        return layouts, total - different


def load_vectors(
    scope: Scope,
    select: Select | None = None,
    *,
    model_name: str | None = None,
    field: str = "embeddings",
    dtype: str = "float32",
    skip_caching: bool = False,
    progress: Progress | None = None,
) -> Vectors:
    """The embeddings, grad_embeddings or logits of a selection as a matrix.

    `model_name` is `model:layer`, or `model` where it has one layer only; None where the selection
    has one name only. Logits of several passes become their mean, and arrays are flattened.
    `dtype` is "float32" or "float16". The matrix is kept on disk until the data changes
    (`skip_caching` leaves it in no cache, and looks in none). Raises InvalidInput for a name that
    is not there, naming those that are, and for vectors of different lengths.

    >>> import katiml
    >>> lake = katiml.connect()
    >>> _ = lake.ingest([{"type": "IMAGE", "predictions": [{"task_type": "CLASSIFICATION",
    ...     "model_name": "net", "embeddings": {"last": [1.0, 2.0]}}]}])
    >>> load_vectors(lake.scope, model_name="net").matrix
    array([[1., 2.]], dtype=float32)
    """
    select = (select or Select()).fixed(scope)
    if dtype not in ("float32", "float16"):
        raise InvalidInput(f"dtype is {shown(dtype)}", hint="'float32' or 'float16'")
    source = _source(scope, select, field, model_name)
    tables = {"feature_vectors", "predictions", *source.chosen.tables}
    state = state_of(scope, tables)
    kept = None if skip_caching else _usable(Cache(cache_folder(scope.store.url)))
    key = _key(source, dtype)
    facts = kept.get(key, state) if kept else None
    if kept is not None and facts is not None:
        return _kept(kept, key, state, facts, cached=True)
    if kept is not None:
        return _written(kept, key, state, source, dtype, progress)
    with tempfile.TemporaryDirectory(prefix="katiml-vectors-") as folder:
        # The mapping outlives its file.
        return _written(Cache(Path(folder)), key, state, source, dtype, progress)


def _usable(cache: Cache) -> Cache | None:
    """None where the folder cannot be written, as of a lake that is shared for reading."""
    try:
        cache.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return cache if os.access(cache.folder, os.W_OK) else None


def _written(
    cache: Cache, key: str, state: str, source: _Source, dtype: str, progress: Progress | None
) -> Vectors:
    with cache.put(key, state) as draft:
        _write(source, draft, dtype, progress)
    return _kept(cache, key, state, cache.get(key, state) or {}, cached=False)


def estimate_vectors(
    scope: Scope,
    select: Select | None = None,
    *,
    model_name: str | None = None,
    field: str = "embeddings",
) -> Estimate:
    """What `load_vectors` with these arguments would load; raises what it would raise."""
    select = (select or Select()).fixed(scope)
    source = _source(scope, select, field, model_name)
    layouts, doubled = source.layouts()
    width = _one_width(source, layouts)
    count = sum(layout.count for layout in layouts) - doubled
    missing = {reason: len(ids) for reason, ids in _missing(source).items()}
    datapoints = count + sum(missing.values())
    return Estimate(source.name, datapoints, count, width, count * width * 4, missing)


def resolve_name(scope: Scope, chosen: Chosen, field: str, model_name: str | None) -> str:
    """The name of the vectors meant by `model`, `model:layer` or None.

    Raises InvalidInput, naming those there are.
    """
    if field not in FIELDS:
        raise InvalidInput(
            f"embeddings_field is {shown(field)}", hint=f"one of {', '.join(FIELDS)}"
        )
    if model_name is not None and not isinstance(model_name, str):
        raise InvalidInput(f"model_name is {shown(model_name)}, not a text")
    condition = Condition(
        f"type = $type AND {chosen.within()}", {**chosen.parameters, "type": FIELDS[field]}
    )
    names = distinct_values(scope, resolve("feature_vectors", "model_name"), condition)
    if model_name in names:
        return str(model_name)
    if model_name is None:
        fitting = names
    elif field == "logits":
        fitting = [name for name in names if name == model_name.rpartition(":")[0]]
    else:
        fitting = [name for name in names if name.startswith(f"{model_name}:")]
    if len(fitting) == 1:
        return str(fitting[0])
    there = ", ".join(map(repr, names[:20])) or "none"
    if not names:
        wrong = f"there are no {field} in the selection"
    elif model_name is None:
        wrong = f"which {field}? model_name is missing"
    else:
        several = f" alone: it has {len(fitting)} layers" if fitting else ""
        wrong = f"no {field} are called {shown(model_name)}{several}"
    raise InvalidInput(wrong, hint=f"names of {field} in this selection: {there}")


def _source(scope: Scope, select: Select, field: str, model_name: str | None) -> _Source:
    chosen = select.chosen()
    return _Source(scope, chosen, field, resolve_name(scope, chosen, field, model_name))


def _key(source: _Source, dtype: str) -> str:
    scope = source.scope
    told = [scope.organization_id, source.field, source.name, dtype, source.chosen.sql]
    view = sorted(scope.view.parameters.items())
    values = repr([told, sorted(source.chosen.parameters.items()), view])
    return hashlib.sha256(values.encode()).hexdigest()


def _kept(cache: Cache, key: str, state: str, facts: Mapping[str, Any], *, cached: bool) -> Vectors:
    missing = {
        reason: cache.array(key, state, f"missing{index}")
        for index, reason in enumerate(facts["missing"])
    }
    return Vectors(
        ids=cache.array(key, state, "ids"),
        matrix=cache.array(key, state, "matrix"),
        name=facts["name"],
        field=facts["field"],
        missing=missing,
        state=state,
        cached=cached,
    )


# -- reading ---------------------------------------------------------------------------------


def _write(source: _Source, draft: Draft, dtype: str, progress: Progress | None) -> None:
    layouts, doubled = source.layouts()
    width = _one_width(source, layouts)
    where, parameters = source.rows(), source.parameters
    if doubled:
        where += (
            f" AND id IN (SELECT arg_max(id, (created_at, id)) {source.rows()} GROUP BY datapoint)"
        )
    found = source.scope.query(f"SELECT CAST(datapoint AS VARCHAR) AS id {where}", parameters)
    ids = np.sort(id_array(found.column("id")))
    matrix = draft.array("matrix", (len(ids), width), dtype)
    written = 0
    for layout in layouts:
        rows = source.scope.stream(
            f"SELECT CAST(datapoint AS VARCHAR) AS id, data {where} "
            "AND dtype = $dtype AND shape = $shape",
            {**parameters, "dtype": layout.dtype, "shape": list(layout.shape)},
        )
        for batch in rows:
            written += _fill(matrix, ids, batch, layout, source.field)
            if progress is not None:
                progress(written, len(ids))
    matrix.flush()
    draft.save("ids", ids)
    missing = _missing(source)
    for index, absent in enumerate(missing.values()):
        draft.save(f"missing{index}", absent)
    draft.describe({"name": source.name, "field": source.field, "missing": list(missing)})


def _fill(matrix: Any, ids: Any, batch: pa.RecordBatch, layout: _Layout, field: str) -> int:
    """Write the vectors of a batch to the rows of their datapoints."""
    own = id_array(batch.column(0))
    values = _values(batch.column(1), layout)
    if field == "logits" and len(layout.shape) == 2:
        values = values.reshape(-1, *layout.shape).mean(axis=1, dtype=np.float32)
    first = int(np.searchsorted(ids, own[:1])[0]) if len(own) else 0
    if np.array_equal(ids[first : first + len(own)], own):
        with np.errstate(over="ignore"):
            matrix[first : first + len(own)] = values
        return len(own)
    order = np.argsort(own)  # looked up in their order, neighbours are in the cache
    places = np.searchsorted(ids, own[order])
    inside = places < len(ids)
    inside[inside] = ids[places[inside]] == own[order][inside]  # written meanwhile: not ours
    with np.errstate(over="ignore"):
        matrix[places[inside]] = values[order[inside]].astype(matrix.dtype)
    return int(inside.sum())


def _values(data: pa.Array, layout: _Layout) -> NDArray[np.floating[Any]]:
    """(n, values) numbers straight from the bytes of an Arrow column."""
    data = data.cast(pa.large_binary())
    _, offsets, content = data.buffers()
    first = int(np.frombuffer(offsets, np.int64, 1, data.offset * 8)[0])
    dtype = np.dtype(layout.dtype).newbyteorder("<")
    width = int(np.prod(layout.shape, dtype=np.int64))
    return np.frombuffer(content, dtype, len(data) * width, first).reshape(len(data), width)


def _one_width(source: _Source, layouts: list[_Layout]) -> int:
    widths: dict[int, int] = {}
    for layout in layouts:
        width = layout.width(source.field)
        widths[width] = widths.get(width, 0) + layout.count
    if len(widths) > 1:
        counts = ", ".join(f"{width} values ({count:,})" for width, count in widths.items())
        raise InvalidInput(
            f"{source.field} called {source.name!r} are of different lengths: {counts}",
            hint="narrow the selection to one of them, or give each its own model_name",
        )
    width = next(iter(widths), 0)
    if not width:
        raise InvalidInput(f"{source.field} called {source.name!r} are empty")
    return width


def _missing(source: _Source) -> dict[str, NDArray[np.bytes_]]:
    """The datapoints of the selection without such a vector, by reason."""
    reasons = {
        "none": "no predictions",
        "model": f"no predictions of the model of {source.name!r}",
        "vector": f"a prediction without {source.field} called {source.name!r}",
    }
    found = source.scope.query(
        f"WITH lacking AS MATERIALIZED (SELECT id FROM ({source.chosen.sql}) "
        f"WHERE id NOT IN (SELECT datapoint {source.rows()})) "
        "SELECT CAST(id AS VARCHAR) AS id, CASE "
        "WHEN id NOT IN (SELECT datapoint FROM {predictions}) THEN 'none' "
        "WHEN id NOT IN (SELECT datapoint FROM {predictions} "
        "WHERE model_name = $name OR starts_with($name, model_name || ':')) "
        "THEN 'model' ELSE 'vector' END AS reason FROM lacking ORDER BY id",
        source.parameters,
    )
    ids = id_array(found.column("id"))
    kinds = np.array(found.column("reason").to_pylist(), dtype=object)
    return {text: ids[kinds == kind] for kind, text in reasons.items() if (kinds == kind).any()}
