"""What filters mean, in plain Python: slow, obvious, and written apart from the compiler.

Truth is True, False or None (unknown).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

Truth = bool | None
Rows = dict[str, list[dict[str, Any]]]

LINKS = {
    ("datapoints", "tags"): ("id", "datapoint"),
    ("datapoints", "groundtruths"): ("id", "datapoint"),
    ("datapoints", "bboxes"): ("id", "datapoint"),
    ("groundtruths", "bboxes"): ("id", "groundtruth"),
    ("groundtruths", "datapoints"): ("datapoint", "id"),
    ("groundtruths", "tags"): ("datapoint", "datapoint"),
    ("bboxes", "groundtruths"): ("groundtruth", "id"),
    ("bboxes", "datapoints"): ("datapoint", "id"),
    ("bboxes", "tags"): ("datapoint", "datapoint"),
    ("tags", "datapoints"): ("datapoint", "id"),
    ("tags", "groundtruths"): ("datapoint", "datapoint"),
    ("tags", "bboxes"): ("datapoint", "datapoint"),
}
JSON_COLUMNS = {"metadata", "metrics"}
LIST_COLUMNS = {"class_names"}


def passing(rows: Rows, table: str, filters: Any) -> set[str]:
    """The ids of the rows of `table` that pass."""
    return {row["id"] for row in rows[table] if all_of(rows, table, row, filters) is True}


def all_of(rows: Rows, table: str, row: dict[str, Any], filters: Any) -> Truth:
    listed = [filters] if isinstance(filters, dict) else filters or []
    truths: list[Truth] = []
    attached: dict[tuple[str, int], list[dict[str, Any]]] = {}
    count: dict[str, int] = {}
    for one in listed:
        if "left" not in one:
            truths.append(group(rows, table, row, one))
            continue
        head, _, rest = one["left"].partition(".")
        if head not in rows or head == table:
            left = rest if head == table else one["left"]
            truths.append(comparison(value_of(row, left), left, one["op"], one["right"]))
        else:
            position = count.get(one["left"], 0)
            count[one["left"]] = position + 1
            attached.setdefault((head, position), []).append({**one, "left": rest})
    for (other, _), together in attached.items():
        mine, theirs = LINKS[table, other]
        candidates = [r for r in rows[other] if row[mine] is not None and r[theirs] == row[mine]]
        truths.append(any(all_hold(c, together) is True for c in candidates or [{}]))
    return conjunction(truths)


def all_hold(row: dict[str, Any], together: list[dict[str, Any]]) -> Truth:
    return conjunction(
        comparison(value_of(row, one["left"]), one["left"], one["op"], one["right"])
        for one in together
    )


def group(rows: Rows, table: str, row: dict[str, Any], one: dict[str, Any]) -> Truth:
    if "any" in one:
        truths = [all_of(rows, table, row, member) for member in one["any"]]
        return True if True in truths else None if None in truths else False
    if "all" in one:
        return all_of(rows, table, row, one["all"])
    if "not" in one:
        truth = all_of(rows, table, row, one["not"])
        return None if truth is None else not truth
    mine, theirs = LINKS[table, one["exists"]]
    return any(
        all_of(rows, one["exists"], other, one.get("where")) is True
        for other in rows[one["exists"]]
        if row[mine] is not None and other[theirs] == row[mine]
    )


def conjunction(truths: Iterable[Truth]) -> Truth:
    listed = list(truths)
    return False if False in listed else None if None in listed else True


def value_of(row: dict[str, Any], name: str) -> Any:
    """The value of a column; of JSON always the Python value."""
    column, _, path = name.partition(".")
    value = row.get(column)
    for key in re.findall(r'"([^"]+)"|([^."]+)', path):
        value = value.get(key[0] or key[1]) if isinstance(value, dict) else None
    return value


def comparison(value: Any, name: str, op: str, right: Any) -> Truth:  # noqa: C901
    is_json = name.partition(".")[0] in JSON_COLUMNS
    if op in ("is null", "is not null"):
        op, right = op.removesuffix(" null"), None
    if op in ("is", "is not distinct from", "is not", "is distinct from"):
        if right is None:
            same = value is None
        else:
            left, wanted = typed(value, right, is_json)
            same = left is not None and left == wanted
        return same if op in ("is", "is not distinct from") else not same
    if right is None:
        return None
    if op.startswith("not "):
        truth = comparison(value, name, op[4:], right)
        return None if truth is None else not truth
    if op == "in":
        items = [item for item in right if item is not None]
        return disjunction(equal(value, item, is_json) for item in items)
    if op == "between":
        low, high = (ordered(value, bound, is_json) for bound in right)
        return None if low is None or high is None else low >= 0 >= high
    if op == "any":
        return has_any(value, right, is_json)
    if op in ("like", "ilike", "similar to", "regexp", "iregexp"):
        return matches(value, op, right, is_json)
    if op in ("=", "!="):
        truth = equal(value, right, is_json)
        return truth if op == "=" or truth is None else not truth
    sign = ordered(value, right, is_json)
    if sign is None:
        return None
    return {">": sign > 0, "<": sign < 0, ">=": sign >= 0, "<=": sign <= 0}[op]


def disjunction(truths: Iterable[Truth]) -> Truth:
    listed = list(truths)
    return True if True in listed else None if None in listed else False


def typed(value: Any, right: Any, is_json: bool) -> tuple[Any, Any]:
    """Both sides as they compare; None on the left where that is impossible."""
    if not is_json:
        if isinstance(value, str) and not isinstance(right, str):
            return value, text(right)
        return value, right
    if isinstance(right, bool):
        return (value if isinstance(value, bool) else None), right
    if isinstance(right, int | float):
        return number(value), right
    return text(value), right


def equal(value: Any, right: Any, is_json: bool) -> Truth:
    left, wanted = typed(value, right, is_json)
    return None if left is None else left == wanted


def ordered(value: Any, right: Any, is_json: bool) -> int | None:
    left, wanted = typed(value, right, is_json)
    return None if left is None else (left > wanted) - (left < wanted)


def number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    try:
        converted = float(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if converted is None or math.isnan(converted) else converted


def text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return repr(value)


def has_any(value: Any, right: Any, is_json: bool) -> Truth:
    if value is None:
        return None
    items = right if isinstance(right, list) else [right]
    elements = value if isinstance(value, list) else [value]
    if is_json and all(isinstance(i, int | float) and not isinstance(i, bool) for i in items):
        return any(number(element) == item for element in elements for item in items)
    return any(text(element) == text(item) for element in elements for item in items)


SIMILAR = {
    "a%": "a.*",
    "(a|é)%": "(?:a|é).*",
    "[a-c]": "[a-c]",
    "_": ".",
    "%.%": r".*\..*",
    "1+0?": "1+0?",
}


def matches(value: Any, op: str, right: Any, is_json: bool) -> Truth:
    left = text(value)
    pattern = text(right)
    if left is None or pattern is None:
        return None
    if op == "similar to":
        return re.fullmatch(SIMILAR[pattern], left, re.DOTALL) is not None
    if op in ("regexp", "iregexp"):
        flags = re.DOTALL | (re.IGNORECASE if op == "iregexp" else 0)
        return re.search(pattern, left, flags) is not None
    if op == "ilike":
        left, pattern = left.lower(), pattern.lower()
    regex = "".join(
        re.escape(part[1]) if part[0] == "\\" else {"%": ".*", "_": "."}.get(part, re.escape(part))
        for part in re.findall(r"\\.|.", pattern, re.DOTALL)
    )
    return re.fullmatch(regex, left, re.DOTALL) is not None
