"""Filters -> SQL, and everything that reads or deletes rows with them.

Functions take a `katiml.store.Scope` and a table's name; `Collection` binds both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from katiml.query.aggregate import (
    count,
    distinct,
    embedding_names,
    metric_names,
    model_names,
    tag_names,
)
from katiml.query.collection import Collection
from katiml.query.delete import delete, delete_rows
from katiml.query.distribution import distribution, histogram
from katiml.query.filters import Condition, compile_filters
from katiml.query.frames import to_pandas
from katiml.query.select import Selection, select
from katiml.query.sql import sql
from katiml.query.suggest import suggest_fields, suggest_values

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = [
    "Collection",
    "Condition",
    "Selection",
    "compile_filters",
    "count",
    "delete",
    "delete_rows",
    "distinct",
    "distribution",
    "embedding_names",
    "histogram",
    "metric_names",
    "model_names",
    "select",
    "select_json",
    "sql",
    "suggest_fields",
    "suggest_values",
    "tag_names",
    "to_pandas",
]


def select_json(
    scope: Scope,
    table: str,
    filters: Any = None,
    fields: Sequence[str] | str | None = None,
    order_by: str | None = None,
    desc: bool | None = False,
    limit: int | None = None,
    offset: int | None = 0,
    after: str | None = None,
) -> Iterator[bytes]:
    """The rows of a select as the pieces of one JSON array, streamed out of the database.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     b"".join(select_json(Scope(store), "tags"))
    b'[]'
    """
    return select(scope, table, filters, fields, order_by, desc, limit, offset, after).json()
