"""Lines and objects become records; whatever is sent, nothing is lost and nothing raises."""

import json
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from katiml.records import Parsed, Record, parse_lines, parse_objects
from katiml.records.parse import MAX_REJECTED_TEXT

GOOD = {
    "type": "IMAGE",
    "metadata": {"uri": "s3://b/1.jpg", "width": 640},
    "tags": {"split": "train"},
    "groundtruths": [{"task_type": "CLASSIFICATION", "class_name": "cat"}],
}
ID = "0190f0e0-0000-7000-8000-00000000000a"


def one(line: bytes | str | dict) -> Record:
    if isinstance(line, dict):
        line = json.dumps(line)
    parsed = parse_lines(line.encode() if isinstance(line, str) else line)
    assert not parsed.rejected, parsed.rejected
    assert len(parsed.records) == 1
    return parsed.records[0]


def metadata(record: Record) -> dict:
    return json.loads(bytes(record.metadata))


def test_a_record_keeps_every_field():
    record = one(
        {
            **GOOD,
            "id": ID.upper(),
            "organization_id": "acme",
            "parent_datapoint": ID.replace("-", ""),
            "request_id": "r1",
            "timestamp": "2024-02-03T04:05:06+01:00",
            "gps_coordinates": {"lat": 48, "long": 2.5},
        }
    )
    assert record.id == record.parent_datapoint == ID
    assert (record.organization_id, record.request_id, record.type) == ("acme", "r1", "IMAGE")
    assert metadata(record) == GOOD["metadata"]
    assert record.tags == {"split": "train"}
    assert record.timestamp == datetime(2024, 2, 3, 3, 5, 6, tzinfo=UTC)
    assert record.gps_coordinates == {"lat": 48, "long": 2.5}
    assert record.groundtruths[0].class_name == "cat"
    assert record.text is UNSET
    assert record.predictions is UNSET


def test_absent_and_null_are_told_apart():
    record = one({"id": ID, "tags": None, "metadata": None, "predictions": None})
    assert record.tags is None
    assert record.metadata is None
    assert record.predictions is None
    assert record.groundtruths is UNSET
    assert one({"id": ID}).metadata is UNSET


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_line_end_is_understood_and_empty_lines_are_counted(end):
    line = orjson.dumps(GOOD)
    block = end.join([line, b"", b"{", b"  ", line, b""])
    parsed = parse_lines(block, first_line=10)
    assert parsed.lines == [10, 14]
    assert [rejected.line for rejected in parsed.rejected] == [12]


def test_one_line_holds_one_record():
    two = b'{"type": "TEXT"}{"type": "TEXT"}'
    spread = b'{"type":\n"TEXT"}'
    parsed = parse_lines(two + b"\n" + spread)
    assert not parsed.records
    assert [rejected.line for rejected in parsed.rejected] == [1, 2, 3]


def test_an_empty_block_holds_nothing():
    assert parse_lines(b"") == Parsed()
    assert parse_lines(b"\n\r\n \n") == Parsed()
    assert parse_objects([]) == Parsed()


def test_a_byte_order_mark_is_passed_over():
    assert one(b"\xef\xbb\xbf" + orjson.dumps(GOOD)).type == "IMAGE"


