"""A selection for other libraries: Arrow with plain columns, Polars, Hugging Face datasets."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa

from katiml.extras import need

__all__ = ["to_arrow", "to_hf", "to_polars"]

_KEY = b"katiml.json"


def to_arrow(table: pa.Table) -> pa.Table:
    """A selection as a table that any library reads: texts and numbers out of JSON (a part such as
    `metadata.uri`) are plain columns, JSON objects stay text.

    >>> from katiml.query.frames import mark_json
    >>> field = mark_json(pa.field("metadata.uri", pa.string()))
    >>> to_arrow(pa.table({"u": ['"a.png"', None]}).cast(pa.schema([field.with_name("u")])))["u"][0]
    <pyarrow.StringScalar: 'a.png'>
    """
    for index, field in enumerate(table.schema):
        if (field.metadata or {}).get(_KEY) == b"true":
            table = table.set_column(index, field.name, _plain(table.column(index)))
    return table.replace_schema_metadata(None)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    texts = column.to_pylist()
    values = orjson.loads("[" + ",".join("null" if text is None else text for text in texts) + "]")
    kinds = {type(value) for value in values if value is not None}
    for kind, arrow in (({str}, pa.string()), ({bool}, pa.bool_()), ({int}, pa.int64())):
        if kinds == kind:
            return pa.array(values, arrow)
    if kinds and kinds <= {int, float}:
        return pa.array(values, pa.float64())
    return pa.array(texts, pa.string())


def to_polars(table: pa.Table) -> Any:
    """The same as a `polars.DataFrame`. Raises MissingExtra without Polars."""
    return need("polars", "polars").from_arrow(to_arrow(table))


def to_hf(table: pa.Table) -> Any:
    """The same as a `datasets.Dataset`. A column `metadata.uri` also becomes `image`, which
    Hugging Face reads when it is asked for. Raises MissingExtra without that library."""
    datasets = need("datasets", "hf")
    plain = to_arrow(table)
    dataset = datasets.Dataset(plain)
    if "metadata.uri" in plain.column_names:
        uris = plain["metadata.uri"].to_pylist()
        dataset = dataset.add_column("image", [uri and uri.removeprefix("file://") for uri in uris])
        dataset = dataset.cast_column("image", datasets.Image())
    return dataset
