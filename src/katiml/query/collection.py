"""One table of a lake, as a notebook uses it: `lake.datapoints`, `lake.predictions`..."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import pyarrow as pa

from katiml.errors import InvalidInput
from katiml.query.aggregate import count, distinct
from katiml.query.delete import delete
from katiml.query.distribution import distribution
from katiml.query.fields import shown
from katiml.query.select import select
from katiml.schema import RECORD_TABLES

if TYPE_CHECKING:
    import pandas as pd

    from katiml.store import Scope

__all__ = ["Collection"]

Form = Literal["pandas", "arrow", "batches"]


class Collection:
    """The rows of one table that belong to the lake's organization.

    `filters` are what `katiml.query.filters` describes: `{"left", "op", "right"}`, a list of them
    (all must hold), or groups. A wrong one raises InvalidFilter.

    `dataset` (a `Dataset`, its name or id) narrows any call to the rows of its members, as they
    are now; `version` (a `Version`, its id, or with `dataset` whatever names it there) to those of
    a version, as they were at its commit. Calling a collection is the same as `select`.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     Collection(Scope(store), "datapoints").count()
    0
    """

    def __init__(
        self, scope: Scope, table: str, seen: Callable[[Any, Any], Scope] | None = None
    ) -> None:
        if table not in RECORD_TABLES:
            raise InvalidInput(
                f"{shown(table)} is not a table of records",
                hint=f"tables are: {', '.join(RECORD_TABLES)}",
            )
        self._scope = scope
        self._seen = seen
        self.table = table

    def __repr__(self) -> str:
        return f"Collection({self._scope!r}, {self.table!r})"

    @overload
    def select(
        self,
        filters: Any = None,
        fields: Sequence[str] | str | None = None,
        order_by: str | None = None,
        desc: bool | None = False,
        limit: int | None = None,
        offset: int | None = 0,
        *,
        after: str | None = None,
        dataset: Any = None,
        version: Any = None,
        form: Literal["pandas"] = "pandas",
    ) -> pd.DataFrame: ...

    @overload
    def select(
        self,
        filters: Any = None,
        fields: Sequence[str] | str | None = None,
        order_by: str | None = None,
        desc: bool | None = False,
        limit: int | None = None,
        offset: int | None = 0,
        *,
        after: str | None = None,
        dataset: Any = None,
        version: Any = None,
        form: Literal["arrow"],
    ) -> pa.Table: ...

    @overload
    def select(
        self,
        filters: Any = None,
        fields: Sequence[str] | str | None = None,
        order_by: str | None = None,
        desc: bool | None = False,
        limit: int | None = None,
        offset: int | None = 0,
        *,
        after: str | None = None,
        dataset: Any = None,
        version: Any = None,
        form: Literal["batches"],
    ) -> pa.RecordBatchReader: ...

    def select(
        self,
        filters: Any = None,
        fields: Sequence[str] | str | None = None,
        order_by: str | None = None,
        desc: bool | None = False,
        limit: int | None = None,
        offset: int | None = 0,
        *,
        after: str | None = None,
        dataset: Any = None,
        version: Any = None,
        form: Form = "pandas",
    ) -> Any:
        """The rows that pass `filters`, with the columns `fields` ask for (`*` and `table.*` too).

        `form` is "pandas" (a DataFrame), "arrow" (a pyarrow.Table) or "batches" (a
        RecordBatchReader that reads as it is iterated). Rows come in the order of creation unless
        `order_by` names a column, a part of JSON, or RANDOM(). A full page carries
        `attrs["next_cursor"]`; given back as `after`, or with the id of the last row, the next
        page starts behind it.
        """
        if form not in ("pandas", "arrow", "batches"):
            raise InvalidInput(
                f"form is {shown(form)}", hint="forms are: 'pandas', 'arrow' and 'batches'"
            )
        scope = self._seen_by(dataset, version)
        selection = select(scope, self.table, filters, fields, order_by, desc, limit, offset, after)
        return getattr(selection, form)()

    __call__ = select

    def select_json(
        self,
        filters: Any = None,
        fields: Sequence[str] | str | None = None,
        order_by: str | None = None,
        desc: bool | None = False,
        limit: int | None = None,
        offset: int | None = 0,
        *,
        after: str | None = None,
        dataset: Any = None,
        version: Any = None,
    ) -> Iterator[bytes]:
        """The same rows as the pieces of one JSON array, in bounded memory."""
        scope = self._seen_by(dataset, version)
        return select(
            scope, self.table, filters, fields, order_by, desc, limit, offset, after
        ).json()

    def count(self, filters: Any = None, *, dataset: Any = None, version: Any = None) -> int:
        """How many rows pass `filters`."""
        return count(self._seen_by(dataset, version), self.table, filters)

    def distinct(
        self,
        field: str,
        filters: Any = None,
        limit: int | None = None,
        offset: int | None = 0,
        *,
        dataset: Any = None,
        version: Any = None,
    ) -> list[Any]:
        """The different values of `field`, sorted, in the rows that pass `filters`."""
        scope = self._seen_by(dataset, version)
        return distinct(scope, self.table, field, filters, limit, offset)

    def distribution(
        self,
        field: str | None = None,
        filters: Any = None,
        *,
        model_name: str | None = None,
        task_type: str | None = None,
        bins: int = 10,
        dataset: Any = None,
        version: Any = None,
    ) -> pd.DataFrame:
        """How the values of `field` are spread over the rows that pass `filters`.

        A DataFrame of `bucket` and `count`, with `low` and `high` for numbers. `field` is a
        column, a metric (`entropy`), `tags.split` for the tag of that name, `groundtruths` or
        `predictions` for their classes; without it a table's own classes.
        """
        return distribution(
            self._seen_by(dataset, version),
            self.table,
            field,
            filters,
            model_name=model_name,
            task_type=task_type,
            bins=bins,
        )

    def delete(
        self,
        filters: Any = None,
        *,
        order_by: str | None = None,
        desc: bool | None = False,
        limit: int | None = None,
        offset: int | None = 0,
        all: bool = False,
        dataset: Any = None,
    ) -> dict[str, int]:
        """Delete the rows that a select with these arguments gives, and all that hangs on them.

        Returns how many rows went from each table. Without filters and limit everything would
        go: that wants `all=True`. With `dataset` only what belongs to its members goes, from the
        lake and not just from the dataset.
        """
        scope = self._seen_by(dataset, None)
        return delete(scope, self.table, filters, order_by, desc, limit, offset, all=all)

    def _seen_by(self, dataset: Any, version: Any) -> Scope:
        if dataset is None and version is None:
            return self._scope
        if self._seen is None:
            raise InvalidInput(
                "these rows are those of a dataset or a version already",
                hint="ask the lake's own collections: lake.datapoints.select(..., dataset=…)",
            )
        return self._seen(dataset, version)
