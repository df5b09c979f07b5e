"""`TfInferenceRunner` with real Keras 3: on TensorFlow here, on another backend in a process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import katiml
from dioptra.lake import utils
from katiml.errors import InvalidInput
from katiml.records.arrays import decode

pytestmark = pytest.mark.xdist_group("tensorflow")  # one worker carries it


@pytest.fixture(scope="module")
def keras() -> Iterator[Any]:
    """Imported late: it takes seconds and half a gigabyte, which other workers do without."""
    pytest.importorskip("tensorflow")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("keras")


@pytest.fixture
def model(keras: Any) -> Any:
    keras.utils.set_random_seed(0)
    backbone = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.BatchNormalization(name="norm"),
        ],
        name="backbone",
    )
    inputs = keras.Input((6, 6, 1))
    features = backbone(inputs)
    dropped = keras.layers.Dropout(0.5)(keras.layers.Flatten()(features))
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(dropped))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).random((7, 6, 6, 1), dtype=np.float32)


@pytest.fixture
def ids() -> list[str]:
    utils.upload_to_lake([{"type": "IMAGE", "request_id": str(number)} for number in range(7)])
    return utils.select_datapoints([])["id"].tolist()


def vectors(kind: str, name: str, ids: list[str]) -> np.ndarray:
    with katiml.connect() as lake:
        rows = lake.feature_vectors.select(
            [
                {"left": "type", "op": "=", "right": kind},
                {"left": "model_name", "op": "=", "right": name},
            ]
        )
    by_id = dict(zip(rows["datapoint"], map(decode, rows["encoded_value"]), strict=True))
    return np.stack([by_id[id_] for id_ in ids])


def run(keras: Any, data: Any, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
    from dioptra.inference.tf.tf_runner import TfInferenceRunner

    runner = TfInferenceRunner(*arguments, **options)
    runner.run(data)
    states = runner.wait_for_uploads()
    assert all(state["counts"]["rejected"] == 0 for state in states)
    return states


def batched(images: np.ndarray, *more: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, *more) if more else images).batch(3)


def test_logits_and_embeddings_of_a_tf_data_dataset(
    keras: Any, model: Any, images: np.ndarray, ids: list[str]
) -> None:
    run(
        keras,
        batched(images),
        model,
        "CLASSIFICATION",
        "net",
        ids,
        embeddings_layers=["backbone.conv", "backbone.[1]"],
        logits_layer="head",
        class_names=["a", "b", "c"],
        channel_last=True,
    )
    logits = keras.ops.convert_to_numpy(model(images, training=False))
    maps = keras.ops.convert_to_numpy(model.get_layer("backbone").get_layer("conv")(images))
    np.testing.assert_allclose(vectors("LOGITS", "net", ids), logits, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(
        vectors("EMBEDDINGS", "net:backbone.conv", ids),
        np.moveaxis(maps, -1, 1).reshape(7, -1),
        rtol=2e-3,
        atol=1e-3,
    )
    rows = utils.select_predictions([]).set_index("datapoint").loc[ids]
    assert rows["class_name"].tolist() == [["a", "b", "c"][row] for row in logits.argmax(1)]


def test_only_dropout_is_random_and_the_model_is_as_before(
    keras: Any, model: Any, images: np.ndarray, ids: list[str]
) -> None:
    before = keras.ops.convert_to_numpy(model(images, training=False))
    run(
        keras,
        batched(images, np.arange(7)),
        model,
        "CLASSIFICATION",
        "net",
        ids,
        ["backbone"],
        "head",
        mc_dropout_samples=4,
    )
    features = keras.ops.convert_to_numpy(model.get_layer("backbone")(images, training=False))
    np.testing.assert_allclose(
        vectors("EMBEDDINGS", "net:backbone", ids), features.reshape(7, -1), rtol=2e-3, atol=1e-3
    )
    assert all(row["variance"] > 0 for row in utils.select_predictions([])["metrics"])
    after = keras.ops.convert_to_numpy(model(images, training=False))
    np.testing.assert_array_equal(before, after)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def test_segmentation_and_models_that_are_subclasses(
    keras: Any, images: np.ndarray, ids: list[str]
) -> None:
    class Segmenter(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.head = keras.layers.Conv2D(4, 1)

        def call(self, inputs: Any) -> Any:
            return {"out": self.head(inputs)}

    model = Segmenter()
    run(
        keras,
        [images[:4], images[4:]],
        model,
        "SEGMENTATION",
        "seg",
        ids,
        ["head"],
        "",
        channel_last=True,
    )
    expected = keras.ops.convert_to_numpy(model(images)["out"]).argmax(-1)
    rows = utils.select_predictions([]).set_index("datapoint").loc[ids]
    masks = np.stack([decode(text) for text in rows["encoded_segmentation_class_mask"]])
    assert (masks == expected).mean() > 0.99


def test_what_is_wrong_is_said(keras: Any, model: Any, images: np.ndarray) -> None:
    from dioptra.inference.tf.tf_runner import TfInferenceRunner

    with pytest.raises(InvalidInput, match="backbone has: conv, norm"):
        TfInferenceRunner(model, "CLASSIFICATION", embeddings_layers=["backbone.cnv"])
    with pytest.raises(InvalidInput, match="and the data goes on"):
        run(keras, batched(images), model, "CLASSIFICATION", "net", ["a"], logits_layer="head")
    plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    with pytest.raises(InvalidInput, match="no dropout layers"):
        TfInferenceRunner(plain, "CLASSIFICATION", mc_dropout_samples=2)
    with pytest.raises(InvalidInput, match="files of a list are not known"):
        run(keras, [images], model, "CLASSIFICATION", "net", "by uri", logits_layer="head")


def test_another_backend() -> None:
    """In a process of its own, since a process has one backend; tensorflow is not needed there."""
    pytest.importorskip("keras")
    pytest.importorskip("torch")
    script = """
        import sys
        sys.modules["tensorflow"] = None
        import keras, numpy as np
        from dioptra.inference.tf.tf_runner import TfInferenceRunner
        from dioptra.lake.utils import select_predictions
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(3, name="head")]
        )
        runner = TfInferenceRunner(
            model, "CLASSIFICATION", "net", embeddings_layers=["[0]"], logits_layer="head",
            dataset_metadata={"type": "IMAGE"}, mc_dropout_samples=3,
        )
        runner.run([np.ones((2, 4), "float32")])
        assert runner.wait_for_uploads()[0]["counts"]["landed"] == 2
        assert all(row["variance"] > 0 for row in select_predictions([])["metrics"])
        print(keras.backend.backend())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "torch"
