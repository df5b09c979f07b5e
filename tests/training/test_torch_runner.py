"""`TorchInferenceRunner`: what a model says of which datapoint arrives in the lake."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import katiml
from dioptra.lake import utils
from katiml.errors import InvalidInput
from katiml.records.arrays import decode
from katiml.server import Settings, create_app
from tests.serving import serving

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, Subset  # noqa: E402

from dioptra.inference.torch.gradients import LastLayerGradients  # noqa: E402
from dioptra.inference.torch.torch_runner import TorchInferenceRunner  # noqa: E402


class SmallNet(nn.Module):
    """A convolution, normalisation, dropout and two linear layers."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(4 * 36, classes)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.fc(self.dropout(self.features(x).flatten(1))) * scale


@pytest.fixture
def model() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(7, 1, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids() -> list[str]:
    return new_datapoints(7)


def new_datapoints(count: int) -> list[str]:
    utils.upload_to_lake(
        [{"type": "IMAGE", "metadata": {"uri": f"/data/{number}.png"}} for number in range(count)]
    )
    return utils.select_datapoints([])["id"].tolist()


def vectors(kind: str, name: str, ids: list[str]) -> np.ndarray:
    """The vectors of a type and name, in the order of `ids`."""
    lake = katiml.connect()
    with lake:
        rows = lake.feature_vectors.select(
            [
                {"left": "type", "op": "=", "right": kind},
                {"left": "model_name", "op": "=", "right": name},
            ],
            fields=["datapoint", "encoded_value"],
        )
    by_id = dict(zip(rows["datapoint"], map(decode, rows["encoded_value"]), strict=True))
    assert sorted(by_id) == sorted(ids)
    return np.stack([by_id[id_] for id_ in ids])


def run(runner: TorchInferenceRunner, data: Any, **options: Any) -> list[dict[str, Any]]:
    runner.run(DataLoader(data, batch_size=3, **options))
    states = runner.wait_for_uploads()
    assert all(state["counts"]["rejected"] == 0 for state in states), states
    return states


def test_logits_and_embeddings_arrive_as_the_model_gave_them(
    model: SmallNet, images: torch.Tensor, ids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    runner = TorchInferenceRunner(
        model,
        "CLASSIFICATION",
        "net",
        datapoint_ids=ids,
        embeddings_layers=["features.[0]", "features"],
        logits_layer="fc",
        class_names=["a", "b", "c"],
        dataset_metadata={"tags": {"run": "1"}},
        datapoints_metadata=[{"tags": {"place": str(number)}} for number in range(7)],
    )
    run(runner, images)
    model.eval()
    with torch.no_grad():
        logits, first = model(images).numpy(), model.features[0](images).flatten(1).numpy()
    np.testing.assert_allclose(vectors("LOGITS", "net", ids), logits, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(
        vectors("EMBEDDINGS", "net:features.[0]", ids), first, rtol=2e-3, atol=1e-4
    )
    rows = utils.select_predictions([]).set_index("datapoint").loc[ids]
    assert rows["class_name"].tolist() == [["a", "b", "c"][row] for row in logits.argmax(1)]
    tags = utils.select_datapoints([], fields=["id", "tags.*"]).set_index("id").loc[ids]["tags"]
    assert [{tag["name"]: tag["value"] for tag in row} for row in tags] == [
        {"run": "1", "place": str(number)} for number in range(7)
    ]
    assert "Inferred 7 datapoints" in capsys.readouterr().out


def test_without_a_logits_layer_logits_that_are_there_stay(
    model: SmallNet, images: torch.Tensor, ids: list[str]
) -> None:
    run(TorchInferenceRunner(model, "CLASSIFICATION", "net", ids, ["features"]), images)
    row = utils.select_predictions([], limit=1).iloc[0]
    assert row["class_name"] is None and row["confidences"] is None
    assert len(vectors("EMBEDDINGS", "net:features", ids)) == 7


def test_nothing_of_the_runner_is_left_in_the_model(
    model: SmallNet, images: torch.Tensor, ids: list[str]
) -> None:
    model.train()
    model.features[0].eval()
    before = {name: layer.training for name, layer in model.named_modules()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    runner = TorchInferenceRunner(
        model,
        "CLASSIFICATION",
        "net",
        ids,
        ["features"],
        "fc",
        mc_dropout_samples=2,
        grad_embeddings_transform=LastLayerGradients("fc"),
    )
    run(runner, images)
    with pytest.raises(RuntimeError):
        run(runner, torch.zeros(7, 9, 6, 6))
    assert {name: layer.training for name, layer in model.named_modules()} == before
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_only_dropout_is_random_in_mc_dropout(
    model: SmallNet, images: torch.Tensor, ids: list[str]
) -> None:
    run(
        TorchInferenceRunner(
            model, "CLASSIFICATION", "net", ids, ["features"], "fc", mc_dropout_samples=5
        ),
        images,
    )
    model.eval()
    with torch.no_grad():
        features = model.features(images).flatten(1).numpy()
    # Batch normalisation in train mode would change these, and no dropout stands before them.
    np.testing.assert_allclose(
        vectors("EMBEDDINGS", "net:features", ids), features, rtol=2e-3, atol=1e-4
    )
    metrics = utils.select_predictions([])["metrics"]
    assert all(row["variance"] > 0 and 0 < row["bald"] < 1 for row in metrics)


def test_logits_of_all_passes_reach_a_transform(
    model: SmallNet, images: torch.Tensor, ids: list[str]
) -> None:
    shapes = []

    def transform(logits: Any, embeddings: Any, metadata: Any) -> list[dict[str, Any]]:
        shapes.append((tuple(logits.shape), tuple(embeddings["features"].shape), len(metadata)))
        return [{"metrics": {"spread": row.std(0).mean()}} for row in logits]

    run(
        TorchInferenceRunner(
            model,
            "CLASSIFICATION",
            "net",
            ids,
            ["features"],
            "fc",
            logits_transform=transform,
            mc_dropout_samples=4,
        ),
        images,
    )
    assert shapes[0] == ((3, 4, 3), (3, 4, 6, 6), 3) and shapes[-1][0] == (1, 4, 3)
    assert all(row["spread"] > 0 for row in utils.select_predictions([])["metrics"])


class Detector(nn.Module):
    """Returns what torchvision's detectors return."""

    def __init__(self, masks: bool = False) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.masks = masks

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        found = []
        for image in images:
            count = int(image[0, 0, 0])
            boxes = torch.tensor([[1.0, 2.0, 4.0, 6.0]]).repeat(count, 1) * self.scale
            one = {
                "boxes": boxes,
                "labels": torch.ones(count, dtype=torch.int64),
                "scores": torch.linspace(0.9, 0.5, count),
            }
            if self.masks:
                one["masks"] = torch.zeros(count, 1, 8, 8)
                one["masks"][:, 0, 2:6, 1:4] = 0.8
            found.append(one)
        return found


@pytest.mark.parametrize("kind", ["OBJECT_DETECTION", "INSTANCE_SEGMENTATION"])
def test_detectors_that_return_a_list_of_dicts(ids: list[str], kind: str) -> None:
    images = [torch.full((1, 8, 8), float(number)) for number in range(7)]
    runner = TorchInferenceRunner(
        Detector(kind == "INSTANCE_SEGMENTATION"),
        kind,
        "det",
        ids,
        class_names=["background", "cat"],
    )
    run(runner, images, collate_fn=list)
    boxes = utils.select_bboxes([])
    predictions = utils.select_predictions([])
    owner = dict(zip(predictions["id"], predictions["datapoint"], strict=True))
    counts = boxes["prediction"].map(owner).value_counts()
    assert [int(counts.get(id_, 0)) for id_ in ids] == list(range(7))
    assert set(boxes["class_name"]) == {"cat"}
    sides = boxes[["left", "top", "width", "height"]].drop_duplicates().values.tolist()
    assert sides == [[1.0, 2.0, 3.0, 4.0]]
    assert boxes["confidence"].max() == pytest.approx(0.9)
    if kind == "INSTANCE_SEGMENTATION":
        mask = decode(boxes["encoded_segmentation_mask"][0])
        assert mask.shape == (8, 8) and mask.sum() == 12


def test_boxes_of_a_logits_transform(model: SmallNet, images: torch.Tensor, ids: list[str]) -> None:
    def transform(logits: Any, _embeddings: Any, metadata: Any) -> list[dict[str, Any]]:
        return [
            {"bboxes": [{"top": 1, "left": 2, "width": 3, "height": float(row["size"])}]}
            for row in metadata
        ]

    runner = TorchInferenceRunner(
        model,
        "OBJECT_DETECTION",
        "net",
        ids,
        logits_layer="",
        logits_transform=transform,
        datapoints_metadata=[
            {"metadata": {"n": number}, "size": number + 1} for number in range(7)
        ],
    )
    runner.run(DataLoader(images, batch_size=3))
    with pytest.raises(RuntimeError, match="failed"):
        runner.wait_for_uploads()  # `size` is no field of a record
    runner = TorchInferenceRunner(
        model,
        "OBJECT_DETECTION",
        "net",
        ids,
        logits_layer="",
        logits_transform=lambda logits, _, metadata: [
            {"bboxes": [{"top": 1, "left": 2, "width": 3, "height": float(row.max().abs() + 1)}]}
            for row in logits
        ],
    )
    run(runner, images)
    assert utils.select_bboxes([])["width"].tolist() == [3.0] * 7


class Segmenter(nn.Module):
    """Returns {"out": logits}, as torchvision's segmentation models do."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Dropout2d(0.5))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.classifier(x)}


@pytest.mark.parametrize("spelling", ["SEGMENTATION", "SEMANTIC_SEGMENTATION"])
def test_segmentation_logits(images: torch.Tensor, ids: list[str], spelling: str) -> None:
    torch.manual_seed(3)
    model = Segmenter()
    run(TorchInferenceRunner(model, spelling, "seg", ids, logits_layer=""), images)
    with torch.no_grad():
        expected = model.eval()(images)["out"].argmax(1).numpy()
    rows = utils.select_predictions([]).set_index("datapoint").loc[ids]
    masks = np.stack([decode(text) for text in rows["encoded_segmentation_class_mask"]])
    assert (masks == expected).mean() > 0.99  # half precision may change a tie
    assert rows["task_type"].unique().tolist() == ["SEGMENTATION"]


def test_segmentation_with_dropout_passes_and_channels_last(
    images: torch.Tensor, ids: list[str]
) -> None:
    class ChannelsLast(Segmenter):
        def forward(self, x: torch.Tensor) -> Any:
            return self.classifier(x).movedim(1, -1)

    run(
        TorchInferenceRunner(
            ChannelsLast(),
            "SEGMENTATION",
            "seg",
            ids,
            logits_layer="",
            class_names=list("abcd"),
            mc_dropout_samples=3,
            channel_last=True,
        ),
        images,
    )
    rows = utils.select_predictions([])
    assert all(row["variance"] > 0 for row in rows["metrics"])
    assert decode(rows["encoded_segmentation_class_mask"][0]).shape == (6, 6)


class TextEncoder(nn.Module):
    """Takes and returns what Hugging Face's encoders take and return."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)

    def forward(self, input_ids: Any, attention_mask: Any, output_attentions: bool = False) -> Any:
        return SimpleNamespace(last_hidden_state=self.embed(input_ids), pooler_output=None)


class Tokens(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        mask = torch.ones(5, dtype=torch.int64)
        mask[3:] = 0
        return {"input_ids": torch.arange(5) + index, "attention_mask": mask}


@pytest.mark.parametrize("pooling", [None, "mean", "first"])
def test_models_of_hugging_face(ids: list[str], pooling: str | None) -> None:
    model = TextEncoder()
    data = Tokens()
    run(
        TorchInferenceRunner(
            model,
            "CLASSIFICATION",
            "text",
            ids,
            [""],
            forward_kwargs={"output_attentions": True},
            token_pooling=pooling,
        ),
        data,
    )
    tokens = model.embed(
        torch.stack([item["input_ids"] for item in map(data.__getitem__, range(7))])
    ).detach()  # type: ignore[attr-defined]
    expected = {None: tokens.flatten(1), "mean": tokens[:, :3].mean(1), "first": tokens[:, 0]}
    np.testing.assert_allclose(
        vectors("EMBEDDINGS", "text", ids), expected[pooling].numpy(), rtol=2e-3, atol=1e-3
    )


def test_texts_are_completions(ids: list[str]) -> None:
    class Writer(nn.Module):
        def forward(self, prompts: list[str]) -> list[str]:
            return [prompt.upper() for prompt in prompts]

    run(TorchInferenceRunner(Writer(), "COMPLETION", "w", ids), [f"p{n}" for n in range(7)])
    assert sorted(utils.select_completions([])["text"]) == [f"P{n}" for n in range(7)]


def test_gradients_are_those_of_autograd(
    model: SmallNet, images: torch.Tensor, ids: list[str]
) -> None:
    def by_autograd(logits: torch.Tensor) -> dict[str, torch.Tensor]:
        rows = []
        for row in logits:
            loss = nn.functional.cross_entropy(row[None], row.argmax()[None])
            rows.append(torch.autograd.grad(loss, model.fc.weight, retain_graph=True)[0].flatten())
        return {"fc": torch.stack(rows)}

    found = {}
    for name, transform in (
        ("autograd", by_autograd),
        ("full", LastLayerGradients("fc", factorised=False)),
        ("factors", LastLayerGradients("fc")),
    ):
        run(
            TorchInferenceRunner(
                model,
                "CLASSIFICATION",
                name,
                ids,
                logits_layer="fc",
                grad_embeddings_transform=transform,
            ),
            images,
        )
        if name != "factors":
            found[name] = vectors("GRAD_EMBEDDINGS", f"{name}:fc", ids).astype(np.float64)
    np.testing.assert_allclose(found["full"], found["autograd"], rtol=1e-2, atol=2e-4)
    inputs = vectors("EMBEDDINGS", "factors:fc.input", ids).astype(np.float64)
    logits = vectors("LOGITS", "factors", ids).astype(np.float64)
    error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error[np.arange(7), logits.argmax(1)] -= 1
    products = (error @ error.T) * (inputs @ inputs.T)
    full = found["full"] @ found["full"].T
    np.testing.assert_allclose(products, full, rtol=2e-2, atol=1e-3)


def test_large_feature_maps_are_pooled_as_the_lake_does(ids: list[str]) -> None:
    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.repeat(1, 300, 1, 1) * torch.arange(300.0)[:, None, None]

    images = torch.rand(7, 1, 6, 6)
    run(TorchInferenceRunner(Wide(), "CLASSIFICATION", "wide", ids, [""]), images)
    sent = vectors("EMBEDDINGS", "wide", ids)
    assert sent.shape == (7, 300 * 9)
    with katiml.connect() as lake:
        for id_, image in zip(ids, images, strict=True):
            whole = Wide()(image[None])[0].numpy()
            prediction = {
                "task_type": "CLASSIFICATION",
                "model_name": "wide",
                "embeddings": {"": whole},
            }
            lake.ingest([{"id": id_, "predictions": [prediction]}])
    np.testing.assert_array_equal(vectors("EMBEDDINGS", "wide", ids), sent)


def test_uploads_overlap_and_stay_bounded(model: SmallNet, monkeypatch: pytest.MonkeyPatch) -> None:
    started, gate = threading.Event(), threading.Event()
    batches: list[int] = []
    seen: list[int] = []

    def slow(records: list[Any]) -> dict[str, Any]:
        started.set()
        assert gate.wait(20)
        batches.append(len(records))
        return {"id": "x"}

    class Counted(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> torch.Tensor:
            seen.append(index)
            return torch.zeros(1, 6, 6)

    monkeypatch.setattr(utils, "_send", slow)
    runner = TorchInferenceRunner(
        model,
        "CLASSIFICATION",
        "net",
        embeddings_layers=["features"],
        dataset_metadata={"type": "IMAGE"},
    )
    runner.max_batch_size = 2
    thread = threading.Thread(target=lambda: runner.run(DataLoader(Counted(), batch_size=2)))
    thread.start()
    try:
        assert started.wait(20)
        thread.join(0.5)
        # One batch is on its way and one waits; the model waits with the third.
        assert 2 < len(seen) <= 8
    finally:
        gate.set()
        thread.join(20)
    assert batches == [2] * 10 and len(runner.uploads) == 10


def test_an_upload_that_fails_ends_the_run(
    model: SmallNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_records: list[Any]) -> dict[str, Any]:
        raise ConnectionError("no lake")

    monkeypatch.setattr(utils, "_send", broken)
    runner = TorchInferenceRunner(
        model, "CLASSIFICATION", embeddings_layers=["fc"], dataset_metadata={"type": "IMAGE"}
    )
    runner.max_batch_size = 1
    with pytest.raises(ConnectionError, match="no lake"):
        runner.run(DataLoader(torch.zeros(9, 1, 6, 6)))


def test_local_storage_and_upload_later(
    model: SmallNet,
    images: torch.Tensor,
    ids: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIOPTRA_LOCAL_CACHE_DIR", str(tmp_path / "cache"))
    runner = TorchInferenceRunner(model, "CLASSIFICATION", "net", ids, ["features"], "fc")
    runner.use_local_storage = True
    runner.max_batch_size = 3
    assert run(runner, images) == []
    assert utils.select_predictions([]).empty
    assert len(runner.stored) == 3 and all(Path(path).exists() for path in runner.stored)
    assert [state["counts"]["landed"] for state in runner.upload_stored()] == [3, 3, 1]
    assert len(utils.select_predictions([])) == 7
    assert runner.stored == [] and list((tmp_path / "cache").iterdir()) == []
    # Another process finds the files by itself.
    utils.store_to_local_cache([{"type": "TEXT", "text": "later"}])
    assert [state["status"] for state in utils.upload_local_cache()] == ["SUCCEEDED"]


def test_over_http_vectors_are_the_same(
    model: SmallNet, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIOPTRA_LOCAL_CACHE_DIR", str(tmp_path / "cache"))
    with katiml.connect(tmp_path / "served") as lake, serving(create_app(lake, Settings())) as url:
        monkeypatch.setenv("DIOPTRA_APP_ENDPOINT", url)
        monkeypatch.setenv("DIOPTRA_API_KEY", lake.keys.create("sdk").secret)
        for number in range(7):
            lake.ingest([{"type": "IMAGE", "request_id": str(number)}])
        ids = utils.select_datapoints([])["id"].tolist()
        runner = TorchInferenceRunner(model, "CLASSIFICATION", "net", ids, ["features"], "fc")
        run(runner, images)
        runner.use_local_storage = True
        runner.model_name = "later"
        runner.run(DataLoader(images))
        assert runner.upload_stored()[0]["counts"]["landed"] == 7
        rows = lake.feature_vectors.select(
            {"left": "model_name", "op": "in", "right": ["net:features", "later:features"]},
            order_by="model_name",
        )
        by_id = {}
        for id_, text in zip(rows["datapoint"], rows["encoded_value"], strict=True):
            by_id.setdefault(id_, []).append(decode(text))
    model.eval()
    with torch.no_grad():
        expected = model.features(images).flatten(1).half().numpy()
    for index, id_ in enumerate(ids):
        assert len(by_id[id_]) == 2
        for vector in by_id[id_]:
            np.testing.assert_allclose(vector, expected[index], rtol=1e-2, atol=1e-3)


class Files(torch.utils.data.Dataset):
    """Knows the files of its items."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((1, 6, 6), float(Path(self.paths[index]).stem))


def test_ids_by_the_files_of_the_dataset(model: SmallNet, ids: list[str]) -> None:
    files = Files([f"/data/{number}.png" for number in (4, 2, 6, 0)])
    for way, data in (("by uri", files), ("by basename", Subset(files, [3, 1]))):
        run(TorchInferenceRunner(model, "CLASSIFICATION", way, way, ["[0]"]), data)
    rows = utils.select_predictions([])
    owners = rows.groupby("model_name")["datapoint"].apply(sorted)
    assert owners["by uri"] == sorted(ids[number] for number in (4, 2, 6, 0))
    assert owners["by basename"] == sorted([ids[0], ids[2]])
    runner = TorchInferenceRunner(model, "CLASSIFICATION", "m", "by uri", ["[0]"])
    with pytest.raises(InvalidInput, match=r"1 of 2 files .*77.png \(missing\)"):
        runner.run(DataLoader(Files(["/data/1.png", "/data/77.png"])))
    with pytest.raises(InvalidInput, match="files of a Tensor are not known"):
        runner.run(DataLoader(torch.zeros(2, 1, 6, 6)))
    left_out = TorchInferenceRunner(model, "CLASSIFICATION", "some", [None, *ids[1:]], ["[0]"])
    run(left_out, torch.zeros(7, 1, 6, 6))
    assert set(
        utils.select_predictions([{"left": "model_name", "op": "=", "right": "some"}])["datapoint"]
    ) == set(ids[1:])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"embeddings_layers": ["features.[7]"]}, r"features has: 0, 1, 2"),
        ({"embeddings_layers": ["feature"]}, r"no layer 'feature': .* has: features, dropout, fc"),
        ({"logits_layer": "fc.weight"}, "fc has: no layers"),
        ({"model_type": "SMELL"}, "model_type is 'SMELL'"),
        ({"datapoint_ids": ["a"]}, "datapoint_ids has 1 entries, the data 7"),
        ({"datapoints_metadata": [{}] * 3}, "datapoints_metadata has 3 entries, the data 7"),
        ({"logits_layer": "features"}, "logits of shape"),
        ({"logits_layer": "fc", "class_names": ["a"]}, "1 names, the logits have 3"),
        ({"logits_transform": lambda *_: []}, "need a logits_layer"),
        (
            {
                "logits_layer": "fc",
                "logits_transform": lambda *_, metadata: [],
                "grad_embeddings_transform": LastLayerGradients("fc"),
            },
            "keeps them back",
        ),
        (
            {
                "logits_layer": "fc",
                "grad_embeddings_transform": LastLayerGradients("features"),
            },
            "want logits of items x classes",
        ),
        (
            {"logits_layer": "fc", "logits_transform": lambda *_, metadata: [{}]},
            "1 items for a batch of 3",
        ),
        (
            {"logits_layer": "fc", "logits_transform": lambda *_, metadata: {"bboxes": []}},
            "logits_transform returned dict",
        ),
        ({"model_type": "OBJECT_DETECTION"}, "no boxes are found"),
        ({"mc_dropout_samples": -1}, "mc_dropout_samples is -1"),
        ({"data_transform": lambda batch: [batch, 1]}, "does not take a list of 2"),
        (
            {
                "data_transform": lambda batch: batch,
                "embeddings_layers": ["fc"],
                "token_pooling": "x",
            },
            "token_pooling",
        ),
    ],
)
def test_what_is_wrong_is_said(
    model: SmallNet, images: torch.Tensor, options: dict[str, Any], error: str
) -> None:
    with pytest.raises(InvalidInput, match=error):
        TorchInferenceRunner(model, **{"model_type": "CLASSIFICATION", **options}).run(
            DataLoader(images, batch_size=3)
        )


def test_unused_layers_shuffled_data_and_models_without_dropout(images: torch.Tensor) -> None:
    class Unused(SmallNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.features(x)

    with pytest.raises(InvalidInput, match="'fc' was not called"):
        TorchInferenceRunner(Unused(), "CLASSIFICATION", embeddings_layers=["fc"]).run(
            DataLoader(images)
        )
    with pytest.raises(InvalidInput, match="draws with a RandomSampler"):
        TorchInferenceRunner(SmallNet(), "CLASSIFICATION", datapoint_ids=["a"] * 7).run(
            DataLoader(images, shuffle=True)
        )
    with pytest.raises(InvalidInput, match="no dropout layers"):
        TorchInferenceRunner(nn.Linear(2, 2), "CLASSIFICATION", mc_dropout_samples=3)
    with pytest.raises(InvalidInput, match="cannot be averaged"):
        TorchInferenceRunner(
            nn.Sequential(nn.Dropout(), Detector()), "OBJECT_DETECTION", mc_dropout_samples=2
        ).run(DataLoader(torch.ones(1, 1, 8, 8)))


def test_a_vector_that_is_not_finite_rejects_its_record_alone(ids: list[str]) -> None:
    images = torch.ones(7, 4)
    images[2] = float("nan")
    runner = TorchInferenceRunner(nn.Identity(), "CLASSIFICATION", "net", ids, [""])
    runner.run(DataLoader(images, batch_size=3))
    with pytest.warns(UserWarning, match="1 records were rejected"):
        states = runner.wait_for_uploads()
    assert states[0]["counts"] == {"read": 7, "landed": 6, "rejected": 1}
