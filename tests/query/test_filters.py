"""Filters: the documented examples, binding to rows, operators, wrong filters, hostile texts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from katiml.errors import InvalidFilter
from katiml.query import compile_filters, count, select
from katiml.query.operators import OPERATORS, similar_to_regex
from katiml.schema import RECORD_TABLES
from katiml.store import Scope, Store
from tests.query.rows import f, put


def found(scope: Scope, table: str, filters: Any, key: str = "text") -> list[Any]:
    return sorted(select(scope, table, filters, fields=[key]).arrow()[key].to_pylist())


@pytest.fixture
def dogs(scope: Scope) -> Scope:
    """Three datapoints a, b, c; a and b have ground truths, tags and predictions."""
    a, b, _c = put(
        scope,
        "datapoints",
        [
            {"type": "IMAGE", "text": "a", "metadata": {"uri": "s3://x/a.jpg", "width": 10}},
            {"type": "IMAGE", "text": "b", "metadata": {"uri": "s3://x/b.png", "width": 20}},
            {"type": "TEXT", "text": "c"},
        ],
    )
    put(
        scope,
        "tags",
        [
            {"datapoint": a, "name": "split", "value": "train"},
            {"datapoint": a, "name": "source", "value": "stanford"},
            {"datapoint": b, "name": "split", "value": "stanford"},
            {"datapoint": b, "name": "source", "value": "train"},
        ],
    )
    truths = put(
        scope,
        "groundtruths",
        [
            {"datapoint": a, "task_type": "CLASSIFICATION", "class_name": "chihuahua"},
            {"datapoint": a, "task_type": "SEGMENTATION", "class_names": ["sky", "dog"]},
            {"datapoint": b, "task_type": "CLASSIFICATION", "class_name": "pug"},
        ],
    )
    predictions = put(
        scope,
        "predictions",
        [
            {
                "datapoint": a,
                "task_type": "CLASSIFICATION",
                "model_name": "m1",
                "class_name": "pug",
                "confidence": 0.4,
                "metrics": {"entropy": 0.9},
            },
            {
                "datapoint": b,
                "task_type": "CLASSIFICATION",
                "model_name": "m2",
                "class_name": "pug",
                "confidence": 0.9,
                "confidences": [0.1, 0.9],
                "metrics": {"entropy": 0.1},
            },
        ],
    )
    put(
        scope,
        "bboxes",
        [
            {"datapoint": a, "groundtruth": truths[0], "class_name": "nose"},
            {"datapoint": b, "prediction": predictions[1], "class_name": "tail"},
        ],
    )
    return scope


# -- the documentation's own -----------------------------------------------------------------


def test_datapoints_by_the_class_of_a_ground_truth(dogs: Scope) -> None:
    filters = [{"left": "groundtruths.class_name", "op": "=", "right": "chihuahua"}]
    assert found(dogs, "datapoints", filters) == ["a"]


def test_a_filter_on_an_attachment_does_not_filter_the_attachments_returned(dogs: Scope) -> None:
    rows = select(
        dogs,
        "datapoints",
        [{"left": "groundtruths.class_name", "op": "=", "right": "chihuahua"}],
        fields=["text", "groundtruths.*"],
    ).pandas()
    assert rows["text"].tolist() == ["a"]
    assert [truth["task_type"] for truth in rows["groundtruths"][0]] == [
        "CLASSIFICATION",
        "SEGMENTATION",
    ]


def test_all_segmentations_of_datapoints_with_a_tag(dogs: Scope) -> None:
    ids = found(dogs, "datapoints", [f("tags.name", "=", "source")], "id")
    filters = [f("datapoints", "in", ids), f("task_type", "=", "SEGMENTATION")]
    assert count(dogs, "groundtruths", filters) == 1


def test_documented_and_old_names_of_fields(dogs: Scope) -> None:
    (a,) = found(dogs, "datapoints", f("text", "=", "a"), "id")
    assert count(dogs, "predictions", f("datapoint", "=", a)) == 1
    assert count(dogs, "predictions", f("datapoints", "=", a)) == 1
    assert count(dogs, "predictions", f("datapoints.id", "=", a)) == 1
    assert count(dogs, "predictions", f("datapoint.type", "=", "IMAGE")) == 2
    assert found(dogs, "datapoints", f("prediction.class_name", "=", "pug")) == ["a", "b"]
    assert found(dogs, "datapoints", f("groundtruth.class_name", "=", "pug")) == ["b"]
    assert found(dogs, "datapoints", f("datapoints.id", "=", a)) == ["a"]
    assert found(dogs, "datapoints", f("image_metadata.uri", "=", "s3://x/a.jpg")) == ["a"]
    assert found(dogs, "datapoints", f(".metadata.uri", "=", "s3://x/a.jpg")) == ["a"]


def test_both_names_of_segmentation_find_it(dogs: Scope) -> None:
    for name in ("SEGMENTATION", "SEMANTIC_SEGMENTATION"):
        for op in ("=", "in", "any", "is", "like", "between"):
            right: Any = {"in": [name], "any": [name], "between": [name, name]}.get(op, name)
            assert count(dogs, "groundtruths", f("task_type", op, right)) == 1, op
            assert found(dogs, "datapoints", f("groundtruths.task_type", op, right)) == ["a"], op


# -- what binds to what ----------------------------------------------------------------------


def test_two_columns_of_a_table_speak_of_one_row(dogs: Scope) -> None:
    filters = [f("tags.name", "=", "split"), f("tags.value", "=", "train")]
    assert found(dogs, "datapoints", filters) == ["a"]
    assert found(dogs, "datapoints", filters[::-1]) == ["a"]


def test_repeated_columns_speak_of_one_row_each(dogs: Scope) -> None:
    pairs = [
        f("tags.name", "=", "split"),
        f("tags.value", "=", "stanford"),
        f("tags.name", "=", "source"),
        f("tags.value", "=", "train"),
    ]
    assert found(dogs, "datapoints", pairs) == ["b"]
    assert found(dogs, "datapoints", [pairs[0], pairs[2], pairs[1], pairs[3]]) == ["b"]
    # split = train and source = stanford, the other way round:
    crossed = [pairs[0], pairs[3], pairs[2], pairs[1]]
    assert found(dogs, "datapoints", crossed) == ["a"]


def test_a_column_named_once_speaks_of_the_first_row(dogs: Scope) -> None:
    filters = [
        f("tags.name", "=", "split"),
        f("tags.name", "=", "source"),
        f("tags.value", "=", "train"),
    ]
    assert found(dogs, "datapoints", filters) == ["a"]


def test_groups_bind_on_their_own(dogs: Scope) -> None:
    apart = [f("tags.name", "=", "split"), {"all": [f("tags.value", "=", "train")]}]
    assert found(dogs, "datapoints", apart) == ["a", "b"]
    either = {"any": [[f("tags.name", "=", "split"), f("tags.value", "=", "train")], []]}
    assert found(dogs, "datapoints", {"not": either}) == []


def test_exists_binds_every_filter_to_one_row(dogs: Scope) -> None:
    where = [f("confidence", ">", 0.3), f("confidence", "<", 0.5), f("predictions.id", "is not")]
    assert found(dogs, "datapoints", {"exists": "predictions", "where": where}) == ["a"]
    assert found(dogs, "datapoints", {"exists": "prediction"}) == ["a", "b"]
    assert found(dogs, "datapoints", {"not": {"exists": "tags"}}) == ["c"]
    inner = {"exists": "predictions", "where": {"exists": "bboxes"}}
    assert found(dogs, "datapoints", inner) == ["b"]


def test_datapoints_without_attachments_are_found_by_null(dogs: Scope) -> None:
    assert found(dogs, "datapoints", f("groundtruths.id", "is", None)) == ["c"]
    assert found(dogs, "datapoints", f("groundtruths.id", "is not null")) == ["a", "b"]
    # b's only ground truth has no class_names; c has no ground truth at all; one of a's has none.
    assert found(dogs, "datapoints", f("groundtruths.class_names", "is null")) == ["a", "b", "c"]


def test_attachments_of_attachments(dogs: Scope) -> None:
    assert found(dogs, "datapoints", f("bboxes.class_name", "=", "nose")) == ["a"]
    assert count(dogs, "groundtruths", f("bboxes.class_name", "=", "nose")) == 1
    assert count(dogs, "predictions", f("bboxes.class_name", "=", "nose")) == 0
    # Boxes of ground truths name no prediction: NOT must not lose rows to that.
    assert count(dogs, "predictions", {"not": f("bboxes.class_name", "=", "nose")}) == 2
    assert count(dogs, "bboxes", f("predictions.model_name", "=", "m2")) == 1
    assert count(dogs, "bboxes", {"not": f("predictions.model_name", "=", "m2")}) == 1
    assert count(dogs, "bboxes", f("datapoints.metadata.width", ">", 10)) == 1
    assert count(dogs, "predictions", f("tags.value", "=", "train")) == 2
    assert count(dogs, "predictions", f("groundtruths.class_name", "=", "chihuahua")) == 1


# -- operators -------------------------------------------------------------------------------


def test_json_compares_by_the_type_of_the_right_side(scope: Scope) -> None:
    values = [3, "3", 3.5, "x", True, "true", None, [1, "x"], {"a": 1}]
    put(scope, "datapoints", [{"text": repr(v), "metadata": {"v": v}} for v in values])

    def rows(op: str, right: Any) -> list[str]:
        return found(scope, "datapoints", f("metadata.v", op, right))

    assert rows("=", 3) == ["'3'", "3"]
    assert rows("=", "3") == ["'3'", "3"]
    assert rows(">", 3) == ["3.5"]
    assert rows("!=", 3) == ["3.5"]
    assert rows("=", True) == ["True"]
    assert rows("=", "true") == ["'true'", "True"]
    assert rows("in", [3, "x"]) == ["'3'", "'x'", "3"]
    assert rows("any", "x") == ["'x'", "[1, 'x']"]
    assert rows("any", [1]) == ["[1, 'x']"]
    assert rows("contains", ["x", "1"]) == ["[1, 'x']"]
    assert rows("=", [1, "x"]) == ["[1, 'x']"]
    assert rows("=", {"a": 1}) == ["{'a': 1}"]
    assert rows("is", None) == ["None"]
    assert rows("is", True) == ["True"]
    assert len(rows("is not", True)) == 8
    assert rows("like", "%3%") == ["'3'", "3", "3.5"]


def test_json_paths_reach_any_key(scope: Scope) -> None:
    put(
        scope,
        "datapoints",
        [{"metadata": {"a.b": 1, 'q"': 2, "a/b": 3, "~": 4, "l": [5, {"x": 6}], "": 7, "é ü": 8}}],
    )
    for name, value in {
        'metadata."a.b"': 1,
        'metadata."q\\""': 2,
        'metadata."q"""': 2,
        "metadata.a/b": 3,
        "metadata.~": 4,
        "metadata.l[0]": 5,
        "metadata.l.0": 5,
        "metadata.l[1].x": 6,
        'metadata.""': 7,
        "metadata.é ü": 8,
    }.items():
        assert count(scope, "datapoints", f(name, "=", value)) == 1, name
        assert count(scope, "datapoints", f(name, "=", value + 1)) == 0, name


