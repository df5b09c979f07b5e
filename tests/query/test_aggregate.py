"""Counts, distinct values, names in use, and suggestions."""

from __future__ import annotations

from typing import Any

import pytest

from katiml.errors import InvalidFilter, InvalidInput
from katiml.query import (
    Collection,
    count,
    distinct,
    embedding_names,
    metric_names,
    model_names,
    suggest_fields,
    suggest_values,
    tag_names,
)
from katiml.store import Scope, Store
from tests.query.rows import f, put


@pytest.fixture
def filled(scope: Scope) -> Scope:
    a, b, _ = put(
        scope,
        "datapoints",
        [
            {
                "type": "IMAGE",
                "metadata": {"uri": "s3://x/it's.jpg", "width": 20, "size": {"w": 1}},
            },
            {"type": "IMAGE", "metadata": {"uri": "s3://x/b.jpg", "width": 3, "a.b": True}},
            {"type": "TEXT", "metadata": {"width": "wide", "100%": 1}},
        ],
    )
    put(
        scope,
        "tags",
        [
            {"datapoint": a, "name": "split", "value": "train"},
            {"datapoint": a, "name": "city", "value": "Rome"},
            {"datapoint": b, "name": "split", "value": "test"},
        ],
    )
    one, two = put(
        scope,
        "predictions",
        [
            {
                "datapoint": a,
                "model_name": "m2",
                "class_names": ["cat", "dog"],
                "metrics": {"entropy": 0.5, "note": "x", "distribution": {"sky": 3}},
            },
            {"datapoint": b, "model_name": "m1", "class_names": ["dog", "eel"], "metrics": {}},
        ],
    )
    put(
        scope,
        "bboxes",
        [
            {"datapoint": a, "prediction": one, "class_name": "x", "metrics": {"variance": 1}},
            {"datapoint": b, "groundtruth": two, "class_name": "y", "metrics": {"hidden": 1}},
        ],
    )
    put(
        scope,
        "feature_vectors",
        [
            {"datapoint": a, "prediction": one, "type": "EMBEDDINGS", "model_name": "m2:layer4"},
            {"datapoint": a, "prediction": one, "type": "LOGITS", "model_name": "m2"},
            {"datapoint": b, "prediction": two, "type": "EMBEDDINGS", "model_name": "m1:layer4"},
        ],
    )
    return scope


IMAGE_A = f("tags.value", "=", "Rome")


def test_count(filled: Scope) -> None:
    assert count(filled, "datapoints") == 3
    assert count(filled, "datapoints", f("type", "=", "IMAGE")) == 2
    # Two tags of one datapoint pass: it counts once.
    assert count(filled, "datapoints", f("tags.name", "in", ["split", "city"])) == 2


def test_distinct_values_of_any_field(filled: Scope) -> None:
    assert distinct(filled, "datapoints", "type") == ["IMAGE", "TEXT"]
    assert distinct(filled, "datapoints", "tags.name") == ["city", "split"]
    assert distinct(filled, "datapoints", "tags.value", f("type", "=", "TEXT")) == []
    assert distinct(filled, "datapoints", "metadata.width") == [3, 20, "wide"]
    assert distinct(filled, "datapoints", "metadata.size") == [{"w": 1}]
    assert distinct(filled, "predictions", "class_names") == ["cat", "dog", "eel"]
    assert distinct(filled, "predictions", "bboxes.class_name") == ["x"]
    assert distinct(filled, "datapoints", "bboxes.class_name") == ["x", "y"]
    assert distinct(filled, "predictions", "datapoints.type") == ["IMAGE"]
    assert distinct(filled, "datapoints", "text") == []


def test_distinct_in_pages(filled: Scope) -> None:
    names = Collection(filled, "predictions")
    assert names.distinct("class_names", limit=2) == ["cat", "dog"]
    assert names.distinct("class_names", limit=2, offset=2) == ["eel"]
    with pytest.raises(InvalidInput, match="limit"):
        names.distinct("class_names", limit=-1)
    with pytest.raises(InvalidFilter, match="bytes"):
        distinct(filled, "feature_vectors", "data")


