"""Deleting for good: nothing of a datapoint is left, in tables, history and files; both homes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroaring import BitMap

import katiml
from katiml.errors import Conflict, InvalidInput, NotFound
from katiml.history.purging import PURGED_TABLES
from katiml.lake import Lake
from katiml.store import Moment, View

from .conftest import Writer

SECRET = "x8Kq2mZ-7wPd4vNr1tYb6uHc3eJf9sLg0aXoViDkTnQyRzWhUjMB5pGE"


def everywhere(lake: Lake, id_: str) -> dict[str, int]:
    """How many rows of each table, of now and of the past, are a datapoint's."""
    found = {}
    for table in PURGED_TABLES:
        key = "id" if table.endswith("datapoints") else "datapoint"
        sql = f"SELECT 1 FROM {{{table}}} WHERE {key} = CAST($id AS UUID)"
        rows = lake.scope.query(sql, {"id": id_}).num_rows
        if rows:
            found[table] = rows
    return found


def test_nothing_is_left_but_a_tombstone(lake: Lake, writer: Writer) -> None:
    box = {"class_name": "car", "top": 0, "left": 0, "height": 1, "width": 1}
    gone, kept = writer.new(
        2,
        tags={"a": "1"},
        groundtruths=[{"task_type": "OBJECT_DETECTION", "bboxes": [box]}],
        predictions=[{"task_type": "CLASSIFICATION", "model_name": "m", "logits": [1.0, 0.0]}],
    )
    row = lake.datapoints.select({"left": "id", "op": "=", "right": gone}, ["row"])["row"].item()
    for id_ in (gone, kept):
        writer.send({"id": id_, "tags": {"a": "2"}, "text": "new"})
    moment = Moment.read(lake.scope)
    before = everywhere(lake, kept)
    preview = lake.purge(ids=gone, dry_run=True)
    assert everywhere(lake, gone) == before
    result = lake.purge(ids=gone)
    assert result.removed == preview.removed
    assert (result.datapoints, result.finished) == (1, True)
    assert everywhere(lake, gone) == {}
    assert everywhere(lake, kept) == before
    for view in (View(), View(moment=moment), View(BitMap([row]), moment)):
        ids = lake.scope.at(view).query("SELECT id FROM {datapoints}")["id"].to_pylist()
        assert gone not in map(str, ids)
    graves = lake.scope.query('SELECT datapoint, "row", change FROM {tombstones}').to_pylist()
    assert [(str(grave["datapoint"]), grave["row"]) for grave in graves] == [(gone, row)]
    assert graves[0]["change"] == result.change
    assert lake.changes(1)["kind"].item() == "purge"
    assert lake.changes(1)["removed"].item()["datapoints"] == 1


def test_what_was_deleted_before_is_purged_too(lake: Lake, writer: Writer) -> None:
    one, two = writer.new(2, tags={"person": "ann"})
    lake.datapoints.delete({"left": "id", "op": "=", "right": one})
    chosen = [{"left": "tags.value", "op": "=", "right": "ann"}]
    assert lake.purge(chosen).datapoints == 2
    for id_ in (one, two):
        assert everywhere(lake, id_) == {}
        with pytest.raises(NotFound):
            lake.restore(ids=id_)
        with pytest.raises(NotFound):
            lake.purge(ids=id_)