def test_whole_numbers_past_the_precision_of_floats(scope: Scope) -> None:
    put(scope, "datapoints", [{"metadata": {"ns": 1_700_000_000_000_000_001}}])
    assert count(scope, "datapoints", f("metadata.ns", "=", 1_700_000_000_000_000_001)) == 1
    assert count(scope, "datapoints", f("metadata.ns", "=", 1_700_000_000_000_000_000)) == 0
    assert count(scope, "datapoints", f("metadata.ns", ">", 1_700_000_000_000_000_000)) == 1
    assert count(scope, "datapoints", f("metadata.ns", "<", 10**40)) == 1


def test_the_text_nan_is_no_number(scope: Scope) -> None:
    put(scope, "datapoints", [{"metadata": {"v": "NaN"}}, {"metadata": {"v": 2}}])
    for op, right in [(">", 1), (">=", 1), ("<", 3), ("between", [1, 3]), ("!=", 1), ("in", [2])]:
        assert count(scope, "datapoints", f("metadata.v", op, right)) == 1, op
        assert count(scope, "datapoints", {"not": f("metadata.v", op, right)}) == 0, op
    assert count(scope, "datapoints", f("metadata.v", ">", float("inf"))) == 0


def test_ids_that_are_no_uuid_match_nothing_and_harm_nothing(dogs: Scope) -> None:
    (a,) = found(dogs, "datapoints", f("text", "=", "a"), "id")
    assert found(dogs, "datapoints", f("id", "=", a.upper())) == ["a"]
    assert found(dogs, "datapoints", f("id", "=", UUID(a))) == ["a"]
    assert found(dogs, "datapoints", f("id", "=", "bohuih-156njb-nnouho")) == []
    assert found(dogs, "datapoints", f("id", "!=", "bohuih-156njb-nnouho")) == ["a", "b", "c"]
    assert found(dogs, "datapoints", f("id", "in", [a, "x"])) == ["a"]
    assert found(dogs, "datapoints", f("id", "not in", [a, "x"])) == ["b", "c"]
    assert found(dogs, "datapoints", f("id", "not in", ["x"])) == ["a", "b", "c"]
    assert found(dogs, "datapoints", f("id", "like", f"{a[:8]}%"))[0] == "a"
    assert found(dogs, "datapoints", f("id", ">=", a)) == ["a", "b", "c"]