def test_names_in_use(filled: Scope) -> None:
    assert model_names(filled) == ["m1", "m2"]
    assert model_names(filled, IMAGE_A) == ["m2"]
    assert model_names(filled, IMAGE_A, f("model_name", "=", "m1")) == []
    assert model_names(filled, None, f("class_names", "any", "eel")) == ["m1"]
    assert model_names(filled, limit=1, offset=1) == ["m2"]
    assert embedding_names(filled) == ["m1:layer4", "m2:layer4"]
    assert embedding_names(filled, IMAGE_A) == ["m2:layer4"]
    assert tag_names(filled) == ["city", "split"]
    assert tag_names(filled, f("type", "=", "TEXT")) == []
    assert metric_names(filled) == ["entropy", "variance"]
    assert metric_names(filled, f("tags.value", "=", "test")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metadata.", ["100%", '"a.b"', "size", "uri", "width"]),
        ("metadata.si", ["size"]),
        ("metadata.size.", ["size.w"]),
        ("METADATA.U", ["uri"]),
    ],
)
def test_suggested_keys_of_json(filled: Scope, text: str, expected: list[str]) -> None:
    names = [name for name in suggest_fields(filled, text) if name != "metadata"]
    assert sorted(names) == sorted(f"metadata.{key}" for key in expected)


def test_suggested_fields(filled: Scope) -> None:
    every = suggest_fields(filled, limit=1000)
    assert {"id", "metadata.uri", "predictions.metrics.entropy", "tags.name"} <= set(every)
    assert suggest_fields(filled, "tags.na") == ["tags.name"]
    assert suggest_fields(filled, "entropy") == ["predictions.metrics.entropy"]
    assert suggest_fields(filled, "zzz") == []
    # Those that start with the text come first.
    assert suggest_fields(filled, "type")[0] == "type"
    assert len(suggest_fields(filled, limit=3)) == 3
    assert "value" in suggest_fields(filled, "val", table="tags")


def test_every_suggested_field_makes_a_filter(filled: Scope) -> None:
    for name in suggest_fields(filled, limit=1000):
        assert count(filled, "datapoints", f(name, "is null")) >= 0


def test_suggested_values_make_filters_that_find_them(filled: Scope) -> None:
    for name, op in [
        ("metadata.uri", "="),
        ("metadata.width", "="),
        ('metadata."a.b"', "="),
        ('metadata."100%"', "="),
        ("type", "in"),
        ("tags.value", "="),
        ("predictions.class_names", "any"),
        ("predictions.metrics.entropy", "="),
        ("id", "="),
        ("created_at", "="),
    ]:
        values = suggest_values(filled, name)
        assert values, name
        for value in values:
            right = [value] if op == "in" else value
            assert count(filled, "datapoints", f(name, op, right)) > 0, (name, value)


def test_suggested_values_hold_the_text(filled: Scope) -> None:
    assert suggest_values(filled, "metadata.uri", "IT'S") == ["s3://x/it's.jpg"]
    assert suggest_values(filled, "metadata.width", 2) == [20]
    assert suggest_values(filled, "tags.value", "t") == ["test", "train"]
    assert suggest_values(filled, "tags.value", "%") == []
    assert len(suggest_values(filled, "tags.value", limit=1)) == 1
    assert suggest_values(filled, "value", "t", table="tags") == ["test", "train"]
    with pytest.raises(InvalidFilter, match="colour"):
        suggest_values(filled, "colour")


def test_another_organization_sees_nothing_of_it(store: Store) -> None:
    ours, theirs = Scope(store, "ours"), Scope(store, "theirs")
    (id,) = put(theirs, "datapoints", [{"type": "IMAGE", "metadata": {"secret": 1}}])
    put(theirs, "tags", [{"datapoint": id, "name": "secret", "value": "s"}])
    put(theirs, "predictions", [{"datapoint": id, "model_name": "m", "metrics": {"e": 1}}])
    put(theirs, "feature_vectors", [{"type": "EMBEDDINGS", "model_name": "m:l"}])
    found: list[Any] = [
        *(function(ours) for function in (model_names, embedding_names, metric_names, tag_names)),
        distinct(ours, "datapoints", "tags.value"),
        suggest_fields(ours, "secret"),
        suggest_values(ours, "tags.value"),
        suggest_values(ours, "metadata.secret"),
    ]
    assert found == [[]] * 8
