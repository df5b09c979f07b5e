"""Filters as they are typed: `tags.name = split`, and as the library takes them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import orjson

from katiml.errors import InvalidFilter

__all__ = ["parse_filter", "parse_filters"]

_SYMBOLS = ("!~*", "!~", "!=", "~*", "~", "<>", ">=", "<=", "==", "=", ">", "<")
_LISTS = {"in", "not in", "between", "not between"}
_CONSTANTS = {"null", "true", "false"}
_TEXTS = {"like", "ilike", "similar to", "regexp", "iregexp"}


@cache
def _pattern() -> re.Pattern[str]:
    from katiml.query.operators import OPERATORS

    # `is null` is read as `is` and then null, as it is typed.
    words = [name for name in OPERATORS if name[0].isalpha() and not name.endswith("null")]
    word = "|".join(name.replace(" ", r"\s+") for name in sorted(words, key=len, reverse=True))
    symbol = "|".join(map(re.escape, _SYMBOLS))
    return re.compile(
        rf"\s*(?P<left>[^\s=!<>~]+)"
        rf"(?:\s*(?P<symbol>{symbol})|\s+(?P<word>{word})(?=[\s\[]|$))"
        rf"\s*(?P<right>.*?)\s*",
        re.IGNORECASE | re.DOTALL,
    )


def parse_filter(text: str) -> dict[str, Any]:
    """One typed filter as a condition.

    What stands right of the operator is JSON where it parses (numbers, true, null, "quoted text",
    lists) and plain text otherwise; `in` and `between` also take `a,b`.

    Raises
    ------
    InvalidFilter
        There is no operator, or nothing stands on one of its sides.

    >>> parse_filter("metrics.entropy > 0.5")
    {'left': 'metrics.entropy', 'op': '>', 'right': 0.5}
    >>> parse_filter("type in IMAGE,TEXT")
    {'left': 'type', 'op': 'in', 'right': ['IMAGE', 'TEXT']}
    >>> parse_filter('text = "null"'), parse_filter("text is null")["right"]
    ({'left': 'text', 'op': '=', 'right': 'null'}, None)
    """
    match = _pattern().fullmatch(text)
    if match is None:
        raise InvalidFilter(
            f"cannot read the filter {text!r}",
            hint="write FIELD OPERATOR VALUE, for example: --filter 'tags.value = train'",
        )
    operator = " ".join((match["symbol"] or match["word"]).lower().split())
    right = match["right"]
    if not right:
        raise InvalidFilter(
            f"the filter {text!r} has no value after {operator!r}",
            hint='for empty text write "" with its quotes',
        )
    return {"left": match["left"], "op": operator, "right": _right(operator, right)}


def parse_filters(typed: list[str], document: str | None) -> list[Any]:
    """All the filters of a command: those typed one by one, then those of `--filters`.

    >>> parse_filters(["type = TEXT"], '[{"left": "text", "op": "like", "right": "a%"}]')[1]
    {'left': 'text', 'op': 'like', 'right': 'a%'}
    """
    filters: list[Any] = [parse_filter(text) for text in typed]
    if document is not None:
        try:
            parsed = orjson.loads(document)
        except orjson.JSONDecodeError as error:
            raise InvalidFilter(
                f"--filters is not JSON: {error}",
                hint='for example: --filters \'[{"left": "type", "op": "=", "right": "IMAGE"}]\'',
            ) from None
        filters.extend(parsed if isinstance(parsed, list) else [parsed])
    return filters


def _right(operator: str, text: str) -> Any:
    if operator.removeprefix("not ") in _TEXTS or "~" in operator:
        value = _value(text)
        return value if isinstance(value, str) else text
    if operator in _LISTS:
        return _list(text)
    if operator.startswith("is"):
        return _value(text.lower() if text.lower() in _CONSTANTS else text)
    return _value(text)


def _list(text: str) -> list[Any]:
    if not text.startswith("["):
        return [_value(part.strip()) for part in text.split(",")]
    found = _value(text)
    if not isinstance(found, list):
        raise InvalidFilter(f"{text!r} is not a list", hint='write a,b or a JSON list: ["a", "b"]')
    return found


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