def test_long_lists(dogs: Scope) -> None:
    ids = found(dogs, "datapoints", f("text", "in", ["a", "b"]), "id")
    many = [*ids, *(str(uuid4()) for _ in range(2000))]
    assert found(dogs, "datapoints", f("id", "in", many)) == ["a", "b"]
    assert found(dogs, "datapoints", f("id", "in", np.array([*many, "junk"]))) == ["a", "b"]
    assert found(dogs, "datapoints", f("id", "not in", [*many, None])) == ["c"]
    assert found(dogs, "datapoints", f("id", "not in", ["junk"] * 20)) == ["a", "b", "c"]
    assert found(dogs, "datapoints", f("metadata.width", "in", list(range(15)))) == ["a"]
    mixed = [*range(11, 30), "s3://x/a.jpg", True]
    assert found(dogs, "datapoints", f("metadata.uri", "in", mixed)) == ["a"]
    assert found(dogs, "datapoints", f("metadata.width", "in", mixed)) == ["b"]
    assert count(dogs, "predictions", f("confidence", "in", np.linspace(0, 1, 11))) == 2


def test_empty_lists(dogs: Scope) -> None:
    assert count(dogs, "datapoints", f("id", "in", [])) == 0
    assert count(dogs, "datapoints", f("id", "not in", [])) == 3
    assert count(dogs, "datapoints", f("tags.value", "in", [])) == 0
    assert count(dogs, "datapoints", {"any": []}) == 0
    assert count(dogs, "datapoints", {"all": []}) == 3


