"""Data sets of other tools: what a format holds survives a round trip, the rest is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import katiml
from katiml.cli import main
from katiml.errors import Conflict, InvalidInput, InvalidSource
from katiml.formats import FORMATS, Report, read
from katiml.formats.items import lake_items
from katiml.formats.rle import decode_rle, encode_rle
from katiml.records.arrays import decode

MASK = np.zeros((48, 64), np.uint8)
MASK[10:20, 5:40] = 1

# The reference tool's own, with NumPy 2.
_OLD_NUMPY = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


@pytest.fixture
def lake(tmp_path: Path) -> Any:
    with katiml.connect(tmp_path / "lake") as lake:
        yield lake


def image(path: Path, size: tuple[int, int] = (64, 48)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return str(path)


def fill(lake: Any, folder: Path) -> None:
    """Three images: boxes and an instance, a mask and class, nothing; and a prompt."""
    boxes = [
        {"class_name": "dog", "left": 3, "top": 4, "width": 20, "height": 11},
        {
            "class_name": "cat",
            "left": 0,
            "top": 0,
            "width": 64,
            "height": 48,
            "metrics": {"difficult": 1},
        },
    ]
    shapes = [
        {"class_name": "cat", "coco_polygon": [1, 2, 30, 2, 30.5, 20.25]},
        {"class_name": "dog", "segmentation_mask": MASK},
    ]
    metadata = {"width": 64, "height": 48}
    lake.ingest(
        [
            {
                "type": "IMAGE",
                "metadata": {"uri": image(folder / "x/a.png"), **metadata},
                "tags": {"split": "train"},
                "groundtruths": [{"task_type": "OBJECT_DETECTION", "bboxes": boxes}],
            },
            {
                "type": "IMAGE",
                "metadata": {"uri": image(folder / "y/a.png"), **metadata, "licence": 3},
                "tags": {"split": "val"},
                "groundtruths": [
                    {"task_type": "INSTANCE_SEGMENTATION", "bboxes": shapes},
                    {"task_type": "CLASSIFICATION", "class_name": "outdoors"},
                    {"task_type": "SEGMENTATION", "segmentation_class_mask": MASK},
                ],
            },
            {
                "type": "TEXT",
                "text": "Why?",
                "metadata": {"source": "forum"},
                "groundtruths": [
                    {"task_type": "COMPLETION", "completions": [{"text": "Because."}]}
                ],
            },
        ]
    )


def contents(lake: Any) -> list[dict[str, Any]]:
    """What a lake holds, without ids and folders."""
    found = []
    for item in lake_items(lake):
        metadata = {**item.metadata, "uri": Path(item.uri or "").name[:1]}
        metadata.pop("coco_url", None)
        truths = sorted(
            (
                json.loads(orjson.dumps(truth, option=orjson.OPT_SERIALIZE_NUMPY))
                for truth in item.groundtruths
            ),
            key=lambda truth: truth["task_type"],
        )
        found.append({"metadata": metadata, "text": item.text, "tags": item.tags, "truths": truths})
    return found


def round_trip(lake: Any, tmp_path: Path, format: str, **options: Any) -> tuple[Any, Report]:
    target = tmp_path / f"out.{format}"
    report = lake.export_dataset(format, target, **options)
    other = lake.for_organization("other")
    upload, _ = other.import_dataset(format, target)
    assert upload.counts["rejected"] == 0, upload.rejected
    return other, report


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_tables_hold_everything(lake: Any, tmp_path: Path, format: str) -> None:
    fill(lake, tmp_path)
    other, report = round_trip(lake, tmp_path, format)
    assert contents(other) == contents(lake) and report.notes == {} and report.records == 3


def test_coco(lake: Any, tmp_path: Path) -> None:
    fill(lake, tmp_path)
    other, report = round_trip(lake, tmp_path, "coco")
    assert set(report.notes) == {
        "tags are not kept",
        "CLASSIFICATION ground truths are not kept",
        "SEGMENTATION ground truths are not kept",
        "COMPLETION ground truths are not kept",
        "datapoints of type TEXT are left out",
    }
    before, after = contents(lake), contents(other)
    for old, new in zip(before[:2], after, strict=True):
        own = old["truths"][-2 if "licence" in old["metadata"] else 0]
        boxes = [box for truth in old["truths"] for box in truth.get("bboxes", [])]
        again = [box for truth in new["truths"] for box in truth["bboxes"]]
        for box, copy in zip(boxes, again, strict=True):
            copy.pop("metrics"), box.pop("metrics", None)
            assert copy == box, own
        assert new["metadata"] == old["metadata"]


@_OLD_NUMPY
def test_coco_is_what_the_reference_tool_reads(lake: Any, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    fill(lake, tmp_path)
    lake.export_dataset("coco", tmp_path / "out.json", class_names=["dog", "cat"])
    found = coco.COCO(str(tmp_path / "out.json"))
    assert [category["name"] for category in found.loadCats([1, 2])] == ["dog", "cat"]
    (with_mask,) = [a for a in found.anns.values() if isinstance(a.get("segmentation"), dict)]
    np.testing.assert_array_equal(found.annToMask(with_mask), MASK)
    assert with_mask["area"] == MASK.sum()


@_OLD_NUMPY
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_runs_are_those_of_the_reference_tool(height: int, width: int, seed: int) -> None:
    reference = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).integers(0, 2, (height, width), np.uint8)
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)
    packed = reference.encode(np.asfortranarray(mask))
    text = {"size": packed["size"], "counts": packed["counts"].decode()}
    np.testing.assert_array_equal(decode_rle(text), mask)
    again = reference.frPyObjects(encode_rle(mask), height, width)
    np.testing.assert_array_equal(reference.decode(again), mask)


def test_long_runs_of_the_reference_tool() -> None:
    reference = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((500, 400), np.uint8)
    mask[100:400, 50:300] = np.random.default_rng(0).random((300, 250)) > 0.01
    packed = reference.encode(np.asfortranarray(mask))
    np.testing.assert_array_equal(
        decode_rle({"size": packed["size"], "counts": packed["counts"].decode()}), mask
    )


def test_what_is_wrong_in_a_coco_file(tmp_path: Path) -> None:
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]},
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 2, 2]},
        {"id": 3, "image_id": 1, "category_id": 9, "bbox": [0, 0, 2, 2]},
        {"id": 4, "image_id": 1, "category_id": 1, "bbox": [0, 0]},
        {"id": 5, "image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3]]},
        {
            "id": 6,
            "image_id": 1,
            "category_id": 1,
            "segmentation": {"size": [10**6, 10**6], "counts": [10**12]},
        },
        {"id": 7, "image_id": 1, "category_id": 1, "segmentation": {"size": [2, 2], "counts": [3]}},
        {
            "id": 8,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": [[0, 0, 2, 0, 2, 2], [4, 4, 6, 4, 6, 6]],
        },
    ]
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 8, "height": 8, "license": 4},
            {"id": 2},
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}],
    }
    file = tmp_path / "c.json"
    file.write_text(json.dumps(content))
    report = Report("coco")
    (record,) = read("coco", file, report, images="s3://b/")
    assert record["metadata"] == {"uri": "s3://b/a.png", "width": 8, "height": 8, "license": 4}
    first, last = record["groundtruths"][0]["bboxes"]
    assert first == {"class_name": "cat", "left": 0, "top": 0, "width": 2, "height": 2}
    assert decode(last["segmentation_mask"]).sum() > 6 and last["metrics"] == {"iscrowd": 1.0}
    assert report.notes == {
        "annotations of no image are left out": 1,
        "annotations of no category are left out": 1,
        "boxes that are not 4 numbers are left out": 1,
        "segmentations that cannot be read are left out": 3,
        "annotations without box and segmentation are left out": 3,
        "objects of several polygons are kept as masks": 1,
        "images without file_name are left out": 1,
    }
    file.write_text('{"images": 5}')
    with pytest.raises(InvalidSource, match="is no COCO file"):
        list(read("coco", file, Report("coco")))


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_yolo(lake: Any, tmp_path: Path, task: str) -> None:
    fill(lake, tmp_path)
    other, report = round_trip(lake, tmp_path, "yolo", task=task)
    assert "masks are kept as their boxes" in report.notes
    rows = contents(other)
    assert [row["tags"]["split"] for row in rows] == ["train", "val"]
    boxes = [row["truths"][0]["bboxes"] for row in rows]
    assert [[box["class_name"] for box in own] for own in boxes] == [["dog", "cat"], ["cat", "dog"]]
    sides = [boxes[0][0][name] for name in ("left", "top", "width", "height")]
    np.testing.assert_allclose(sides, [3, 4, 20, 11], atol=1e-6)
    if task == "segment":
        np.testing.assert_allclose(
            boxes[1][0]["coco_polygon"], [1, 2, 30, 2, 30.5, 20.25], atol=1e-6
        )
    else:
        assert report.notes["polygons are kept as their boxes"] == 1


def test_what_is_wrong_in_a_yolo_folder(tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    image(root / "images/train/a.png")
    image(root / "images/train/b.png")
    (root / "images/train/c.png").write_text("no image")
    (root / "labels/train").mkdir(parents=True)
    lines = [
        "0 0.5 0.5 0.2 0.2",
        "0 1.5 0.5 0.2 0.2",
        "7 0.5 0.5 0.2 0.2",
        "0 0.1",
        "x y",
        "0 nan 0 0 0",
    ]
    (root / "labels/train/a.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("names: {0: cat}\n")
    report = Report("yolo")
    first, second = read("yolo", root, report)
    assert [box["class_name"] for box in first["groundtruths"][0]["bboxes"]] == ["cat", "7"]
    assert "groundtruths" not in second
    assert report.notes == {
        "wrong lines are left out": 4,
        "images that cannot be read are left out": 1,
    }
    assert "a.txt:2: a number outside 0 to 1" in report.examples["wrong lines are left out"]
    (root / "data.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(InvalidSource, match="cannot be read"):
        list(read("yolo", root, Report("yolo")))


def test_voc(lake: Any, tmp_path: Path) -> None:
    fill(lake, tmp_path)
    other, report = round_trip(lake, tmp_path, "voc")
    assert report.notes["polygons and masks are kept as their boxes"] == 2
    first, second = sorted(contents(other), key=lambda row: row["tags"]["split"])
    assert first["truths"][0]["bboxes"] == [
        {"class_name": "dog", "left": 3, "top": 4, "width": 20, "height": 11},
        {
            "class_name": "cat",
            "left": 0,
            "top": 0,
            "width": 64,
            "height": 48,
            "metrics": {"difficult": 1},
        },
    ]
    mask = next(t for t in second["truths"] if t["task_type"] == "SEGMENTATION")
    assert mask["segmentation_class_mask"] == MASK.tolist()


def test_an_xml_bomb_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "voc/Annotations"
    folder.mkdir(parents=True)
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation><object>&b;</object></annotation>'
    (folder / "a.xml").write_text(bomb)
    (folder / "b.xml").write_text("<annotation><object><name>x</name></object></annotation>")
    report = Report("voc")
    (record,) = read("voc", tmp_path / "voc", report)
    assert record["groundtruths"][0]["bboxes"] == []
    assert report.notes["annotation files that cannot be read are left out"] == 1
    assert report.notes["objects without name and bndbox are left out"] == 1


def test_class_folders(lake: Any, tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/1.png", "val/cat/2.png"):
        image(tmp_path / "in" / name)
    (tmp_path / "in/train/cat/notes.txt").write_text("x")
    upload, report = lake.import_dataset("folder", tmp_path / "in", tags={"by": "me"})
    assert upload.counts["landed"] == 3
    assert report.notes == {"files that are no images are left out": 1}
    report = lake.export_dataset("folder", tmp_path / "out")
    written = sorted(
        str(path.relative_to(tmp_path / "out").parent) for path in (tmp_path / "out").rglob("*.png")
    )
    assert written == ["train/cat", "train/dog", "val/cat"] and report.notes == {
        "tags are not kept": 3
    }
    again, _ = lake.for_organization("o").import_dataset("folder", tmp_path / "out")
    assert again.counts["landed"] == 3


def test_names_from_a_lake_cannot_leave_the_folder(lake: Any, tmp_path: Path) -> None:
    uri = image(tmp_path / "a.png")
    truth = {"task_type": "CLASSIFICATION", "class_name": "../../evil"}
    lake.ingest(
        [
            {
                "type": "IMAGE",
                "metadata": {"uri": uri},
                "tags": {"split": ".."},
                "groundtruths": [truth],
            }
        ]
    )
    lake.export_dataset("folder", tmp_path / "deep/er/out")
    (copy,) = (tmp_path / "deep/er/out").rglob("*.png")
    assert copy.name == "a.png" and not list(tmp_path.glob("*evil*"))


def test_a_csv_of_someone_else(lake: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "path,label,split,width,note,tags.x\n/a.png,cat,train,64,hi,1\n/b.png,,val,,,\n"
    )
    upload, _ = lake.import_dataset("csv", file, columns={"note": "tags.note"})
    assert upload.counts["landed"] == 2
    first, second = contents(lake)
    assert first["metadata"] == {"uri": "a", "width": 64}
    assert first["tags"] == {"split": "train", "note": "hi", "x": "1"}
    assert first["truths"] == [{"task_type": "CLASSIFICATION", "class_name": "cat"}]
    assert second["truths"] == [] and second["tags"] == {"split": "val"}


LINES = [
    {"prompt": "p", "completion": "c", "source": "s"},
    {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a"},
        ]
    },
    {"prompt": "p", "chosen": "good", "rejected": "bad"},
    {"text": "alone"},
]


def test_prompts_and_completions(lake: Any, tmp_path: Path) -> None:
    other = [{"instruction": "i", "input": "n", "output": "o"}, {"question": "q", "answer": "a"}]
    bad = ["not json", "[1]", '{"prompt": 5, "completion": "x"}', "{}", ""]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join([*map(json.dumps, LINES + other), *bad]))
    upload, report = lake.import_dataset("jsonl", file)
    assert upload.counts["landed"] == 6
    assert report.notes == {"lines that are no prompt and completion are left out": 4}
    assert "i\n\nn" in lake.datapoints.select()["text"].tolist()
    lake.export_dataset("jsonl", tmp_path / "out.jsonl")
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written[:4] == LINES
    assert written[5] == {"prompt": "q", "completion": "a"}


def test_nothing_is_written_over_and_nothing_half(
    lake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake, tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for format in FORMATS:
        with pytest.raises(Conflict):
            lake.export_dataset(format, tmp_path / "full")
    lake.export_dataset("yolo", tmp_path / "empty")
    assert (tmp_path / "empty/data.yaml").exists()

    def broken(*_: Any) -> bytes:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr("katiml.training.reading._read_file", broken)
    with pytest.raises(RuntimeError):
        lake.export_dataset("voc", tmp_path / "voc")
    assert not (tmp_path / "voc").exists() and not list(tmp_path.glob(".voc*"))


def test_wrong_arguments(lake: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="unknown format 'avro'"):
        lake.export_dataset("avro", tmp_path / "x")
    with pytest.raises(InvalidInput, match="voc has no option 'images'"):
        lake.import_dataset("voc", tmp_path, images="x")
    with pytest.raises(InvalidSource, match="no file"):
        lake.import_dataset("coco", tmp_path / "none.json")
    with pytest.raises(InvalidSource, match="is a folder"):
        lake.import_dataset("coco", tmp_path)
    with pytest.raises(InvalidInput, match="task is 'pose'"):
        lake.export_dataset("yolo", tmp_path / "x", task="pose")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(LINES[0]))

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["--lake", str(tmp_path / "lake"), *arguments])
        said = capsys.readouterr()
        assert left.value.code == 0, said.err
        return said.out

    assert "SUCCEEDED" in run("import", "jsonl", str(file), "--tag", "a=b")
    said = json.loads(
        run("export", "csv", str(tmp_path / "out.csv"), "-f", "tags.name = a", "--json")
    )
    assert said == {"format": "csv", "records": 1, "notes": {}}
    assert "Why" not in (tmp_path / "out.csv").read_text()
