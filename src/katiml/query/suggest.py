"""What could be typed next into a filter: fields, and values that make a working filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from katiml.query.aggregate import distinct_values
from katiml.query.fields import Field, Parameters, known_fields, resolve, split
from katiml.query.filters import Condition

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["suggest_fields", "suggest_values"]

_MANY = 100
# The keys of JSON columns are looked for in this many rows of a table.
_SAMPLED_ROWS = 50_000
# Attachment tables whose fields are worth offering.
_OFFERED = ("predictions", "groundtruths", "tags")


def suggest_fields(
    scope: Scope, text: str = "", table: str = "datapoints", limit: int = _MANY
) -> list[str]:
    """Fields of `table` and its attachments whose name holds `text`; those that start so first.

    Keys inside JSON columns are those that the lake's rows have.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     suggest_fields(Scope(store), "tags.na")
    ['tags.name']
    """
    wanted = str(text).strip().lower()
    names: list[str] = []
    for name in known_fields(table):
        head, _, rest = name.partition(".")
        if rest and head not in _OFFERED:
            continue
        names.append(name)
        field = resolve(table, name)
        # `predictions.` was typed, so metadata has not to be looked into; `uri` may be anywhere.
        if field.kind == "json" and (name.startswith(wanted) or _may_hold(name, wanted)):
            names += _keys_below(scope, name, field, wanted)
    found = [name for name in dict.fromkeys(names) if wanted in name.lower()]
    return sorted(found, key=lambda name: not name.lower().startswith(wanted))[:limit]


def _may_hold(name: str, wanted: str) -> bool:
    return "." not in wanted or wanted.startswith(f"{name.lower()}.")


def _keys_below(scope: Scope, name: str, field: Field, wanted: str) -> list[str]:
    """The keys of the deepest object of the JSON column that the typed name has reached."""
    typed = wanted[len(name) + 1 :] if wanted.startswith(f"{name.lower()}.") else ""
    inner = (split(typed.rpartition(".")[0]) or []) if "." in typed else []
    parent = Field(field.table, field.column, tuple(inner))
    parameters = Parameters("k")
    keys = scope.query(
        f"SELECT DISTINCT unnest(json_keys({parent.json(parameters)})) AS key FROM "
        f"(SELECT {field.sql()} FROM {{{field.table}}} LIMIT {_SAMPLED_ROWS}) ORDER BY key",
        parameters.values,
    )
    prefix = name[: len(name) - len(field.key)]
    return [
        prefix + Field(field.table, field.column, (*inner, key)).key
        for key in keys.column("key").to_pylist()
    ]


def suggest_values(
    scope: Scope,
    field: str,
    text: Any = "",
    table: str = "datapoints",
    limit: int = _MANY,
) -> list[Any]:
    """Values of `field` whose text holds `text`, typed so that a filter with one of them works.

    `metadata.width` gives numbers, `metadata.uri` texts; list columns give their elements, for
    the operator `any`. Raises InvalidFilter for an unknown field.
    """
    wanted = resolve(table, field)
    contained = "" if text is None else str(text)
    everything = Condition("TRUE", {})
    return distinct_values(scope, wanted, everything, limit, containing=contained, sort_all=False)