def test_times_compare_with_iso_texts_unix_times_and_datetimes(scope: Scope) -> None:
    moments = ["2024-05-01T12:00:00Z", "2024-05-01T12:00:00.001Z", "2025-01-01T00:00:00Z"]
    put(scope, "datapoints", [{"text": str(i), "timestamp": t} for i, t in enumerate(moments)])

    def rows(op: str, right: Any) -> list[str]:
        return found(scope, "datapoints", f("timestamp", op, right))

    assert rows("=", "2024-05-01T14:00:00+02:00") == ["0"]
    assert rows("=", "2024-05-01 12:00:00") == ["0"]
    assert rows("=", 1714564800) == ["0"]
    assert rows("=", 1714564800001) == ["1"]
    assert rows("=", 1714564800.001) == ["1"]
    assert rows(">", datetime(2024, 6, 1, tzinfo=UTC)) == ["2"]
    assert rows(">", "2024-06-01") == ["2"]
    assert rows("between", ["2024-01-01", "2024-12-31"]) == ["0", "1"]
    assert rows("in", ["2024-05-01T12:00:00Z", "2025-01-01"]) == ["0", "2"]
    assert rows("like", "2024-05-01T12:00:00.001Z") == ["1"]
    with pytest.raises(InvalidFilter, match="moment"):
        rows(">", "yesterday")


