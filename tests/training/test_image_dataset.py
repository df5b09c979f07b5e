"""`ImageDataset`: rows of a frame with their images and targets."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dioptra.lake import utils
from katiml.errors import Conflict, InvalidInput, InvalidSource, NotFound

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from dioptra.lake.torch.object_store_datasets import ImageDataset  # noqa: E402
from katiml.torch import collate  # noqa: E402

MASK = [[0, 1, 2], [2, 1, 0]]
TRUTHS = {
    "class": {"task_type": "CLASSIFICATION", "class_name": "cat"},
    "mask": {"task_type": "SEMANTIC_SEGMENTATION", "segmentation_class_mask": MASK},
    "instances": {
        "task_type": "INSTANCE_SEGMENTATION",
        "bboxes": [
            {"class_name": "a", "coco_polygon": [0, 0, 4, 0, 4, 2]},
            {"class_name": "z", "coco_polygon": [0, 0, 1, 0, 1, 1]},
        ],
    },
    "boxes": {
        "task_type": "OBJECT_DETECTION",
        "bboxes": [{"class_name": "b", "top": 0, "left": 1, "height": 2, "width": 4}],
    },
    "lanes": {
        "task_type": "LANE_DETECTION",
        "lanes": [
            {
                "coco_polyline": [0, 0, 4, 4],
                "classifications": [{"name": "kind", "class_name": "solid"}],
            }
        ],
    },
    "texts": {"task_type": "COMPLETION", "completions": [{"text": "hello"}]},
    "entities": {"task_type": "NER"},
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with an image for each truth; counts what it is asked."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number, name in enumerate(TRUTHS):
        Image.fromarray(np.full((4, 8, 3), number, np.uint8)).save(folder / f"{name}.png")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)

        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    asked.clear()
    monkeypatch.setenv("DIOPTRA_CACHE_DIR", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


asked: list[str] = []


def frame(files: str, **options: Any) -> Any:
    utils.upload_to_lake(
        [
            {
                "type": "IMAGE",
                "metadata": {"uri": f"{files}/{name}.png", "width": 8, "height": 4},
                "request_id": name,
                "groundtruths": [truth],
            }
            for name, truth in TRUTHS.items()
        ]
    )
    fields = ["*", "bboxes.*", "lanes.*", "completions.*"]
    return utils.join_on_datapoints(
        utils.select_datapoints([]), groundtruths=utils.select_groundtruths([], fields=fields)
    )


def test_targets_of_every_task(files: str) -> None:
    dataset = ImageDataset(frame(files))
    items = {item["request_id"]: item for item in map(dataset.__getitem__, range(len(dataset)))}
    assert items["class"]["class_name"] == "cat"
    assert np.asarray(items["boxes"]["image"])[0, 0, 0] == list(TRUTHS).index("boxes")
    mask = items["mask"]["segmentation_class_mask"]
    assert mask.dtype == np.int32 and mask.tolist() == MASK
    assert items["instances"]["polygons"][0] == {
        "class_name": "a",
        "coco_polygon": [0, 0, 4, 0, 4, 2],
    }
    assert items["boxes"]["bboxes"] == [
        {"class_name": "b", "top": 0, "left": 1, "height": 2, "width": 4}
    ]
    assert items["lanes"]["lanes"] == [{"class_name": "solid", "coco_polyline": [0, 0, 4, 4]}]
    assert items["texts"]["completions"] == [{"text": "hello"}]
    assert "class_name" not in items["entities"]
    assert dataset.datapoint_ids == utils.select_datapoints([])["id"].tolist()
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_files_from_afar_are_fetched_once(files: str, tmp_path: Path) -> None:
    dataset = ImageDataset(frame(files), transform=lambda row: row["image"].size)
    assert dataset.prefetch_images(num_workers=3) == len(TRUTHS)
    count = len(asked)
    assert list(DataLoader(dataset, batch_size=None, num_workers=2)) == [[8, 4]] * len(TRUTHS) or [
        tuple(size) for size in DataLoader(dataset, batch_size=None, num_workers=2)
    ] == [(8, 4)] * len(TRUTHS)
    assert len(asked) == count == len(TRUTHS)
    assert not any(path.suffix == ".pkl" for path in tmp_path.rglob("*"))
    dataset.use_caching = False
    dataset[0]
    assert len(asked) == count + 1
    with pytest.raises(InvalidInput, match="use_caching is False"):
        dataset.prefetch_images()


def test_images_that_are_missing_or_broken(files: str, tmp_path: Path) -> None:
    (tmp_path / "files" / "class.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "files" / "mask.png").unlink()
    dataset = ImageDataset(frame(files))
    names = dataset.dataframe["request_id"].tolist()
    with pytest.raises(InvalidSource, match=r"class.png is not an image"):
        dataset[names.index("class")]
    with pytest.raises(NotFound, match=r"mask.png"):
        dataset[names.index("mask")]
    with pytest.warns(UserWarning, match="1 of 7 images could not be fetched"):
        assert dataset.prefetch_images(2) == 6
    dataset.on_error = "skip"
    dataset.transform = lambda row: torch.tensor(row["image"].size)
    with pytest.warns(UserWarning, match="is left out"):
        (batch,) = DataLoader(dataset, batch_size=7, collate_fn=collate)
    assert batch.shape == (5, 2)


def test_export_for_yolo(files: str, tmp_path: Path) -> None:
    dataset = ImageDataset(frame(files))
    target = tmp_path / "yolo"
    with pytest.warns(UserWarning, match="5 rows are left out: without image, polygons"):
        assert dataset.export(target, "yolov7", ["a", "b"], num_workers=2) == 2
    assert yaml.safe_load((target / "data.yaml").read_text()) == {"names": ["a", "b"]}
    labels = {path.stem[33:]: path.read_text() for path in (target / "labels").iterdir()}
    assert labels == {"instances": "0 0 0 0.5 0 0.5 0.5\n", "boxes": "1 0.375 0.25 0.5 0.5\n"}
    assert sorted(path.stem for path in (target / "images").iterdir()) == sorted(
        path.stem for path in (target / "labels").iterdir()
    )
    with pytest.raises(Conflict, match="exists"):
        dataset.export(target, "yolov7", ["a"])
    with pytest.raises(InvalidInput, match="unknown format 'voc'"):
        dataset.export(tmp_path / "x", "voc", ["a"])
