"""Every function of the SDK, on an embedded lake and over HTTP: the same results."""

from __future__ import annotations

import gzip
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import katiml
from dioptra.lake import utils
from katiml.errors import InvalidFilter, InvalidInput, NotFound, Unauthorized
from tests.server.conftest import picture

TAG = [
    {"left": "tags.name", "op": "=", "right": "source"},
    {"left": "tags.value", "op": "=", "right": "dogs"},
]


def test_upload_and_wait(lake: katiml.Lake, capsys: pytest.CaptureFixture[str]) -> None:
    upload = utils.upload_to_lake(records=[picture(number) for number in range(3)])
    assert isinstance(upload, dict)
    said = capsys.readouterr()
    assert said.out.startswith("Uploaded 3 records to the lake.") and upload["id"] in said.out
    assert said.err == ""
    state = utils.wait_for_upload(upload)
    assert state["status"] == "SUCCEEDED"
    assert state["counts"] == {"read": 3, "landed": 3, "rejected": 0}
    assert utils.wait_for_upload(upload["id"]) == state
    again = utils.upload_to_lake((picture(number) for number in range(2)), disable_batching=True)
    assert utils.wait_for_upload(again)["counts"]["landed"] == 2
    assert lake.datapoints.count() == 5


def test_upload__numpy_everywhere(lake: katiml.Lake) -> None:
    record = picture(0)
    record["metadata"]["width"] = np.int64(7)
    record["tags"]["score"] = np.float32(0.5)
    guess = record["predictions"][0]
    guess["logits"] = np.array([0.0, 1.0], np.float16)
    guess["embeddings"] = {"layer": np.ones((2, 3), np.float32)[:, 1]}
    utils.wait_for_upload(utils.upload_to_lake([record]))
    utils.stream_to_lake([record])
    frame = utils.select_datapoints([], fields=["metadata.width", "tags.*", "predictions.*"])
    assert frame["metadata.width"].tolist() == [7, 7]
    for guesses in frame["predictions"]:
        net = next(guess for guess in guesses if guess["model_name"] == "net")
        assert net["confidences"] == pytest.approx([0.26894, 0.73106], abs=1e-4)


def test_upload__wrong_records_are_rejected_alone(lake: katiml.Lake) -> None:
    bad = picture(0)
    bad["predictions"][0]["logits"] = [0.5, float("nan")]
    arrays = picture(0)
    arrays["predictions"][0]["logits"] = np.array([0.5, np.inf])
    records = [picture(1), bad, arrays, {"type": "SMELL"}, {"type": "TEXT", "text": None}]
    state = utils.wait_for_upload(utils.upload_to_lake(records))
    assert state["counts"]["rejected"] >= 3
    rejected = lake.uploads.get(state["id"]).rejected
    assert rejected["line"].tolist()[:3] == [2, 3, 4]
    assert "logits" in rejected["path"][0]
    streamed = utils.stream_to_lake([picture(1), bad])
    assert streamed["counts"] == {"read": 2, "landed": 1, "rejected": 1}


def test_upload__nothing_landed(lake: katiml.Lake) -> None:
    upload = utils.upload_to_lake([{"type": "SMELL"}])
    with pytest.raises(RuntimeError, match=r"failed: .*rejected"):
        utils.wait_for_upload(upload)
    with pytest.raises(NotFound):
        utils.wait_for_upload("00000000-0000-0000-0000-000000000000")


def test_stream__committed_when_it_returns(lake: katiml.Lake) -> None:
    answer = utils.stream_to_lake([picture(0)])
    assert answer["status"] == "SUCCEEDED" and answer["id"]
    assert len(utils.select_datapoints(TAG)) == 1
    assert utils.wait_for_upload(answer)["status"] == "SUCCEEDED"