def test_list_columns(dogs: Scope) -> None:
    def rows(field: str, op: str, right: Any) -> int:
        return count(
            dogs, "groundtruths" if "names" in field else "predictions", f(field, op, right)
        )

    assert rows("class_names", "any", "dog") == 1
    assert rows("class_names", "= any", ["cat", "sky"]) == 1
    assert rows("class_names", "contains", ["dog", "sky"]) == 1
    assert rows("class_names", "contains", ["dog", "cat"]) == 0
    assert rows("class_names", "=", ["sky", "dog"]) == 1
    assert rows("class_names", "=", ["dog", "sky"]) == 0
    assert rows("class_names", "in", [["sky", "dog"], ["x"]]) == 1
    assert rows("confidences", "any", 0.9) == 1
    assert rows("confidences", "=", [0.1, 0.9]) == 1
    with pytest.raises(InvalidFilter, match="list"):
        rows("class_names", "=", "dog")
    with pytest.raises(InvalidFilter, match="like"):
        rows("class_names", "like", "dog")


def test_numbers_and_texts_read_as_what_the_column_holds(dogs: Scope) -> None:
    assert count(dogs, "predictions", f("confidence", "=", "0.9")) == 1
    assert count(dogs, "predictions", f("confidence", ">", np.float32(0.5))) == 1
    assert count(dogs, "predictions", f("confidence", "like", "0.%")) == 2
    put(dogs, "tags", [{"name": "n", "value": "3"}, {"name": "n", "value": "true"}])
    assert count(dogs, "tags", f("value", "=", 3)) == 1
    assert count(dogs, "tags", f("value", "=", True)) == 1
    assert count(dogs, "tags", f("value", "in", [3, np.int64(4)])) == 1
    with pytest.raises(InvalidFilter, match="number"):
        count(dogs, "predictions", f("confidence", "=", "high"))
    with pytest.raises(InvalidFilter, match="number"):
        count(dogs, "predictions", f("confidence", "=", True))


SPELLED: list[tuple[str, Any, list[str]]] = [
    ("LIKE", "s3%", ["a", "b"]),
    ("  not   Like ", "%.jpg", ["b"]),
    ("ILIKE", "%.JPG", ["a"]),
    ("NOT ILIKE", "%.JPG", ["b"]),
    ("Similar To", "s3://x/(a|c)._pg", ["a"]),
    ("not similar to", "s3://x/(a|c)._pg", ["b"]),
    ("~", r"a\.jp", ["a"]),
    ("!~", r"a\.jp", ["b"]),
    ("~*", r"A\.JP", ["a"]),
    ("!~*", r"A\.JP", ["b"]),
    ("regexp", "png$", ["b"]),
    ("<>", "s3://x/a.jpg", ["b"]),
    ("==", "s3://x/a.jpg", ["a"]),
    ("IS DISTINCT FROM", "s3://x/a.jpg", ["b", "c"]),
    ("is not distinct from", None, ["c"]),
    ("IS NULL", None, ["c"]),
    ("notnull", None, ["a", "b"]),
    ("between", ["s3://x/a", "s3://x/b"], ["a"]),
    ("Not Between", ["s3://x/a", "s3://x/b"], ["b"]),
    ("=", None, []),
    ("!=", None, []),
]


def test_operators_in_any_spelling(dogs: Scope) -> None:
    for spelled, right, expected in SPELLED:
        assert found(dogs, "datapoints", f("metadata.uri", spelled, right)) == expected, spelled


def test_is_null_needs_no_right(dogs: Scope) -> None:
    assert found(dogs, "datapoints", {"left": "metadata", "op": "is null"}) == ["c"]


def test_like_takes_a_backslash_as_postgresql_does(scope: Scope) -> None:
    put(scope, "tags", [{"value": v} for v in ("50%", "50x", "a\\b", "a_b", "axb")])
    assert found(scope, "tags", f("value", "like", "50\\%"), "value") == ["50%"]
    assert found(scope, "tags", f("value", "like", "a\\_b"), "value") == ["a_b"]
    assert found(scope, "tags", f("value", "like", "a\\\\b"), "value") == ["a\\b"]
    with pytest.raises(InvalidFilter, match="backslash"):
        count(scope, "tags", f("value", "like", "a\\"))


@pytest.mark.parametrize(
    ("pattern", "regex"),
    [
        ("a.c", "a\\.c"),
        ("[a.]%", "[a.].*"),
        ("[[]", "[\\[]"),
        ("\\%", "%"),
        ("^a$", "\\^a\\$"),
        ("a{2}", "a{2}"),
    ],
)
def test_similar_to_has_its_own_wildcards(pattern: str, regex: str) -> None:
    assert similar_to_regex(pattern) == regex


