"""Lines that look alike become the same rows as others, and are refused for the same reasons."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from katiml.ingest.batch import Batch, prepare
from katiml.records import Layouts, parse_lines
from katiml.records.alike import _WORTHWHILE

COUNT = _WORTHWHILE + 8


def read(lines: list[bytes], layouts: Layouts | None) -> Batch:
    return prepare(parse_lines(b"\n".join(lines) + b"\n", 1, layouts), "default")


def content(batch: Batch) -> dict[str, Any]:
    """What a batch writes, with the place of its datapoint for an id."""
    places = (
        {
            id_: place
            for place, id_ in enumerate(sorted(batch.tables["datapoints"]["id"].to_pylist()))
        }
        if "datapoints" in batch.tables
        else {}
    )
    result: dict[str, Any] = {}
    for table, rows in batch.tables.items():
        assert len(set(rows["id"].to_pylist())) == rows.num_rows
        shown = []
        for row in rows.to_pylist():
            datapoint = places[row.pop("datapoint") if "datapoint" in row else row["id"]]
            row.pop("id")
            for name in ("metadata", "metrics"):
                if row.get(name) is not None:
                    row[name] = orjson.loads(row[name])
            for owner in ("groundtruth", "prediction"):
                row.pop(owner, None)
            kept = {name: value for name, value in row.items() if value is not None}
            shown.append((datapoint, repr(sorted(kept.items(), key=lambda item: item[0]))))
        result[table] = sorted(shown)
    return result


def same(lines: list[bytes]) -> Batch:
    """Reads lines both ways, and returns what came of it."""
    alike, usual = read(lines, Layouts()), read(lines, None)
    assert content(alike) == content(usual)
    assert (alike.created, alike.landed) == (usual.created, usual.landed)
    assert sorted(map(repr, alike.rejected)) == sorted(map(repr, usual.rejected))
    assert [[entry.line for entry in wave] for wave in alike.waves] == [
        [entry.line for entry in wave] for wave in usual.waves
    ]
    return alike


def columns(lines: list[bytes]) -> int:
    """How many of these lines are read as columns."""
    parsed = parse_lines(b"\n".join(lines), 1, Layouts())
    return sum(len(alike.lines) for alike in parsed.alike)


TEXTS = st.text(max_size=8) | st.sampled_from(
    ["", '"', "\\", "a\nb", "é", "\u2028", "null", "}],["]
)
NUMBERS = st.integers(-1_000, 10**17) | st.floats(-1e30, 1e30) | st.sampled_from([0, -0.0, 65_520])
# What is odd, or wrong, nearly everywhere.
ODD = (
    st.sampled_from(["\x00", "x" * 1_001, 10**19, 10**400, 3.5e38, float("nan"), [], {}, [[]]])
    | st.booleans()
    | st.none()
    | st.lists(NUMBERS | TEXTS | st.none(), max_size=3)
    | st.dictionaries(TEXTS, NUMBERS | st.none(), max_size=2)
    | TEXTS
    | NUMBERS
)


def maps(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of the same keys, so that their lines look alike."""
    return st.sampled_from([("a",), ("b.c", "é"), ("split", "a")]).flatmap(
        lambda keys: st.fixed_dictionaries(dict.fromkeys(keys, values))
    )


def lists(size: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(NUMBERS, min_size=size, max_size=size)


RECORD: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "request_id": TEXTS,
    "metadata": maps(TEXTS | NUMBERS | st.booleans() | lists(2) | maps(TEXTS)),
    "tags": maps(TEXTS) | maps(st.integers()) | maps(st.booleans()),
}
GROUNDTRUTH: dict[str, st.SearchStrategy[Any]] = {
    "class_name": TEXTS,
    "class_names": st.just(["a", "b"]),
    "top": NUMBERS,
    "height": NUMBERS,
    "metrics": maps(NUMBERS),
}
PREDICTION: dict[str, st.SearchStrategy[Any]] = {
    **GROUNDTRUTH,
    "model_name": TEXTS,
    "confidence": NUMBERS,
    "confidences": lists(2),
    "logits": lists(2),
    "embeddings": maps(lists(3)) | lists(3),
    "grad_embeddings": maps(lists(3)),
}
TASKS = st.sampled_from(["CLASSIFICATION", "NER", "SEMANTIC_SEGMENTATION", "LANE_DETECTION"])


@st.composite
def alternatives(
    draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]], odd: bool
) -> dict[str, list[Any]]:
    """Some fields, and a few values for each; where `odd`, one of them has strange ones too."""
    names = draw(st.lists(st.sampled_from(list(fields)), unique=True, max_size=5))
    pools = {name: draw(st.lists(fields[name], min_size=1, max_size=3)) for name in names}
    if odd and names:
        pools[draw(st.sampled_from(names))].append(draw(ODD))
    return pools