BAD_LINES = [
    (b"7", "", "a record is an object, not a number"),
    (b"[]", "", "a record is an object, not a list"),
    (b"null", "", "a record is an object, not null"),
    (b'"text"', "", "a record is an object, not text"),
    (b'{"type": "IMAGE"', "", "not valid JSON"),
    (b'{"type": "IMAGE"}}', "", "not valid JSON"),
    (b'{"metadata": {}}', "type", "a new datapoint needs a type"),
    (b'{"type": null}', "type", "a new datapoint needs a type"),
    (b'{"type": "image"}', "type", "did you mean 'IMAGE'?"),
    (b'{"type": "PICTURE"}', "type", "unknown type 'PICTURE'"),
    (b'{"type": 3}', "type", "unknown type '3'"),
    (b'{"type": "IMAGE", "metadata": 3}', "metadata", "an object"),
    (b'{"type": "IMAGE", "metadata": []}', "metadata", "an object"),
    (b'{"type": "IMAGE", "metadata": {"a": NaN}}', "metadata.a", "nan is not a finite number"),
    (b'{"type": "IMAGE", "metadata": {"a": 1e999}}', "metadata.a", "inf is not a finite number"),
    (b'{"type": "IMAGE", "metadata": {"a": 1' + b"0" * 400 + b"}}", "metadata.a", "inf is"),
    (b'{"type": "IMAGE", "metadata": {"a": "x\\u0000"}}', "metadata.a", "NUL"),
    (b'{"type": "IMAGE", "metadata": {"a\\u0000": 1}}', "metadata.a\0", "NUL"),
    (b'{"type": "IMAGE", "metadata": {"a": "\\ud800"}}', "metadata.a", "surrogate"),
    (b'{"type": "TEXT", "text": "\\u0000"}', "text", "NUL"),
    (b'{"type": "TEXT", "text": "\xff"}', "", "not valid UTF-8 at byte 27"),
    (b'{"type": "TEXT", "text": 3}', "text", "expected text, got a number"),
    (b'{"type": "IMAGE", "tags": []}', "tags", "expected an object, got a list"),
    (b'{"type": "IMAGE", "tags": {"a": {"b": 1}}}', "tags.a", "a tag value is"),
    (b'{"type": "IMAGE", "tags": {"": "b"}}', "tags", "a tag needs a name"),
    (b'{"type": "IMAGE", "tags": {"a": Infinity}}', "tags.a", "inf is not a finite number"),
    (b'{"type": "IMAGE", "groundtruths": 3}', "groundtruths[0]", "an object is expected"),
    (b'{"type": "IMAGE", "x": 3}', "x", "unknown field 'x'"),
    (b'{"id": "7"}', "id", "'7' is not an id"),
    (b'{"id": ""}', "id", "'' is not an id"),
    (b'{"type": "IMAGE", "parent_datapoint": "x"}', "parent_datapoint", "'x' is not an id"),
    (b'{"type": "IMAGE", "timestamp": "soon"}', "timestamp", "'soon' is not a moment"),
    (b'{"type": "IMAGE", "timestamp": 1e300}', "timestamp", "is not a moment"),
    (b'{"type": "IMAGE", "gps_coordinates": {"lat": 91, "long": 0}}', "gps_coordinates.lat", "90"),
    (b'{"type": "IMAGE", "gps_coordinates": {"lat": 1}}', "gps_coordinates", "lat and long"),
    (b'{"type": "IMAGE", "_preprocessor": {"type": "x"}}', "_preprocessor.type", "patch_sample"),
    (
        b'{"type": "IMAGE", "_preprocessor": {"type": "patch_sample", "size": [0, 1]}}',
        "_preprocessor.size",
        "rows, columns",
    ),
    (b'{"type": "IMAGE", "metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001, "", "too deeply"),
    (b'{"type": "IMAGE", "metadata": {"a": ' + b"1" * 5000 + b"}}", "metadata.a", "inf is"),
]


@pytest.mark.parametrize(
    ("line", "path", "reason"), BAD_LINES, ids=[str(line[:60]) for line, _, _ in BAD_LINES]
)
def test_a_bad_line_is_rejected_alone_with_where_and_why(line, path, reason):
    good = orjson.dumps(GOOD)
    parsed = parse_lines(b"\n".join([good, line, good]))
    assert parsed.lines == [1, 3]
    assert [(item.line, item.path) for item in parsed.rejected] == [(2, path)]
    assert reason in parsed.rejected[0].reason
    assert parsed.rejected[0].record == line.decode(errors="replace")[:MAX_REJECTED_TEXT]


def test_the_text_of_a_rejected_record_is_cut():
    parsed = parse_lines(b"x" * 1_000_000)
    assert len(parsed.rejected[0].record) == MAX_REJECTED_TEXT


def test_metadata_nulls_are_dropped_at_every_depth_of_objects():
    sent = {"a": None, "b": {"c": None, "d": 1}, "e": [None, {"f": None}], "g": "null"}
    assert metadata(one({"type": "IMAGE", "metadata": sent})) == {
        "b": {"d": 1},
        "e": [None, {}],
        "g": "null",
    }


@pytest.mark.parametrize("text", ["é", "\u2028", "😀", "\\", '"', "\x7f", "e999", "0" * 400])
def test_text_arrives_unchanged(text):
    for ensure_ascii in (True, False):
        sent = {"type": "TEXT", "text": text, "metadata": {"a": text}, "tags": {"t": text}}
        record = one(json.dumps(sent, ensure_ascii=ensure_ascii))
        assert record.text == record.tags["t"] == metadata(record)["a"] == text


def test_tag_values_become_text():
    tags = {"a": True, "b": 1.0, "c": 7, "d": None, "e": "x", "f": 1e30}
    record = one({"type": "IMAGE", "tags": tags})
    assert record.tags == {"a": "true", "b": "1.0", "c": "7", "d": None, "e": "x", "f": "1e+30"}


@pytest.mark.parametrize(
    "moment",
    [1_700_000_000, 1_700_000_000_000, "1700000000", "2023-11-14T22:13:20Z", "2023-11-14 22:13:20"],
)
def test_moments_are_read_as_utc(moment):
    record = one({"type": "IMAGE", "timestamp": moment})
    assert record.timestamp == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert record.timestamp.tzinfo is UTC


def test_objects_may_hold_what_python_programs_have(tmp_path):
    parsed = parse_objects(
        [
            {
                "id": UUID(ID),
                "timestamp": datetime(2024, 1, 1),
                "metadata": {
                    "uri": tmp_path / "a.png",
                    "size": np.array([1, 2], np.int16),
                    "share": np.float32(0.5),
                    "on": datetime(2024, 1, 1),
                    "flag": np.bool_(True),
                    "embeddings": np.array([[1, 2]]),
                },
                "tags": {1: np.int64(3)},
                "groundtruths": (
                    {
                        "task_type": "OBJECT_DETECTION",
                        "bboxes": [
                            {
                                "top": np.float64(1),
                                "left": np.int8(2),
                                "coco_polygon": np.arange(6, dtype=np.float16),
                                "class_name": np.str_("cat"),
                            }
                        ],
                    },
                ),
            }
        ],
        first=5,
    )
    assert not parsed.rejected
    assert parsed.lines == [5]
    record = parsed.records[0]
    assert record.id == ID
    assert record.timestamp == datetime(2024, 1, 1, tzinfo=UTC)
    assert metadata(record) == {
        "uri": str(tmp_path / "a.png"),
        "size": [1, 2],
        "share": 0.5,
        "on": "2024-01-01T00:00:00",
        "flag": True,
        "embeddings": [[1, 2]],
    }
    assert record.tags == {"1": "3"}
    box = record.groundtruths[0].bboxes[0]
    assert (box.top, box.left, box.coco_polygon) == (1, 2, [0, 1, 2, 3, 4, 5])
    assert type(box.class_name) is str


def test_objects_are_not_changed():
    sent = {
        "prediction": {"class_name": "a", "bottom": 2, "top": 1},
        "type": "IMAGE",
        "metadata": {"a": None},
    }
    before = json.dumps(sent)
    assert parse_objects([sent]).records
    assert json.dumps(sent) == before


def loop() -> dict:
    value: dict = {"type": "IMAGE"}
    value["metadata"] = {"self": value}
    return value


@pytest.mark.parametrize(
    ("item", "path", "reason"),
    [
        (3, "", "not a number"),
        (object(), "", "not something else"),
        ({"type": "IMAGE", "metadata": {"a": {1, 2}}}, "metadata.a", "type set"),
        ({"type": "IMAGE", "metadata": {"a": float("nan")}}, "metadata.a", "nan"),
        ({"type": "IMAGE", "metadata": {"a": np.array([1, np.inf])}}, "metadata.a[1]", "inf"),
        ({"type": "IMAGE", "metadata": {"a": b"x"}}, "metadata.a", "type bytes"),
        ({"type": "IMAGE", "metadata": {"logits": [np.nan]}}, "metadata.logits[0]", "nan"),
        ({"type": "IMAGE", "tags": {"embeddings": np.nan}}, "tags.embeddings", "nan"),
        (
            {"type": "IMAGE", "gps_coordinates": {"logits": "\ud800"}},
            "gps_coordinates.logits",
            "half",
        ),
        ({"type": "IMAGE", "metadata": {"a": 1 + 2j}}, "metadata.a", "type complex"),
        ({"type": "IMAGE", "metadata": {(1, 2): 1}}, "metadata", "a field name of type tuple"),
        ({"type": "IMAGE", "metadata": {"a": "\udc80"}}, "metadata.a", "surrogate"),
        ({"type": "IMAGE", "metadata": {"a": 10**5000}}, "metadata.a", "too large"),
        (loop(), "", "nested too deeply"),
    ],
)
def test_a_bad_object_is_rejected_alone(item, path, reason):
    parsed = parse_objects([GOOD, item, GOOD])
    assert parsed.lines == [1, 3]
    rejected = parsed.rejected[0]
    assert rejected.line == 2
    assert reason in rejected.reason
    if reason != "nested too deeply":
        assert rejected.path == path


strange_numbers = [0, -1, 2**31, 2**70, 0.5, -1e300, float("nan"), float("inf")]
strange_texts = [
    "",
    "a",
    "é",
    "\0",
    "\ud800",
    "IMAGE",
    "CLASSIFICATION",
    "SEGMENTATION",
    ID,
    "AAAA",
]
strange_lists = [[], [[]], [None], [1, 2.5], [1, "a"], [[1, 2], [3]], [[0, 1], [2, 3]], [[[1.5]]]]
strange_lists += [["a", "b"], [{"id": ID}], [{"text": "x"}], [[[[[1]]]]]]
strange_objects = [{}, {"a": None}, {"a": {"b": 1}}, {"layer": [1, 2]}, {"a.b": 0.5}]
atoms = st.sampled_from(
    [None, True, *strange_numbers, *strange_texts, *strange_lists, *strange_objects]
)
json_values = (
    atoms | st.lists(atoms, max_size=3) | st.dictionaries(st.text(max_size=3), atoms, max_size=2)
)
field_names = st.sampled_from(
    [*Record.__struct_encode_fields__, "prediction", "groundtruth", "image_metadata", "tags.x"]
)
attachment_names = ["id", "task_type", "class_name", "class_names", "logits", "embeddings", "top"]
attachment_names += ["metrics", "metrics.x", "bboxes", "lanes", "completions", "bottom"]
attachment_names += ["segmentation_class_mask", "encoded_logits", "confidences"]
attachments = st.dictionaries(
    st.sampled_from(attachment_names),
    atoms | st.lists(st.dictionaries(st.sampled_from(["id", "top", "text"]), atoms), max_size=2),
    max_size=5,
)
strange_records = st.dictionaries(
    field_names, atoms | attachments | st.lists(attachments, max_size=2), max_size=5
)
lines = st.one_of(
    st.just(orjson.dumps(GOOD)),
    st.binary(max_size=40),
    strange_records.map(lambda value: json.dumps(value).encode()),
    json_values.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="replace")),
    st.integers(0, 200).map(lambda cut: orjson.dumps(GOOD)[:cut]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(lines, max_size=6), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_every_line_lands_or_is_rejected(sent, end):
    block = end.join(sent)
    parsed = parse_lines(block)
    expected = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    numbers = [number for number, line in enumerate(expected, 1) if line.strip()]
    landed = sorted([*parsed.lines, *(rejected.line for rejected in parsed.rejected)])
    assert landed == numbers
    assert len(parsed.records) == len(parsed.lines)
    good = orjson.dumps(GOOD)
    assert {n for n, line in enumerate(expected, 1) if line == good} <= set(parsed.lines)
    for record in parsed.records:
        assert record.metadata is UNSET or record.metadata is None or metadata(record) is not None


@settings(max_examples=200, deadline=None)
@given(st.lists(strange_records | json_values, max_size=4))
def test_every_object_lands_or_is_rejected(sent):
    parsed = parse_objects(sent)
    landed = sorted([*parsed.lines, *(rejected.line for rejected in parsed.rejected)])
    assert landed == list(range(1, len(sent) + 1))


@settings(max_examples=200, deadline=None)
@given(st.lists(strange_records, max_size=4))
def test_lines_and_objects_are_read_alike(sent):
    from_lines = parse_lines(b"\n".join(json.dumps(item).encode() for item in sent))
    from_objects = parse_objects(sent)
    assert from_lines.lines == from_objects.lines
    assert [msgspec.to_builtins(r, enc_hook=as_list) for r in from_lines.records] == [
        msgspec.to_builtins(r, enc_hook=as_list) for r in from_objects.records
    ]


def as_list(value):
    return value.tolist() if isinstance(value, np.ndarray) else json.loads(bytes(value))