# -- wrong filters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "message", "hint"),
    [
        (f("colour", "=", 1), "unknown field 'colour'", "fields of datapoints: id"),
        (f("metdata.uri", "=", 1), "unknown field", "did you mean 'metadata'"),
        (f("groundtruths.clas_name", "=", 1), "unknown field", "groundtruths.class_name"),
        (f("tags.split", "=", "train"), "unknown field", "tags.name"),
        (f("predictions.bboxes.class_name", "=", 1), "unknown field", "bboxes.class_name"),
        (f("groundtruths", "=", 1), "a table", "groundtruths.id"),
        (f("id", "=>", 1), "operator '=>'", "operators are: ="),
        (f("id", "liek", 1), "operator", "did you mean 'like'"),
        (f("id", None, 1), "operator None", "operators are"),
        (f("metadata..uri", "=", 1), "dotted name", "quotes"),
        (f('metadata."uri', "=", 1), "dotted name", "quotes"),
        (f("", "=", 1), "dotted name", ""),
        (f(3, "=", 1), "not 3", "fields of datapoints"),  # type: ignore[arg-type]
        ({"left": "id", "op": "="}, "nothing to compare", "right"),
        ({"left": "id", "right": 1}, "no op", "left, op and right"),
        ({"left": "id", "op": "=", "rihgt": 1}, "'rihgt'", "left, op and right"),
        ({"op": "=", "right": 1}, "not a filter", "any, all, not"),
        ({"any": [], "all": []}, "not a filter", "any, all, not"),
        ({"any": {}}, "not a list", "a filter is"),
        ({"exists": "colours"}, "'colours'", "tables are: tags"),
        ({"exists": "uploads"}, "'uploads'", "tables are: tags"),
        ("type = IMAGE", "not a list of filters", "a filter is"),
        (["type = IMAGE"], r"filters\[0\] is 'type = IMAGE'", "a filter is"),
        (f("id", "in", "abc"), "wants a list", "'right': [...]"),
        (f("metadata.w", "between", [1]), "lowest, highest", "both bounds"),
        (f("metadata.w", "between", [1, "a"]), "not of one type", "two numbers"),
        (f("text", "=", "a\x00b"), "NUL", "equal"),
        (f("text", "in", ["a", "\x00"]), "NUL", "equal"),
        (f("text", "=", float("nan")), "NaN", "is null"),
        (f("text", "in", [1, np.nan]), "NaN", "is null"),
        (f("text", "=", ["a"]), "cannot be compared", "'in'"),
        (f("text", "=", {"a": 1}), "cannot be compared", "'in'"),
        (f("text", "=", object()), "not a literal", "a text, a number"),
        (f("text", "=", b"x"), "not a literal", "a text, a number"),
        (f("text", "=", "\ud800"), "surrogate", "Unicode"),
        (f("text", "regexp", "("), "not a regular expression", "RE2"),
        (f("text", "similar to", "(a"), "not a regular expression", "RE2"),
        (f("text", "contains", "a"), "holds no list", "like"),
        (f("feature_vectors.data", "=", "a"), "raw bytes", "is null"),
        ([{"any": [f("type", "=", 1), f("x", "=", 1)]}], r"filters\[0\].any\[1\]", "fields"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(filters: Any, message: str, hint: str) -> None:
    with pytest.raises(InvalidFilter, match=message) as raised:
        compile_filters("datapoints", filters)
    assert hint in (raised.value.hint or "")


def test_trees_are_bounded() -> None:
    deep: Any = f("type", "=", "IMAGE")
    for _ in range(30):
        deep = {"not": deep}
    with pytest.raises(InvalidFilter, match="nested"):
        compile_filters("datapoints", deep)
    with pytest.raises(InvalidFilter, match="limit of 500"):
        compile_filters("datapoints", [f("type", "=", "IMAGE")] * 501)


def test_the_largest_tree_runs(dogs: Scope) -> None:
    wide = [{"any": [f("text", "=", str(i)), f("text", "=", "a")]} for i in range(160)]
    assert found(dogs, "datapoints", wide) == ["a"]
    deep: Any = f("text", "=", "a")
    for _ in range(9):
        deep = {"all": [{"any": [deep]}]}
    assert found(dogs, "datapoints", deep) == ["a"]
    attached = [f("tags.value", "=", "train")] * 50
    assert found(dogs, "datapoints", attached) == ["a", "b"]


# -- hostile texts ---------------------------------------------------------------------------

HOSTILE = [
    "'; DROP TABLE lake.datapoints; --",
    "x' OR '1'='1",
    '" OR 1=1 --',
    "1) OR (1=1",
    "$organization_id",
    "$f0",
    "{datapoints}",
    "{{",
    "}",
    "lake.datapoints",
    "(SELECT id FROM lake.datapoints)",
    "/* */",
    "%s ? :x",
    "\\",
]


def test_a_text_on_the_right_is_only_a_text(dogs: Scope) -> None:
    put(dogs, "datapoints", [{"text": text, "metadata": {"uri": text}} for text in HOSTILE])
    for text in HOSTILE:
        for field in ("text", "metadata.uri"):
            assert found(dogs, "datapoints", f(field, "=", text)) == [text]
            assert found(dogs, "datapoints", f(field, "in", [text, "zzz"])) == [text]
            assert text in found(dogs, "datapoints", f(field, ">=", text))
        assert found(dogs, "datapoints", f("id", "=", text)) == []
        assert found(dogs, "datapoints", f("tags.value", "=", text)) == []
    assert count(dogs, "datapoints") == 3 + len(HOSTILE)


def test_a_text_as_a_key_is_only_a_key(dogs: Scope) -> None:
    texts = HOSTILE
    put(dogs, "datapoints", [{"text": "new", "metadata": dict.fromkeys(texts, "here")}])
    for text in texts:
        key = 'metadata."' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        assert found(dogs, "datapoints", f(key, "=", "here")) == ["new"]
        rows = select(dogs, "datapoints", f(key, "=", "here"), fields=[key], order_by=key, limit=9)
        assert rows.arrow()[key].to_pylist() == ['"here"']
        assert b"here" in b"".join(rows.json())
        owners = select(dogs, "tags", fields=[f"datapoints.{key}"]).pandas()
        assert [list(row[0].values()) for row in owners["datapoints"]] == [[None]] * 4
    assert found(dogs, "datapoints", f('metadata."\x00"', "=", "here")) == []
    assert count(dogs, "datapoints") == 4


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_in_another_place_is_refused(text: str) -> None:
    for filters in (f(text, "=", "x"), f("text", text, "x"), {"exists": text}, {text: []}):
        with pytest.raises(InvalidFilter):
            compile_filters("datapoints", filters)


# -- organizations ---------------------------------------------------------------------------


def test_filters_reach_no_other_organization(store: Store) -> None:
    ours, theirs = Scope(store, "ours"), Scope(store, "theirs")
    (id,) = put(ours, "datapoints", [{"text": "ours"}])
    put(theirs, "datapoints", [{"id": id, "text": "theirs"}])
    # An attachment of theirs that names our datapoint.
    put(theirs, "tags", [{"datapoint": id, "name": "stolen", "value": "x"}])
    put(theirs, "groundtruths", [{"datapoint": id, "class_name": "stolen"}])
    for filters in (
        f("tags.name", "=", "stolen"),
        {"exists": "groundtruths"},
        f("organization_id", "=", "theirs"),
        {"any": [f("tags.value", "=", "x"), f("groundtruths.class_name", "like", "%")]},
    ):
        assert count(ours, "datapoints", filters) == 0
    assert found(ours, "datapoints", {"not": f("tags.name", "=", "stolen")}) == ["ours"]
    rows = select(ours, "datapoints", fields=["text", "tags.*", "groundtruths.*"]).pandas()
    assert rows.to_dict("records") == [{"text": "ours", "tags": [], "groundtruths": []}]


def test_every_operator_means_something_on_some_column_of_every_table(scope: Scope) -> None:
    for table in RECORD_TABLES:
        field = "metadata.x" if table == "datapoints" else "datapoints.metadata.x"
        for op in OPERATORS:
            right: Any = ["a", "b"] if op.endswith(("in", "between")) else "a"
            assert count(scope, table, f(field, op, right)) == 0, (table, op)
