"""Read-only SQL over the organization's own rows (see `statements` for what may be run)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import pyarrow as pa

from katiml.errors import InvalidInput
from katiml.query.fields import shown
from katiml.query.frames import to_pandas
from katiml.query.statements import parse_statement
from katiml.query.values import plain
from katiml.schema import RECORD_TABLES
from katiml.store.scope import expand

if TYPE_CHECKING:
    import pandas as pd

    from katiml.store import Scope

__all__ = ["sql"]


@overload
def sql(
    scope: Scope,
    text: str,
    parameters: Mapping[str, Any] | None = None,
    form: Literal["pandas"] = "pandas",
) -> pd.DataFrame: ...


@overload
def sql(
    scope: Scope,
    text: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    form: Literal["arrow"],
) -> pa.Table: ...


@overload
def sql(
    scope: Scope,
    text: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    form: Literal["batches"],
) -> pa.RecordBatchReader: ...


def sql(
    scope: Scope,
    text: str,
    parameters: Mapping[str, Any] | None = None,
    form: str = "pandas",
) -> Any:
    """The result of one SELECT as pandas, Arrow or a reader of batches.

    Tables are those of the records, `uploads` and `rejected_records`; values may be named
    (`$name`) and given in `parameters`. JSON columns are text. Raises InvalidInput for anything
    that is not one SELECT over them.

    >>> import tempfile
    >>> from katiml.store import Scope, open_store
    >>> with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
    ...     sql(Scope(store), "SELECT count(*) AS n FROM datapoints", form="arrow").to_pylist()
    [{'n': 0}]
    """
    if form not in ("pandas", "arrow", "batches"):
        raise InvalidInput(
            f"form is {shown(form)}", hint="forms are: 'pandas', 'arrow' and 'batches'"
        )
    statement, values = _scoped(scope, text, parameters)
    try:
        if form == "batches":
            return scope.store.stream(statement, values)
        table = _plain_integers(scope.store.query(statement, values))
    except InvalidInput as error:
        raise InvalidInput(_in_lines_of_the_text(error.message), hint=error.hint) from None
    return to_pandas(table) if form == "pandas" else table


def _scoped(scope: Scope, text: str, parameters: Any) -> tuple[str, dict[str, Any]]:
    """The statement that runs `text` with its tables holding one organization's rows alone."""
    statement = parse_statement(text)
    values = {} if parameters is None else parameters
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise InvalidInput(
            f"parameters are {shown(parameters)}", hint="pass a dict with a value for each $name"
        )
    missing = sorted(statement.parameters - set(values))
    extra = sorted(set(values) - statement.parameters)
    if missing or extra:
        problem = (
            f"${missing[0]} has no value" if missing else f"there is no ${extra[0]} in the SQL"
        )
        raise InvalidInput(problem, hint="parameters are a dict with a value for each $name")
    values = {name: _value(name, value) for name, value in values.items()}
    if not statement.tables:
        return f"SELECT * FROM (\n{statement.text}\n) AS result", values
    # Only this part goes through the template: braces in the text are the user's own.
    views = ", ".join(
        expand(f"{name} AS NOT MATERIALIZED (SELECT *{_left_out(name)} FROM {{{name}}})")
        for name in sorted(statement.tables)
    )
    values["organization_id"] = scope.organization_id
    return f"WITH {views} SELECT * FROM (\n{statement.text}\n) AS result", values


def _left_out(table: str) -> str:
    """What `*` does not have: how history knows rows."""
    return " EXCLUDE (since, origins)" if table in RECORD_TABLES else ""


def _value(name: str, value: Any) -> Any:
    try:
        return plain(value)
    except InvalidInput as error:
        raise InvalidInput(
            f"${name}: {error.message}", hint="a value is a text, a number, a moment, or a list"
        ) from None


def _in_lines_of_the_text(message: str) -> str:
    """DuckDB's message with the line numbers that the user sees."""
    return re.sub(r"\bLINE (\d+):", lambda line: f"LINE {int(line[1]) - 1}:", message)


def _plain_integers(table: pa.Table) -> pa.Table:
    """Sums of integers as int64: DuckDB gives them 128 bits."""
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                column = table.column(index).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(index, field.name, column)
    return table