def test_select__frames(lake: katiml.Lake) -> None:
    utils.stream_to_lake([picture(number) for number in range(4)])
    frame = utils.select_datapoints(TAG, limit=2, order_by="metadata.width", desc=True)
    assert [metadata["width"] for metadata in frame["metadata"]] == [103, 102]
    assert {"id", "organization_id", "created_at", "type", "metadata", "text"} <= set(frame.columns)
    joined = utils.select_datapoints(TAG, fields=["*", "groundtruths.*", "tags.name"], limit=1)
    assert joined["groundtruths"][0][0]["class_name"] == "pug"
    assert sorted(tag["name"] for tag in joined["tags"][0]) == ["number", "source"]
    pages = [utils.select_datapoints(TAG, limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [len(page) for page in pages] == [2, 2, 0]
    assert len(set(pd.concat(pages)["id"])) == 4
    positional = utils.select_datapoints(TAG, 1, "metadata.width", True, ["metadata.uri"], 1)
    assert positional["metadata.uri"].tolist() == ["s3://dogs/2.jpg"]
    assert utils.select_datapoints([], fields="id").columns.tolist() == ["id"]


def test_select__every_table(lake: katiml.Lake) -> None:
    utils.stream_to_lake(
        [
            picture(0),
            {
                "type": "IMAGE",
                "groundtruths": [
                    {"task_type": "LANE_DETECTION", "lanes": [{"coco_polyline": [0, 1, 2, 3]}]},
                    {"task_type": "COMPLETION", "completions": [{"text": "hello"}]},
                ],
            },
        ]
    )
    assert utils.select_predictions([{"left": "model_name", "op": "=", "right": "net"}])[
        "class_name"
    ].tolist() == ["pug"]
    assert len(utils.select_groundtruths([])) == 3
    assert utils.select_bboxes([])["class_name"].tolist() == ["dog"]
    assert list(utils.select_lanes([])["coco_polyline"][0]) == [0, 1, 2, 3]
    assert utils.select_completions([])["text"].tolist() == ["hello"]


def test_select__both_ways_give_equal_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from katiml.server import create_app
    from tests.serving import serving

    with katiml.connect(tmp_path / "lake") as lake:
        lake.ingest([picture(number) for number in range(3)])
        fields = ["*", "predictions.*", "groundtruths.*", "tags.*", "metadata.width"]
        calls: list[tuple[Any, list[str]]] = [
            (utils.select_datapoints, fields),
            (utils.select_predictions, ["*", "feature_vectors.*", "bboxes.*"]),
            (utils.select_bboxes, ["*"]),
        ]
        embedded = [function([], fields=names) for function, names in calls]
        nothing = utils.select_datapoints([{"left": "type", "op": "=", "right": "AUDIO"}])
        with serving(create_app(lake)) as url:
            monkeypatch.setenv("DIOPTRA_APP_ENDPOINT", url)
            monkeypatch.setenv("DIOPTRA_API_KEY", lake.keys.create("sdk").secret)
            for (function, names), frame in zip(calls, embedded, strict=True):
                pd.testing.assert_frame_equal(function([], fields=names), frame)
            other = utils.select_datapoints([{"left": "type", "op": "=", "right": "AUDIO"}])
            pd.testing.assert_frame_equal(other, nothing)


def test_select__errors_are_the_librarys(lake: katiml.Lake) -> None:
    with pytest.raises(InvalidFilter, match="colour") as caught:
        utils.select_datapoints([{"left": "colour", "op": "=", "right": 1}])
    assert caught.value.hint
    with pytest.raises(InvalidInput):
        utils.select_datapoints([], limit=-1)
    with pytest.raises(InvalidInput):
        utils.select_datapoints([], order_by="groundtruths.class_name")


def test_filter_values__numpy_and_frames(lake: katiml.Lake) -> None:
    utils.stream_to_lake([picture(number) for number in range(3)])
    ids = utils.select_datapoints([])["id"]
    for right in (list(ids), ids.to_numpy(), ids):
        assert len(utils.select_datapoints([{"left": "id", "op": "in", "right": right}])) == 3
    width = [{"left": "metadata.width", "op": "=", "right": np.int64(101)}]
    assert len(utils.select_datapoints(width)) == 1


def test_delete__by_filters_and_by_ids(lake: katiml.Lake) -> None:
    utils.stream_to_lake([picture(number) for number in range(4)])
    rows = utils.delete_predictions([{"left": "model_name", "op": "=", "right": "net"}], limit=1)
    assert [row["model_name"] for row in rows] == ["net"]
    ids = utils.select_predictions([{"left": "model_name", "op": "=", "right": "boxes"}])["id"]
    assert len(utils.delete_predictions(list(ids[:2]))) == 2
    assert len(utils.delete_predictions(ids[2:])) == 2
    assert len(utils.delete_predictions(ids[:0])) == 0
    assert lake.predictions.count() == 3
    newest = utils.delete_groundtruths([], order_by="created_at", desc=True, limit=1)
    assert len(newest) == 1 and lake.groundtruths.count() == 3
    gone = utils.delete_datapoints(TAG, limit=1)
    assert gone[0]["metadata"]["uri"] == "s3://dogs/0.jpg"
    assert len(utils.delete_datapoints([])) == 3
    assert lake.tags.count() == 0


def test_delete__mixed_up(lake: katiml.Lake) -> None:
    utils.stream_to_lake([picture(0)])
    with pytest.raises(InvalidInput):
        utils.delete_datapoints(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        utils.delete_datapoints(["id", TAG[0]])
    assert lake.datapoints.count() == 1


def test_join_and_group(lake: katiml.Lake) -> None:
    utils.stream_to_lake([picture(0), picture(0), picture(1)])
    joined = utils.join_on_datapoints(
        utils.select_datapoints([]),
        groundtruths=utils.select_groundtruths([]),
        predictions=utils.select_predictions([]),
    )
    assert [len(guesses) for guesses in joined["predictions"]] == [2, 2, 2]
    grouped = utils.group_by_uri(joined, lambda group: {"images": len(group[0])}, num_workers=2)
    assert grouped["images"].to_dict() == {"s3://dogs/0.jpg": 2, "s3://dogs/1.jpg": 1}


def test_arrays_of_the_lake_decode(lake: katiml.Lake) -> None:
    mask = [[0, 1], [1, 1]]
    record = picture(0)
    record["predictions"].append(
        {
            "task_type": "SEGMENTATION",
            "model_name": "mask",
            "class_names": ["sky", "dog"],
            "segmentation_class_mask": mask,
        }
    )
    utils.stream_to_lake([record])
    frame = utils.select_predictions([], fields=["*", "feature_vectors.*"])
    found = frame[frame["model_name"] == "mask"].iloc[0]
    decoded = utils._decode_to_np_array(found["encoded_segmentation_class_mask"])
    assert decoded.tolist() == mask
    net = frame[frame["model_name"] == "net"].iloc[0]
    vectors = {vector["type"]: vector for vector in net["feature_vectors"]}
    layer = utils._decode_to_np_array(vectors["EMBEDDINGS"]["encoded_value"])
    assert layer.tolist() == [0.5, 1.0, 0.0]


def test_any_address(lake: katiml.Lake) -> None:
    utils.stream_to_lake([picture(0)])
    assert utils.query_dioptra_app("POST", "/api/datapoints/count", json={}) == 1
    listed = utils.query_dioptra_app("GET", "/api/ingestion/executions")
    assert listed[0]["status"] == "SUCCEEDED"
    files = {"file": ("records.ndjson", json.dumps(picture(1)).encode())}
    url = utils.query_dioptra_app("POST", "/api/ingestion/upload", files=files)["url"]
    body = {"urls": [url]}
    utils.wait_for_upload(utils.query_dioptra_app("POST", "/api/ingestion/ingest", json=body))
    assert lake.datapoints.count() == 2
    with pytest.raises(NotFound):
        utils.query_dioptra_app("GET", "/api/nowhere")


def test_local_cache(lake: katiml.Lake, tmp_path: Path) -> None:
    path = utils.store_to_local_cache([picture(0), {"value": np.arange(2)}])
    assert path.startswith(str(tmp_path / "cache")) and path.endswith(".ndjson.gz")
    lines = gzip.decompress(Path(path).read_bytes()).splitlines()
    assert [json.loads(line) for line in lines] == [picture(0), {"value": [0, 1]}]
    assert lake.datapoints.count() == 0


class Rows:
    """A dataset as Hugging Face's look: rows are dicts, by number."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def test_image_dataset__embedded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 255, (4, 6, 3), np.uint8) for _ in range(5)]
    rows = Rows(
        [{"image": Image.fromarray(array), "label": i % 2} for i, array in enumerate(arrays)]
    )
    uploads = utils.upload_image_dataset(
        rows,
        "CLASSIFICATION",
        image_field="image",
        groundtruth_field="label",
        datapoints_metadata=[
            {"tags": {"number": i}, "metadata": {"night": True}} for i in range(5)
        ],
        image_ids=[f"image-{i}" for i in range(5)],
        class_names=["cat", "dog"],
        dataset_metadata={"tags": {"split": "train"}},
        max_batch_size=2,
        num_workers=3,
    )
    assert len(uploads) == 3
    for upload in uploads:
        assert utils.wait_for_upload(upload)["status"] == "SUCCEEDED"
    frame = utils.select_datapoints(
        [], fields=["*", "groundtruths.*", "tags.*"], order_by="metadata.uri"
    )
    for i, row in frame.iterrows():
        metadata = row["metadata"]
        assert (metadata["width"], metadata["height"], metadata["night"]) == (6, 4, True)
        assert metadata["uri"] == str(tmp_path / "cache" / "images" / f"image-{i}.png")
        np.testing.assert_array_equal(np.asarray(Image.open(metadata["uri"])), arrays[int(str(i))])
        assert row["groundtruths"][0]["class_name"] == ("cat", "dog")[int(str(i)) % 2]
        tags = {tag["name"]: tag["value"] for tag in row["tags"]}
        assert tags == {"split": "train", "number": str(i)}


def test_image_dataset__masks_and_plain_images() -> None:
    mask = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)
    rows = [{"pixels": np.zeros((2, 3, 3)), "mask": Image.fromarray(mask)}]
    utils.upload_image_dataset(
        rows,
        "SEGMENTATION",
        image_field="pixels",
        groundtruth_field="mask",
        class_names=["sky", "road", "car"],
    )
    truth = utils.select_groundtruths([]).iloc[0]
    assert truth["task_type"] == "SEGMENTATION"
    stored = utils._decode_to_np_array(truth["encoded_segmentation_class_mask"])
    np.testing.assert_array_equal(stored, mask)
    assert utils.upload_image_dataset([], "CLASSIFICATION") == []
    (upload,) = utils.upload_image_dataset([Image.new("L", (2, 2))], "CLASSIFICATION")
    assert utils.wait_for_upload(upload)["counts"]["landed"] == 1


def test_image_dataset__wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("L", (2, 2))
    with pytest.raises(InvalidInput, match="dataset_type"):
        utils.upload_image_dataset([image], "SMELL")
    with pytest.raises(InvalidInput, match="image"):
        utils.upload_image_dataset(["/no/such/file.png"], "CLASSIFICATION")
    rows = [{"image": image, "label": 5}]
    with pytest.raises(InvalidInput, match="class 5"):
        utils.upload_image_dataset(rows, "CLASSIFICATION", "image", "label", class_names=["cat"])
    monkeypatch.setenv("DIOPTRA_APP_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InvalidInput, match="DIOPTRA_UPLOAD_BUCKET"):
        utils.upload_image_dataset([image], "CLASSIFICATION")


def test_key_and_endpoint__clear_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIOPTRA_APP_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unauthorized, match="DIOPTRA_API_KEY is not set"):
        utils.select_datapoints([])
    monkeypatch.setenv("DIOPTRA_APP_ENDPOINT", "localhost:4004")
    with pytest.raises(InvalidInput, match="DIOPTRA_APP_ENDPOINT"):
        utils.select_datapoints([])


def test_bucket__clear_sentences() -> None:
    with pytest.raises(InvalidInput, match="DIOPTRA_UPLOAD_BUCKET is not set"):
        utils.upload_to_lake_via_object_store([picture(0)])
    with pytest.raises(InvalidInput, match="storage type"):
        utils.upload_to_lake_from_bucket("b", "o", storage_type="ftp")


# As existing code calls them.
SIGNATURES = {
    "upload_to_lake": "(records, disable_batching=False)",
    "upload_to_lake_via_object_store": "(records, custom_path='', disable_batching=False,"
    " offset=None, limit=None)",
    "upload_to_lake_from_bucket": "(bucket_name, object_name, storage_type='s3',"
    " disable_batching=False, offset=None, limit=None)",
    "stream_to_lake": "(records)",
    "store_to_local_cache": "(records)",
    "wait_for_upload": "(upload_id)",
    "upload_image_dataset": "(dataset, dataset_type, image_field=None, groundtruth_field=None,"
    " datapoints_metadata=None, image_ids=None, class_names=None, dataset_metadata=None,"
    " max_batch_size=200, num_workers=20)",
    "group_by_uri": "(datapoints, uri_grouped_transform, num_workers=1)",
    "query_dioptra_app": "(method, path, json=None, files=None)",
    "join_on_datapoints": "(datapoints, groundtruths=None, predictions=None)",
    "_encode_np_array": "(np_array, light_compression=False)",
    "_decode_to_np_array": "(value)",
    **{
        f"select_{table}": "(filters, limit=None, order_by=None, desc=None, fields=('*',),"
        " offset=0)"
        for table in ("datapoints", "predictions", "groundtruths", "bboxes")
    },
    **{
        f"delete_{table}": "(filters, order_by=None, desc=None, limit=None, offset=0)"
        for table in ("datapoints", "predictions", "groundtruths")
    },
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    signature = inspect.signature(getattr(utils, name))
    bare = signature.replace(
        parameters=[
            parameter.replace(annotation=parameter.empty)
            for parameter in signature.parameters.values()
        ],
        return_annotation=signature.empty,
    )
    assert str(bare) == SIGNATURES[name]
