"""Tags of many datapoints at once: set, changed or taken away in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from katiml.errors import InvalidInput
from katiml.query.fields import shown
from katiml.query.filters import compile_filters
from katiml.records.model import MAX_NAME, MAX_TAG_VALUE
from katiml.store.ids import uuid7

if TYPE_CHECKING:
    from katiml.store import Scope, ScopedTransaction

__all__ = ["Tagged", "set_tag"]

_STAGED = "katiml_tagged"
_FOUND = f"datapoint IN (SELECT CAST(id AS UUID) FROM {_STAGED})"
# Up to so many datapoints the values that were there are remembered, to take the change back.
_UNDONE_ROWS = 10_000


@dataclass(frozen=True)
class Tagged:
    """How many `datapoints` the change was for, and the values they had: ids by value (None: they
    had no such tag). `previous` is None where there were too many to remember."""

    datapoints: int
    previous: list[tuple[str | None, list[str]]] | None


def set_tag(
    scope: Scope, filters: Any, name: str, value: str | None, *, all: bool = False
) -> Tagged:
    """Give the datapoints that pass `filters` the tag `name` with `value`; None takes it away.

    Without filters `all` has to be True, otherwise InvalidInput is raised.

    >>> import katiml
    >>> with katiml.connect(getfixture("tmp_path")) as lake:
    ...     _ = lake.ingest([{"type": "TEXT", "text": "hello"}])
    ...     tagged = set_tag(lake.scope, [], "split", "train", all=True)
    ...     tagged.datapoints, lake.tags.distinct("value")
    (1, ['train'])
    """
    _check(name, value)
    condition = compile_filters("datapoints", filters)
    if condition.always and not all:
        raise InvalidInput(
            "no filters would tag every datapoint",
            hint="pass filters, or all=True if everything is meant",
        )

    def work(transaction: ScopedTransaction) -> Tagged:
        ids = transaction.query(
            f"SELECT CAST(id AS VARCHAR) AS id FROM {{datapoints}} WHERE {condition.sql}",
            condition.parameters,
        )
        transaction.stage(_STAGED, ids)
        previous = _previous(transaction, name) if ids.num_rows <= _UNDONE_ROWS else None
        transaction.delete("tags", f"name = $name AND {_FOUND}", {"name": name})
        if value is not None and ids.num_rows:
            texts = pa.table(
                {
                    "id": uuid7(ids.num_rows),
                    "datapoint": ids["id"],
                    "name": pa.repeat(pa.scalar(name), ids.num_rows),
                    "value": pa.repeat(pa.scalar(value), ids.num_rows),
                }
            )
            transaction.append("tags", texts)
        return Tagged(ids.num_rows, previous)

    return scope.transact(work)


def _previous(transaction: ScopedTransaction, name: str) -> list[tuple[str | None, list[str]]]:
    rows = transaction.query(
        f"SELECT value, list(wanted.id ORDER BY wanted.id) AS ids FROM {_STAGED} AS wanted "
        "LEFT JOIN (SELECT datapoint, value FROM {tags} WHERE name = $name) AS had "
        "ON had.datapoint = CAST(wanted.id AS UUID) GROUP BY value ORDER BY value",
        {"name": name},
    )
    return list(zip(rows["value"].to_pylist(), rows["ids"].to_pylist(), strict=True))


def _check(name: Any, value: Any) -> None:
    for what, text, longest in (("name", name, MAX_NAME), ("value", value, MAX_TAG_VALUE)):
        if text is None and what == "value":
            continue
        if not isinstance(text, str) or not text or len(text) > longest or "\0" in text:
            raise InvalidInput(
                f"the {what} of a tag is {shown(text)}",
                hint=f"a text of 1 to {longest:,} characters without NUL",
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"the {what} of a tag is not UTF-8") from None
