"""Random filter trees: the compiled SQL keeps the rows that a plain Python reading keeps."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from katiml.query import count, select
from katiml.store import Scope, Store
from tests.query import model
from tests.query.rows import put

TEXTS = [
    "",
    "a",
    "A",
    "abc",
    "é",
    "É",
    "it's",
    'x"y',
    "100%",
    "a_b",
    "back\\slash",
    "10",
    " 2 ",
    "1e1",
    "NaN",
    "null",
    "true",
    "line\nbreak",
    "日本.語",
    "'); DROP TABLE tags; --",
    "$f0",
    "{tags}",
]
NUMBERS = [0, 1, -1, 2, 10, 0.5, -1.5, 10.0, 2**53 + 1, 2**53 + 2]
PATTERNS = ["%", "a%", "%b", "_", "%\\%", "A_C", "%'%", "it's", "%é%", "a\\_b", "%\\\\%", "", "10%"]
VALUES = st.sampled_from([*TEXTS, *NUMBERS, True, False, None])
PRESENT = st.sampled_from([*TEXTS, *NUMBERS, True, False])
JSON_FIELDS = ["metadata.k", 'metadata."a.b"', "metadata.o.n"]
TEXT_FIELDS = {
    "datapoints": ["type", "text"],
    "tags": ["name", "value"],
    "groundtruths": ["class_name"],
    "bboxes": ["class_name"],
}
NUMBER_FIELDS = {"bboxes": ["confidence"]}
OTHERS = {table: [other for root, other in model.LINKS if root == table] for table in TEXT_FIELDS}


def make_rows(seed: int = 7) -> model.Rows:
    chance = random.Random(seed)
    value = lambda: chance.choice([*TEXTS, *NUMBERS, True, False, None])  # noqa: E731

    def word() -> str | None:
        return chance.choice([*TEXTS, None])

    def ids(count: int) -> list[str]:
        return [str(UUID(int=chance.getrandbits(128))) for _ in range(count)]

    datapoints = [
        {
            "id": i,
            "type": chance.choice(["IMAGE", "TEXT"]),
            "text": word(),
            "metadata": chance.choice(
                [
                    None,
                    {"k": value(), "a.b": value(), "o": {"n": value()}},
                    {"k": value(), "o": chance.choice([1, None, {"n": [value(), value()]}])},
                    {"k": [value(), value()], "a.b": value()},
                ]
            ),
        }
        for i in ids(60)
    ]
    owners = [row["id"] for row in datapoints[:40]]
    tags = [
        {"id": i, "datapoint": chance.choice(owners), "name": word(), "value": word()}
        for i in ids(90)
    ]
    truths = [
        {
            "id": i,
            "datapoint": chance.choice(owners),
            "class_name": word(),
            "class_names": chance.choice([None, [], [word(), word()]]),
        }
        for i in ids(50)
    ]
    boxes = [
        {
            "id": i,
            "datapoint": owner["datapoint"],
            "groundtruth": owner["id"] if chance.random() < 0.7 else None,
            "class_name": word(),
            "confidence": chance.choice([None, 0.0, 0.5, 1.0, 2.0]),
        }
        for i, owner in ((i, chance.choice(truths)) for i in ids(60))
    ]
    return {"datapoints": datapoints, "tags": tags, "groundtruths": truths, "bboxes": boxes}


ROWS = make_rows()


def own_filters(table: str, prefix: str = "") -> st.SearchStrategy[dict[str, Any]]:
    """Filters on columns of `table`, named with `prefix`."""
    texts = st.sampled_from(TEXT_FIELDS[table])
    options = [_scalar(texts, PRESENT), _patterns(texts), _missing(texts)]
    if table in NUMBER_FIELDS:
        numbers = st.sampled_from([0, 0.5, 1, 2, -1.5])
        options.append(_scalar(st.sampled_from(NUMBER_FIELDS[table]), numbers))
    if table == "datapoints":
        json_fields = st.sampled_from(JSON_FIELDS)
        options += [
            _scalar(json_fields, PRESENT),
            _patterns(json_fields),
            _missing(json_fields),
            _filter(json_fields, st.just("any"), PRESENT | st.lists(PRESENT, max_size=3)),
        ]
    if table == "groundtruths":
        lists = st.lists(st.sampled_from(TEXTS), max_size=3)
        options.append(_filter(st.just("class_names"), st.just("any"), lists))
        options.append(_missing(st.just("class_names")))
    return st.one_of(options).map(lambda one: {**one, "left": prefix + one["left"]})


def _filter(left: Any, op: Any, right: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"left": left, "op": op, "right": right})


def _scalar(left: Any, values: Any) -> st.SearchStrategy[dict[str, Any]]:
    comparisons = ["=", "!=", "<", ">", "<=", ">=", "is", "is not", "is distinct from"]
    same_type = values.flatmap(
        lambda low: st.tuples(st.just(low), values.filter(lambda high: _kind(high) == _kind(low)))
    )
    return st.one_of(
        _filter(left, st.sampled_from(comparisons), values),
        _filter(
            left,
            st.sampled_from(["in", "not in"]),
            st.lists(values | st.none(), max_size=4) | st.lists(values, min_size=9, max_size=14),
        ),
        _filter(left, st.sampled_from(["between", "not between"]), same_type.map(list)),
    )


def _kind(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return "wide" if abs(value) > 2**53 else float
    return type(value)


def _patterns(left: Any) -> st.SearchStrategy[dict[str, Any]]:
    regexes = st.sampled_from(["a", "^a$", "é|b", "[0-9]+", "a.c", "k.b"])
    return st.one_of(
        _filter(
            left,
            st.sampled_from(["like", "not like", "ilike", "not ilike"]),
            st.sampled_from(PATTERNS),
        ),
        _filter(
            left,
            st.sampled_from(["similar to", "not similar to"]),
            st.sampled_from(list(model.SIMILAR)),
        ),
        _filter(
            left,
            st.sampled_from(["regexp", "not regexp", "iregexp", "not iregexp"]),
            regexes,
        ),
    )


def _missing(left: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        _filter(left, st.sampled_from(["is null", "is not null", "=", "is", "is not"]), st.none())
    )


def filter_lists(table: str, depth: int = 2) -> st.SearchStrategy[Any]:
    """Lists of filters and groups on `table` and its attachments."""
    attached = [own_filters(other, f"{other}.") for other in OTHERS[table]]
    leaves = st.one_of(own_filters(table), *attached)
    if depth == 0:
        return st.lists(leaves, max_size=3)
    inner = st.deferred(lambda: filter_lists(table, depth - 1))
    members = st.one_of(inner, leaves)
    exists = st.sampled_from(OTHERS[table]).flatmap(
        lambda other: st.fixed_dictionaries(
            {"exists": st.just(other)}, optional={"where": filter_lists(other, depth - 1)}
        )
    )
    groups = st.one_of(
        st.fixed_dictionaries({"any": st.lists(members, max_size=3)}),
        st.fixed_dictionaries({"all": st.lists(leaves, max_size=3)}),
        st.fixed_dictionaries({"not": members}),
        exists,
    )
    return st.lists(st.one_of(leaves, leaves, groups), max_size=4)


@pytest.fixture
def filled(store: Store) -> Scope:
    scope = Scope(store, "default")
    other = Scope(store, "another")
    for table, rows in ROWS.items():
        put(scope, table, rows)
        put(other, table, rows)
    return scope


TREES = st.sampled_from(sorted(TEXT_FIELDS)).flatmap(
    lambda table: st.tuples(st.just(table), filter_lists(table))
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tree=TREES)
def test_filters_keep_what_plain_python_keeps(filled: Scope, tree: tuple[str, Any]) -> None:
    table, filters = tree
    expected = model.passing(ROWS, table, filters)
    found = select(filled, table, filters, fields=["id"]).arrow()["id"].to_pylist()
    assert sorted(found) == sorted(expected)
    assert count(filled, table, filters) == len(expected)