def test_no_undo_brings_it_back(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(tags={"a": "1"})
    writer.send({"id": id_, "tags": {"a": "2"}})
    lake.datapoints.delete(all=True)
    change = writer.last()
    purge = lake.purge(ids=id_)
    assert lake.undo(change).is_empty
    assert lake.undo(change - 1).is_empty
    with pytest.raises(Conflict, match="for good"):
        lake.undo(purge.change)
    assert lake.datapoints.count() == 0


def test_what_was_made_of_it_goes_too(lake: Lake, writer: Writer) -> None:
    (source,) = writer.new()
    writer.send({"type": "TEXT", "parent_datapoint": source})
    (patch,) = set(lake.datapoints.select()["id"]) - {source}
    writer.send({"type": "TEXT", "parent_datapoint": patch})
    lake.datapoints.delete({"left": "parent_datapoint", "op": "=", "right": patch})
    assert lake.purge(ids=source).datapoints == 3


def test_rejected_records_that_name_it_are_blanked(lake: Lake, writer: Writer) -> None:
    (id_,) = writer.new(metadata={"uri": "s3://b/secret.png"})
    lake.ingest(
        [
            {"id": id_, "type": "SMELL", "text": SECRET},
            {"type": "IMAGE", "metadata": {"uri": "s3://b/secret.png"}, "tags": 3},
            {"type": "IMAGE", "metadata": {"uri": "s3://b/other.png"}, "tags": 3},
        ]
    )
    assert lake.purge(ids=id_).rejected_records == 2
    records = lake.scope.query("SELECT record, reason FROM {rejected_records} ORDER BY line")
    first, second, third = records.to_pylist()
    assert first == second == {"record": "", "reason": "purged"}
    assert "other.png" in third["record"]


def test_objects_that_only_it_needs_are_deleted(lake: Lake, writer: Writer) -> None:
    objects = lake.scope.store.objects
    own, shared = objects.put("default", b"own"), objects.put("default", b"shared")
    for object_id in (own, shared):
        writer.new(metadata={"uri": f"object://{object_id}"})
    writer.new(metadata={"uri": f"object://{shared}"})
    chosen = lake.datapoints.select(limit=2)["id"]
    assert lake.purge(ids=chosen).objects == 1
    with pytest.raises(NotFound):
        objects.size("default", own)
    assert objects.size("default", shared) == 6


def test_nothing_named_is_refused(lake: Lake, writer: Writer) -> None:
    writer.new()
    with pytest.raises(InvalidInput, match="which"):
        lake.purge()
    with pytest.raises(NotFound):
        lake.purge(ids="0190a000-0000-7000-8000-000000000000")
    assert lake.purge([{"left": "text", "op": "=", "right": "nothing"}]).datapoints == 0
    assert lake.changes()["kind"].tolist() == ["ingest"]
    assert lake.purge(all=True).datapoints == 1


def test_a_purge_that_was_cut_off_is_finished_later(
    lake: Lake, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = writer.new()
    with monkeypatch.context() as patch:
        patch.setattr("katiml.history.purging.finish_purges", lambda scope: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lake.purge(ids=id_)
    erased: list[Any] = []
    monkeypatch.setattr(lake.scope.store, "erase", lambda tables: erased.append(tables) or [])
    lake.forget()
    lake.forget()
    assert len(erased) == 1


def files(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file())


def holding(folder: Path, secret: str) -> list[str]:
    return [str(path) for path in files(folder) if secret.encode() in path.read_bytes()]


def test_no_file_of_the_lake_has_it_any_more(lake_url: str, tmp_path: Path) -> None:
    """The text is random, so that it lies in the files as it is."""
    with katiml.connect(lake_url) as lake:
        writer = Writer(lake)
        # Enough at once to be written into a Parquet file on DuckLake, too.
        others = [{"type": "TEXT", "text": "another"}] * 200
        writer.send({"type": "TEXT", "text": SECRET, "tags": {"secret": SECRET}}, *others)
        chosen = [{"left": "text", "op": "=", "right": SECRET}]
        id_ = lake.datapoints.select(chosen)["id"].item()
        writer.send({"id": id_, "text": SECRET[::-1], "tags": {"secret": "no more"}})
    assert holding(tmp_path, SECRET)
    with katiml.connect(lake_url) as lake:
        Writer(lake).new(200, text="others")
        assert lake.purge(ids=id_).finished
        assert lake.datapoints.count() == 400
    for secret in (SECRET, SECRET[::-1]):
        assert holding(tmp_path, secret) == []
    with katiml.connect(lake_url) as lake:
        assert lake.datapoints.count() == 400
        Writer(lake).send({"id": lake.datapoints.select(limit=1)["id"].item(), "tags": {"a": "b"}})


def test_a_client_of_the_owner_purges_too(tmp_path: Path) -> None:
    from tests.store.processes import Script

    script = """
        import katiml
        lake = katiml.connect(sys.argv[1])
        result = lake.purge(ids=sys.argv[2])
        say(result.datapoints, result.finished)
        lake.close()
    """
    with katiml.connect(tmp_path) as lake:
        (id_,) = Writer(lake).new(text=SECRET)
        with Script(script, tmp_path, id_) as client:
            assert client.finish()[-1] == "1 True"
        assert everywhere(lake, id_) == {}


def test_a_reader_only_delays_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("katiml.store.folder._READERS_SECONDS", 0.2)
    with katiml.connect(tmp_path) as lake:
        writer = Writer(lake)
        (id_,) = writer.new(text=SECRET)
        writer.new(5000, text="another")
        reader = lake.datapoints.select(form="batches")
        reader.read_next_batch()
        first = lake.purge(ids=id_)
        rest = sum(batch.num_rows for batch in reader)
        assert rest > 0
        assert everywhere(lake, id_) == {}
        if not first.finished:
            lake.forget()
        unfinished = lake.changes(kind="purge")["details"].dropna()
        assert unfinished.empty
