"""One comparison -> SQL: how each operator reads each kind of field.

Values are compared by the type of the right side. A missing value is NULL and follows SQL's
three-valued logic: every comparison with it is unknown, but for the `is` family.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import duckdb

from katiml.errors import InvalidFilter
from katiml.query import values
from katiml.query.bare import bare_duckdb
from katiml.query.fields import Field, Parameters, shown, suggestion

__all__ = ["OPERATORS", "compare", "holds_for_missing", "operator_named", "similar_to_regex"]

_COMPARISONS = ("=", "!=", ">", "<", ">=", "<=")
_IS = ("is", "is not", "is distinct from", "is not distinct from")
_PATTERNS = ("like", "ilike", "similar to", "regexp", "iregexp")

# Every operator, as it is shown.
OPERATORS = (
    *_COMPARISONS,
    "in",
    "not in",
    "between",
    "not between",
    *(f"{negation}{pattern}" for pattern in _PATTERNS for negation in ("", "not ")),
    "is null",
    "is not null",
    *_IS,
    "any",
    "contains",
)
_ALIASES = {
    "==": "=",
    "<>": "!=",
    "= any": "any",
    "=any": "any",
    "~": "regexp",
    "!~": "not regexp",
    "~*": "iregexp",
    "!~*": "not iregexp",
    "isnull": "is null",
    "notnull": "is not null",
}
_NULL = "CAST(NULL AS BOOLEAN)"
# Comparisons that NaN, taken for a number, would not pass.
_NEVER_NAN = ("=", "<", "<=", ">", ">=", "in", "any", "between")
# Up to this many values are compared one by one, so that the table's statistics can prune.
_FEW = 8


def operator_named(name: object) -> str:
    """The operator that `name` spells, in any case and with any spaces; InvalidFilter if none.

    >>> operator_named(" Not   IN "), operator_named("<>"), operator_named("~")
    ('not in', '!=', 'regexp')
    """
    if isinstance(name, str):
        spelled = " ".join(name.lower().split())
        spelled = _ALIASES.get(spelled, spelled)
        if spelled in OPERATORS:
            return spelled
        near = suggestion(spelled, OPERATORS)
        meant = f"did you mean {near!r}? " if near else ""
    else:
        meant = ""
    raise InvalidFilter(
        f"unknown operator {shown(name)}", hint=f"{meant}operators are: {', '.join(OPERATORS)}"
    )


def holds_for_missing(operator: str, right: Any) -> bool:
    """Whether the comparison is true for a missing value.

    >>> holds_for_missing("is null", None), holds_for_missing("!=", 3)
    (True, False)
    """
    if operator == "is null":
        return True
    if operator == "not in":
        return isinstance(right, list) and all(item is None for item in right)
    if operator in ("is", "is not distinct from"):
        return right is None
    return operator in ("is not", "is distinct from") and right is not None


def compare(
    field: Field, operator: str, right: Any, parameters: Parameters, *, negated: bool = False
) -> str:
    """The SQL of `field operator right`; columns are named without their table.

    `right` is as `values.plain` gives it, `negated` says that a NOT stands around it. Raises
    InvalidFilter where the operator and the right side mean nothing together.
    """
    if field.kind == "bytes" and operator not in ("is null", "is not null"):
        raise InvalidFilter(
            f"{field.key} holds raw bytes and cannot be compared",
            hint="only 'is null' and 'is not null' work on it",
        )
    if operator in ("is null", "is not null") or (operator in _IS and right is None):
        negative = operator in ("is not null", "is not", "is distinct from")
        return f"{_existing(field, parameters)} IS {'NOT ' if negative else ''}NULL"
    if right is None:
        return _NULL
    negation, positive = ("NOT ", operator[4:]) if operator.startswith("not ") else ("", operator)
    if operator in _NEVER_NAN and not negated:
        field = replace(field, exact=False)
    if positive in ("in", "between", "any", "contains"):
        compiled = {
            "in": _in,
            "between": _between,
            "any": _any,
            "contains": _contains,
        }[positive](field, right, parameters)
        return f"(NOT {compiled})" if negation else compiled
    if positive in _PATTERNS:
        pattern = _PATTERN_COMPILERS[positive](
            _pattern_text(field, positive, parameters), _pattern(right, positive), parameters
        )
        return f"({negation}{pattern})"
    return _comparison(field, operator, right, parameters)


def _existing(field: Field, parameters: Parameters) -> str:
    return field.text(parameters) if field.kind == "json" else field.sql()


# -- comparisons -----------------------------------------------------------------------------


def _comparison(field: Field, operator: str, right: Any, parameters: Parameters) -> str:
    if operator in (">", ">=") and not field.exact and field.kind == "json" and _is_float(right):
        return _above(field, operator, float(right), parameters)
    left, placeholder = _operands(field, right, parameters)
    sql = {
        "!=": "<>",
        "is": "IS NOT DISTINCT FROM",
        "is not": "IS DISTINCT FROM",
        "is distinct from": "IS DISTINCT FROM",
        "is not distinct from": "IS NOT DISTINCT FROM",
    }.get(operator, operator)
    return f"({left} {sql} {placeholder})"


def _is_float(right: Any) -> bool:
    """Whether the value is compared as a float without loss."""
    return _is_number(right) and (isinstance(right, float) or abs(right) <= 2**53)


def _above(field: Field, operator: str, low: float, parameters: Parameters) -> str:
    """`field > low` or `>=`, where NaN, which DuckDB puts above infinity, is left out."""
    if operator == ">" and low == math.inf:
        return f"({field.number(parameters)} < {parameters.add(-math.inf)})"
    lowest = math.nextafter(low, math.inf) if operator == ">" else low
    infinity = parameters.add(math.inf)
    return f"({field.number(parameters)} BETWEEN {parameters.add(lowest)} AND {infinity})"


def _operands(field: Field, right: Any, parameters: Parameters) -> tuple[str, str]:
    """Both sides of a comparison with one value, of one SQL type."""
    if field.kind == "list" or isinstance(right, list | dict):
        return _structured_operands(field, right, parameters)
    if field.kind == "uuid":
        canonical = values.as_uuid(right)
        if canonical is None:
            # What is no UUID equals none: compared as text, it can do no harm.
            text = parameters.add(values.as_text(right))
            return field.text(parameters), f"CAST({text} AS VARCHAR)"
        return field.sql(), f"CAST({parameters.add(canonical)} AS UUID)"
    if field.kind == "number":
        return field.sql(), parameters.add(values.as_number(right, field))
    if field.kind == "time":
        moment = parameters.add(values.as_time(right, field))
        return field.sql(), f"CAST({moment} AS TIMESTAMPTZ)"
    if field.kind == "json":
        return _json_operands(field, right, parameters)
    return field.sql(), parameters.add(values.as_text(right))


def _json_operands(field: Field, right: Any, parameters: Parameters) -> tuple[str, str]:
    if isinstance(right, bool):
        return _json_boolean(field, parameters), "TRUE" if right else "FALSE"
    if isinstance(right, datetime):
        moment = parameters.add(values.as_time(right, field))
        left = f"TRY_CAST({field.text(parameters)} AS TIMESTAMPTZ)"
        return left, f"CAST({moment} AS TIMESTAMPTZ)"
    if isinstance(right, str):
        return field.text(parameters), parameters.add(right)
    if isinstance(right, int) and 2**53 < abs(right) < 2**127:
        # Past 2**53 a float cannot tell neighbours apart (nanoseconds, hashes).
        left = f"TRY_CAST({field.text(parameters)} AS HUGEINT)"
        return left, f"CAST({parameters.add(str(right))} AS HUGEINT)"
    return field.number(parameters), parameters.add(float(values.sized(right)))


def _json_boolean(field: Field, parameters: Parameters) -> str:
    text = f"CAST({field.json(parameters)} AS VARCHAR)"
    return f"(CASE {text} WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END)"


def _structured_operands(field: Field, right: Any, parameters: Parameters) -> tuple[str, str]:
    if field.kind == "json":
        text = f"CAST({field.json(parameters)} AS VARCHAR)"
        return f"nullif({text}, 'null')", parameters.add(values.as_text(right))
    if field.kind == "list" and isinstance(right, list):
        items = [_item(field, item) for item in right]
        return field.sql(), f"CAST({parameters.add(items)} AS {field.column.type})"
    if field.kind == "list":
        raise InvalidFilter(
            f"{field.key} holds a list, and {shown(right)} is none",
            hint="the operator 'any' finds a value in it; '=' wants a list",
        )
    raise InvalidFilter(
        f"{field.key} cannot be compared with {shown(right)}",
        hint="name one value, or use the operator 'in' with a list",
    )


def _item(field: Field, item: Any) -> Any:
    if item is None:
        return None
    if field.column.type == "VARCHAR[]":
        return values.as_text(item)
    number = values.as_number(item, field)
    return float(number) if field.column.type == "DOUBLE[]" else number


# -- lists on the right ----------------------------------------------------------------------


def _listed(field: Field, operator: str, right: Any) -> list[Any]:
    if not isinstance(right, list):
        raise InvalidFilter(
            f"the operator {operator!r} wants a list, not {shown(right)}",
            hint=f"write it like {{'left': '{field.key}', 'op': '{operator}', 'right': [...]}}",
        )
    return right


def _in(field: Field, right: Any, parameters: Parameters) -> str:
    # NULL would make every `not in` unknown; it can match nothing anyway.
    items = [item for item in _listed(field, "in", right) if item is not None]
    if not items:
        return "FALSE"
    nested = field.kind == "list" or any(isinstance(item, list | dict) for item in items)
    if nested or len(items) <= _FEW:
        return f"({' OR '.join(_one_of(field, items, parameters))})"
    if field.kind == "json":
        return _in_json(field, items, parameters)
    left, array = _array(field, items, parameters)
    return f"({left} IN (SELECT {array}))"


def _one_of(field: Field, items: list[Any], parameters: Parameters) -> list[str]:
    groups: dict[str, list[str]] = {}
    for left, placeholder in (_operands(field, item, parameters) for item in items):
        groups.setdefault(left, []).append(placeholder)
    return [f"{left} IN ({', '.join(group)})" for left, group in groups.items()]


def _array(field: Field, items: list[Any], parameters: Parameters) -> tuple[str, str]:
    """Both sides of an IN over many values: they travel as one list."""
    if field.kind == "uuid":
        found = [canonical for item in items if (canonical := values.as_uuid(item))]
        if found:
            return field.sql(), f"CAST(unnest({parameters.add(found)}) AS UUID)"
    elif field.kind == "number":
        numbers = [float(values.as_number(item, field)) for item in items]
        return f"CAST({field.sql()} AS DOUBLE)", f"unnest({parameters.add(numbers)})"
    elif field.kind == "time":
        moments = [values.as_time(item, field) for item in items]
        return field.sql(), f"CAST(unnest({parameters.add(moments)}) AS TIMESTAMPTZ)"
    texts = [values.as_text(item) for item in items]
    return field.text(parameters), f"unnest({parameters.add(texts)})"


def _in_json(field: Field, items: list[Any], parameters: Parameters) -> str:
    texts = [item for item in items if isinstance(item, str)]
    numbers = [float(values.sized(item)) for item in items if _is_number(item)]
    rest = [item for item in items if not isinstance(item, str) and not _is_number(item)]
    parts = _one_of(field, rest, parameters)
    if texts:
        parts.append(f"{field.text(parameters)} IN (SELECT unnest({parameters.add(texts)}))")
    if numbers:
        parts.append(f"{field.number(parameters)} IN (SELECT unnest({parameters.add(numbers)}))")
    return f"({' OR '.join(parts)})"


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def _between(field: Field, right: Any, parameters: Parameters) -> str:
    bounds = _listed(field, "between", right)
    if len(bounds) != 2 or None in bounds:
        raise InvalidFilter(
            f"the operator 'between' wants [lowest, highest], not {shown(right)}",
            hint="both bounds belong to the range",
        )
    (left, low), (same, high) = (_operands(field, bound, parameters) for bound in bounds)
    if left != same:
        raise InvalidFilter(
            f"the bounds {shown(right)} are not of one type",
            hint="give two numbers, two texts or two moments",
        )
    return f"({left} BETWEEN {low} AND {high})"


# -- lists on the left -----------------------------------------------------------------------


def _any(field: Field, right: Any, parameters: Parameters) -> str:
    """One of the right values is the value, or an element of the list that it is."""
    items = [item for item in (right if isinstance(right, list) else [right]) if item is not None]
    if not items:
        return "FALSE"
    if field.kind not in ("list", "json"):
        return _in(field, items, parameters)
    elements, wanted = _elements(field, items, parameters)
    return f"list_has_any({elements}, {wanted})"


def _contains(field: Field, right: Any, parameters: Parameters) -> str:
    """All the right values are elements of the list."""
    items = [item for item in (right if isinstance(right, list) else [right]) if item is not None]
    if field.kind not in ("list", "json"):
        raise InvalidFilter(
            f"{field.key} holds no list, so it cannot contain {shown(right)}",
            hint="a part of a text is found by like: '%part%'",
        )
    if not items:
        return "TRUE"
    elements, wanted = _elements(field, items, parameters)
    return f"list_has_all({elements}, {wanted})"


def _elements(field: Field, items: list[Any], parameters: Parameters) -> tuple[str, str]:
    if field.kind == "list":
        wanted = [_item(field, item) for item in items]
        return field.sql(), f"CAST({parameters.add(wanted)} AS {field.column.type})"
    text = field.text(parameters)
    listed = f"TRY_CAST({field.json(parameters)} AS VARCHAR[])"
    # What is no list counts as a list of one.
    elements = f"coalesce({listed}, CASE WHEN {text} IS NOT NULL THEN [{text}] END)"
    if all(_is_number(item) for item in items):
        numbers = [float(values.sized(item)) for item in items]
        return (
            f"list_transform({elements}, lambda item: TRY_CAST(item AS DOUBLE))",
            parameters.add(numbers),
        )
    return elements, parameters.add([values.as_text(item) for item in items])


# -- patterns --------------------------------------------------------------------------------


def _pattern_text(field: Field, operator: str, parameters: Parameters) -> str:
    if field.kind == "list":
        raise InvalidFilter(
            f"{field.key} holds a list, which {operator!r} cannot match",
            hint="the operator 'any' finds a value in it",
        )
    return field.text(parameters)


def _pattern(right: Any, operator: str) -> str:
    if isinstance(right, list | dict):
        raise InvalidFilter(
            f"the operator {operator!r} wants a text, not {shown(right)}",
            hint="several patterns: {'any': [filter, filter]}",
        )
    return values.as_text(right)


def _like(text: str, pattern: str, parameters: Parameters) -> str:
    return _like_sql(text, "LIKE", pattern, parameters)


def _ilike(text: str, pattern: str, parameters: Parameters) -> str:
    return _like_sql(text, "ILIKE", pattern, parameters)


def _like_sql(text: str, operator: str, pattern: str, parameters: Parameters) -> str:
    if "\\" not in pattern:
        return f"{text} {operator} {parameters.add(pattern)}"
    # A backslash makes the next character literal, as in PostgreSQL.
    if re.search(r"(?<!\\)(?:\\\\)*\\\Z", pattern):
        raise InvalidFilter(
            f"the pattern {shown(pattern)} ends in a backslash",
            hint="a backslash makes the next character literal; write two for one",
        )
    return f"{text} {operator} {parameters.add(pattern)} ESCAPE '\\'"


def _similar(text: str, pattern: str, parameters: Parameters) -> str:
    regex = _checked_regex(similar_to_regex(pattern), pattern)
    return f"regexp_full_match({text}, {parameters.add(regex)}, 's')"


def _regexp(text: str, pattern: str, parameters: Parameters) -> str:
    return f"regexp_matches({text}, {parameters.add(_checked_regex(pattern, pattern))}, 's')"


def _iregexp(text: str, pattern: str, parameters: Parameters) -> str:
    return f"regexp_matches({text}, {parameters.add(_checked_regex(pattern, pattern))}, 'is')"


_PATTERN_COMPILERS: dict[str, Callable[[str, str, Parameters], str]] = {
    "like": _like,
    "ilike": _ilike,
    "similar to": _similar,
    "regexp": _regexp,
    "iregexp": _iregexp,
}


def similar_to_regex(pattern: str) -> str:
    r"""The regular expression of an SQL `SIMILAR TO` pattern.

    >>> similar_to_regex("(cat|dog)_%.jpg")
    '(cat|dog)..*\\.jpg'
    """
    parts: list[str] = []
    in_class = False
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "\\" and position < len(pattern):
            parts.append(re.escape(pattern[position]))
            position += 1
        elif in_class:
            in_class = character != "]"
            parts.append("\\[" if character == "[" else character)
        elif character == "[":
            in_class = True
            parts.append(character)
        elif character == "%":
            parts.append(".*")
        elif character == "_":
            parts.append(".")
        elif character in "|*+?{}()":
            parts.append(character)
        else:
            parts.append(re.escape(character))
    return "".join(parts)


def _checked_regex(regex: str, pattern: str) -> str:
    problem = _regex_problem(regex)
    if problem:
        raise InvalidFilter(
            f"the pattern {shown(pattern)} is not a regular expression: {problem}",
            hint="the syntax is RE2's: https://github.com/google/re2/wiki/Syntax",
        )
    return regex


@lru_cache(maxsize=256)
def _regex_problem(regex: str) -> str | None:
    """What DuckDB, whose expressions these are, has against `regex`."""
    with bare_duckdb() as connection:
        try:
            connection.execute("SELECT regexp_matches('', $regex)", {"regex": regex})
        except duckdb.Error as error:
            return str(error).strip()
    return None
