"""Undo: what it brings back, what it leaves alone and says so, in both homes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from katiml.errors import Conflict, InvalidInput, NotFound
from katiml.lake import Lake

from .conftest import Writer


def prediction(**fields: Any) -> dict[str, Any]:
    return {"task_type": "CLASSIFICATION", "model_name": "m", "logits": [1.0, 0.0], **fields}


def test_undo_twice_goes_back_twice(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(tags={"a": "1"})
    writer.send({"id": id_, "tags": {"a": "2"}})
    writer.send({"id": id_, "tags": {"a": "3"}})
    seen = []
    for _ in range(3):
        lake.undo()
        seen.append(writer.tags())
    assert seen == [["2"], ["1"], []]
    assert lake.datapoints.count() == 0
    with pytest.raises(NotFound, match="no change to undo"):
        lake.undo()


def test_an_undo_can_be_undone(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(tags={"a": "1"})
    change = writer.send({"id": id_, "tags": {"a": "2"}})
    first = lake.undo()
    again = lake.undo(first.change)
    assert writer.tags() == ["2"]
    assert again.undoes[0]["kind"] == "undo"
    # The change stands again, and is undone like any other.
    assert lake.undo(change).change is not None
    assert writer.tags() == ["1"]
    with pytest.raises(Conflict, match="undone already"):
        lake.undo(change)


def test_what_a_dry_run_says_is_what_happens(lake: Lake, writer: Writer) -> None:
    writer.new(3, tags={"a": "1"}, predictions=[prediction(embeddings=[1, 2])])
    lake.datapoints.delete(all=True)
    before = lake.changes()
    preview = lake.undo(dry_run=True)
    assert preview.dry_run
    assert preview.change is None
    assert lake.datapoints.count() == 0
    assert lake.changes().equals(before)
    result = lake.undo()
    assert result.restored == preview.restored
    assert result.restored == {
        "datapoints": 3,
        "tags": 3,
        "predictions": 3,
        "feature_vectors": 6,
    }
    assert "change 3 undid 2 (delete)" in str(result)
    assert "would undo 2 (delete)" in str(preview)


def test_a_delete_comes_back_whole(lake: Lake, writer: Writer) -> None:
    truth = {
        "task_type": "OBJECT_DETECTION",
        "bboxes": [{"class_name": "car", "top": 0, "left": 0, "height": 1, "width": 1}],
    }
    writer.new(tags={"a": "1"}, groundtruths=[truth], predictions=[prediction()])
    tables = ("datapoints", "tags", "groundtruths", "predictions", "bboxes", "feature_vectors")
    before = {name: writer.rows(name) for name in tables}
    lake.datapoints.delete(all=True)
    lake.undo()
    assert {name: writer.rows(name) for name in tables} == before


@pytest.mark.parametrize("table", ["predictions", "bboxes", "feature_vectors", "groundtruths"])
def test_any_table_comes_back(lake: Lake, writer: Writer, table: str) -> None:
    boxes = [{"class_name": "car", "top": 0, "left": 0, "height": 1, "width": 1}]
    truth = {"task_type": "OBJECT_DETECTION", "bboxes": boxes}
    writer.new(2, groundtruths=[truth], predictions=[prediction(bboxes=boxes)])
    before = writer.rows(table)
    getattr(lake, table).delete(all=True)
    assert getattr(lake, table).count() == 0
    lake.undo()
    assert writer.rows(table) == before


def test_later_changes_are_left_alone(lake: Lake, writer: Writer) -> None:
    one, two, three = writer.new(3, tags={"a": "1"})
    change = writer.send(*({"id": id_, "tags": {"a": "2"}} for id_ in (one, two, three)))
    writer.send({"id": one, "tags": {"a": "3"}})
    writer.send({"id": two, "tags": {"a": None}})
    result = lake.undo(change)
    assert writer.tags() == ["1", "3"]
    assert result.restored == {"tags": 1}
    reasons = {skipped.reason: skipped.rows for skipped in result.skipped}
    assert reasons == {"changed since": 1, "deleted since": 1}


def test_datapoints_that_others_labelled_stay(lake: Lake, writer: Writer) -> None:
    used, unused = writer.new(2, text="x", tags={"a": "1"})
    truth = {"task_type": "CLASSIFICATION", "class_name": "cat"}
    writer.send({"id": used, "groundtruths": [truth]})
    result = lake.undo(1)
    assert list(lake.datapoints.select()["id"]) == [used]
    assert list(lake.tags.select()["datapoint"]) == [used]
    assert result.removed == {"datapoints": 1, "tags": 1}
    assert [(one.table, one.rows) for one in result.skipped] == [("datapoints", 1)]
    assert unused != used


def test_datapoints_whose_text_others_changed_stay(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(text="x", tags={"a": "1"})
    writer.send({"id": id_, "text": "y"})
    result = lake.undo(1)
    assert result.is_empty
    assert result.change is None
    assert writer.tags() == ["1"]
    assert lake.changes()["undone_by"].isna().all()


def test_predictions_that_were_replaced_do_not_come_back(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(predictions=[prediction()])
    writer.send({"id": id_, "predictions": [prediction(logits=[0.0, 5.0])]})
    result = lake.undo()
    assert lake.predictions.count() == 0
    assert any("not kept" in skipped.reason for skipped in result.skipped)


def test_a_patched_prediction_is_left_as_it_is(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(predictions=[prediction(embeddings=[1, 2])])
    row = lake.predictions.select()["id"].item()
    writer.send({"id": id_, "predictions": [{"id": row, "metrics": {"x": 1}}]})
    result = lake.undo()
    assert lake.predictions.select()["metrics"].item()["x"] == 1
    assert lake.feature_vectors.count() == 2
    assert "patched" in result.skipped[0].reason


def test_a_patched_ground_truth_comes_back_with_its_boxes(lake: Lake, writer: Writer) -> None:
    box = {"top": 0, "left": 0, "height": 1, "width": 1}
    truth = {"task_type": "OBJECT_DETECTION", "bboxes": [{**box, "class_name": "car"}]}
    (id_,) = writer.new(groundtruths=[truth])
    row = lake.groundtruths.select()["id"].item()
    patch = {"id": row, "class_name": "x", "bboxes": [{**box, "class_name": "dog"}]}
    change = writer.send({"id": id_, "groundtruths": [patch]})
    assert list(lake.bboxes.select()["class_name"]) == ["dog"]
    lake.undo(change)
    assert list(lake.bboxes.select()["class_name"]) == ["car"]
    assert lake.groundtruths.select()["class_name"].item() is None


def test_boxes_of_what_was_relabelled_since_stay_deleted(lake: Lake, writer: Writer) -> None:
    box = {"top": 0, "left": 0, "height": 1, "width": 1}
    truth = {"task_type": "OBJECT_DETECTION", "bboxes": [{**box, "class_name": "car"}]}
    (id_,) = writer.new(groundtruths=[truth])
    row = lake.groundtruths.select()["id"].item()
    lake.bboxes.delete(all=True)
    change = writer.last()
    writer.send(
        {"id": id_, "groundtruths": [{"id": row, "bboxes": [{**box, "class_name": "dog"}]}]}
    )
    result = lake.undo(change)
    assert list(lake.bboxes.select()["class_name"]) == ["dog"]
    assert [(one.table, one.reason) for one in result.skipped] == [
        ("bboxes", "what they belong to was changed since")
    ]


def test_an_upload_is_undone_as_one(
    lake: Lake, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("katiml.ingest.worker._BATCH_RECORDS", 50)
    lines = b"".join(b'{"type": "TEXT", "tags": {"n": "%d"}}\n' % n for n in range(200))
    lines = lines * 300  # more than one block
    upload = lake.ingest(lines).wait()
    changes = lake.changes(None, upload=upload.id)
    assert len(changes) > 1
    writer.new(tags={"n": "other"})
    assert lake.undo(upload.id).removed["datapoints"] == 60_000
    assert writer.tags() == ["other"]
    lake.undo(writer.last())
    assert lake.datapoints.count() == 60_001
    lake.undo()  # the last change that stands is the other one
    assert lake.datapoints.count() == 60_000
    assert lake.undo().removed["datapoints"] == 60_000


def test_patches_of_patches_come_and_go_together(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(text="x")
    writer.send({"type": "TEXT", "parent_datapoint": id_})
    lake.datapoints.delete({"left": "id", "op": "=", "right": id_})
    assert lake.datapoints.count() == 0
    lake.undo()
    assert lake.datapoints.count() == 2
    # The source was there before its patch, which is the work of others.
    assert lake.undo(1).is_empty
    lake.undo(2)
    lake.undo(1)
    assert lake.datapoints.count() == 0


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (99, NotFound),
        (-1, NotFound),
        (10**30, NotFound),
        ("0190a000-0000-7000-8000-000000000000", NotFound),
        ("mine", InvalidInput),
        (True, InvalidInput),
        (1.5, InvalidInput),
    ],
)
def test_a_change_that_is_none_is_said(
    lake: Lake, writer: Writer, wanted: Any, error: type[Exception]
) -> None:
    writer.new()
    with pytest.raises(error, match="change"):
        lake.undo(wanted)


def test_of_two_undos_at_once_one_happens(lake: Lake, writer: Writer) -> None:
    writer.new(3, tags={"a": "1"})
    lake.datapoints.delete(all=True)
    change = writer.last()

    def try_undo(_: int) -> str:
        try:
            return str(lake.undo(change).restored["tags"])
        except Conflict as error:
            return error.message

    with ThreadPoolExecutor(4) as threads:
        said = list(threads.map(try_undo, range(4)))
    assert said.count("3") == 1
    assert sum("undone already" in text for text in said) == 3
    assert writer.tags() == ["1", "1", "1"]


def test_an_undo_and_an_ingest_at_once_leave_one_tag(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(tags={"a": "1"})
    for value in range(4):
        writer.send({"id": id_, "tags": {"a": None}})
        change = writer.last()
        with ThreadPoolExecutor(2) as threads:
            sent = threads.submit(writer.send, {"id": id_, "tags": {"a": str(value)}})
            undone = threads.submit(lake.undo, change)
            assert sent.result()
            assert undone.result()
        assert writer.tags() == [str(value)]


def test_organizations_undo_their_own(lake: Lake, writer: Writer) -> None:
    writer.new(tags={"a": "ours"})
    other = lake.for_organization("other")
    Writer(other).new(tags={"a": "theirs"})
    other.undo(1)
    assert writer.tags() == ["ours"]
    assert other.changes()["change"].tolist() == [2, 1]
    assert lake.changes()["change"].tolist() == [1]


def test_changes_say_who_did_what(
    lake: Lake, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = lake.for_organization("default", author="ann")
    Writer(ann).new(2, tags={"a": "1"})
    ann.tags.delete(all=True)
    ann.undo(author="bob")
    latest, delete, ingest = ann.changes().to_dict("records")
    assert (latest["kind"], latest["author"], latest["undoes"]) == ("undo", "bob", [2])
    assert (delete["kind"], delete["author"], delete["undone_by"]) == ("delete", "ann", 3)
    assert delete["removed"] == {"tags": 2}
    assert ingest["added"] == {"datapoints": 2, "tags": 2}
    assert ingest["upload"] == ann.uploads.list()[0].id
    assert len(ann.changes(1)) == 1
    assert ann.changes(kind="delete")["change"].tolist() == [2]
    assert ann.changes(0).empty
    monkeypatch.setenv("KATIML_AUTHOR", "carol")
    carol = lake.for_organization("default")
    Writer(carol).new()
    assert carol.changes(1)["author"].item() == "carol"