@st.composite
def kinds(draw: st.DrawFn) -> list[bytes]:
    """Lines with the same fields in the same order, and other values in them, mostly."""
    odd = draw(st.sampled_from([None, "record", "groundtruths", "predictions", "field"]))
    pools = draw(alternatives(RECORD, odd == "record"))
    parts: dict[str, dict[str, list[Any]]] = {}
    for table, fields in (("groundtruths", GROUNDTRUTH), ("predictions", PREDICTION)):
        if draw(st.booleans()):
            task = {"task_type": [draw(TASKS)]} if draw(st.integers(0, 9)) else {}
            parts[table] = task | draw(alternatives(fields, odd == table))
    field = draw(st.sampled_from(["id", "timestamp", "prediction", "unknown", "model_id"]))
    separators = draw(st.sampled_from([(", ", ": "), (",", ":")]))
    ascii_ = draw(st.booleans())
    value = draw(ODD)
    pick = random.Random(draw(st.integers(0, 1_000)))

    def one_of(pools: dict[str, list[Any]]) -> dict[str, Any]:
        return {name: pick.choice(pool) for name, pool in pools.items()}

    lines = []
    for number in range(COUNT):
        record = {"type": "IMAGE", **one_of(pools)}
        record |= {
            table: [one_of(own)] * pick.choice([1] * 19 + [2]) for table, own in parts.items()
        }
        if odd == "field" and number % 9 == 0:
            record[field] = value
        text = json.dumps(record, ensure_ascii=ascii_, separators=separators)
        lines.append(text.encode("utf-8", "surrogatepass"))
    return lines


@settings(max_examples=150, deadline=None)
@given(
    st.lists(kinds(), min_size=1, max_size=2),
    st.lists(st.binary(max_size=9), max_size=2),
    st.randoms(),
)
def test_lines_that_look_alike_are_read_as_any_others(groups, broken, order):
    lines = [line for group in groups for line in group]
    lines += [line.replace(b"\n", b" ").replace(b"\r", b" ") for line in broken]
    order.shuffle(lines)
    same(lines)


RICH = {
    "type": "IMAGE",
    "metadata": {
        "uri": "s3://b/1.jpg",
        "width": 640,
        "labels": ["a", 1, True],
        "roi": {"top": 0.5},
    },
    "tags": {"split": "train", "frame": 7, "night": False},
    "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": "cat"}],
    "predictions": [
        {
            "task_type": "CLASSIFICATION",
            "model_name": "m",
            "class_names": ["cat", "dog"],
            "logits": [0.5, -1.5],
            "embeddings": {"layer4": [1, 2.5, -3e-5]},
            "metrics": {"loss": 1},
        }
    ],
}


def dumped(record: dict[str, Any], count: int = COUNT) -> list[bytes]:
    """One record many times, with another uri and another text of class_name in each line."""
    record, lines = copy.deepcopy(record), []
    for number in range(count):
        record["metadata"]["uri"] = f"s3://b/{number}.jpg"
        record["groundtruths"][0]["class_name"] = f"cat {number} \\"
        lines.append(json.dumps(record).encode())
    return lines


def test_a_file_of_one_program_is_read_as_columns():
    lines = dumped(RICH)
    assert columns(lines) == COUNT
    assert columns([orjson.dumps(orjson.loads(line)) for line in lines]) == COUNT
    tables = same(lines).tables
    assert tables["groundtruths"]["class_name"][5].as_py() == "cat 5 \\"
    assert tables["tags"]["value"].to_pylist()[:3] == ["train", "7", "false"]
    assert tables["predictions"]["class_name"][0].as_py() == "cat"
    assert orjson.loads(tables["predictions"]["metrics"][0].as_py())["loss"] == 1.0


def test_few_lines_are_not_worth_it():
    assert columns(dumped(RICH, _WORTHWHILE - 1)) == 0


def test_two_programs_and_wrong_lines_keep_their_order():
    good, other = (
        dumped(RICH),
        [b'{"text": "%d", "type": "TEXT"}' % number for number in range(COUNT)],
    )
    lines = [line for pair in zip(good, other, strict=True) for line in pair]
    lines[10] = b"{"
    lines[13] = lines[13].replace(b'"text"', b'"txt"')
    lines[20] = lines[20].replace(b"-1.5", b"1e999")
    batch = same(lines)
    assert sorted(item.line for item in batch.rejected) == [11, 14, 21]
    assert columns(lines) == 2 * COUNT - 3
    rows = sorted(batch.tables["datapoints"].to_pylist(), key=lambda row: row["id"])
    kept = [
        orjson.loads(lines[number]) for number in range(len(lines)) if number not in (10, 13, 20)
    ]
    assert [row["type"] for row in rows] == [record["type"] for record in kept]


def test_files_in_which_no_line_is_like_another_are_not_studied_for_ever(monkeypatch):
    asked = []
    monkeypatch.setattr("katiml.records.alike.learn", lambda *_: asked.append(1))
    layouts = Layouts()
    for _ in range(9):
        lines = [b'{"type": "TEXT", "tags": {"%d": "a"}}' % number for number in range(COUNT)]
        assert len(parse_lines(b"\n".join(lines), 1, layouts).records) == COUNT
    assert 0 < len(asked) < 30


def test_what_was_learned_from_one_block_serves_the_next():
    layouts = Layouts()
    parse_lines(b"\n".join(dumped(RICH)), 1, layouts)
    (alike,) = parse_lines(b"\n".join(dumped(RICH, 3)), 100, layouts).alike
    assert list(alike.lines) == [100, 101, 102]
