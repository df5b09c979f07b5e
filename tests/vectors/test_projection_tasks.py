"""Projections of a lake: as a task, in the library, over HTTP and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import katiml
from katiml.cli import main
from katiml.errors import InvalidFilter, InvalidInput, NotFound, TooLarge
from katiml.vectors import load_vectors, project
from katiml.vectors.task import begin_projection, read_points
from tests.mining.conftest import LABELLED, UNLABELLED, pool
from tests.server.conftest import Api, serve_lake

ADDRESS = "/api/analytics/vectors/reduce-dimensions"


@pytest.fixture
def filled(lake: katiml.Lake) -> katiml.Lake:
    lake.ingest(pool())
    return lake


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with katiml.connect(tmp_path_factory.mktemp("lake")) as lake:
        lake.ingest(pool())
        yield from serve_lake(lake)


def test_the_points_are_those_of_the_matrix(filled: katiml.Lake) -> None:
    points = filled.project(UNLABELLED, model_name="net:last")
    vectors = load_vectors(filled.scope, model_name="net:last")
    wanted = dict(zip(vectors.ids.astype(str), vectors.matrix, strict=True))
    matrix = np.array([wanted[id_] for id_ in points["id"]])
    assert len(points) == 40
    assert np.array_equal(points[["x", "y"]].to_numpy(np.float32), project(matrix, "pca"))
    (task,) = filled.tasks.list(kind="projection")
    assert task.result is not None and task.result["size"] == 40


def test_the_same_again_is_read_until_something_changes(
    filled: katiml.Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = filled.project(model_name="net")
    calls: list[str] = []

    def counted(matrix: Any, method: str, *, seed: int) -> Any:
        calls.append(method)
        return project(matrix, method, seed=seed)

    monkeypatch.setattr("katiml.vectors.task.project", counted)
    pd.testing.assert_frame_equal(filled.project(model_name="net"), first)
    assert calls == []
    filled.project(model_name="net", skip_caching=True)
    filled.project(model_name="net", seed=1)
    filled.ingest(pool(11))
    assert len(filled.project(model_name="net")) == 51
    assert calls == ["pca"] * 3


def test_the_oldest_points_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("katiml.vectors.task._KEPT", 2)
    with katiml.connect(tmp_path / "lake") as lake:
        lake.ingest(pool())
        tasks = [
            begin_projection(lake.scope, model_name="net", method="pca", seed=seed).wait(60)
            for seed in range(4)
        ]
        # Those that were there when the last one was done, and it.
        assert len(lake.tasks.list(kind="projection")) == 3
        with pytest.raises(NotFound):
            lake.tasks.get(tasks[0].id)
        with pytest.raises(NotFound):
            read_points(lake.scope, tasks[0])
        assert read_points(lake.scope, tasks[-1]).num_rows == 50


@pytest.mark.parametrize(
    ("told", "kind", "says"),
    [
        ({"method": "lda"}, InvalidInput, "lda"),
        ({"model_name": "other"}, InvalidInput, "'net:last'|other"),
        ({"embeddings_field": "pixels"}, InvalidInput, "pixels"),
        ({"seed": -1}, InvalidInput, "seed"),
        ({"seed": 2**40}, InvalidInput, "seed"),
        ({"filters": [{"left": "colour", "op": "=", "right": 1}]}, InvalidFilter, "colour"),
        ({"limit": -1}, InvalidInput, "limit"),
        ({"filters": [{"left": "text", "op": "=", "right": "?"}]}, InvalidInput, "embeddings"),
    ],
)
def test_what_cannot_be_projected(
    told: dict[str, Any], kind: type[Exception], says: str, served: Api
) -> None:
    with pytest.raises(kind, match=says):
        served.lake.project(**{"model_name": "net", **told})


def test_more_memory_than_there_is(served: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATIML_TASK_MEMORY", "1kB")
    with pytest.raises(TooLarge, match="projection"):
        served.lake.project(model_name="net")


def test_over_http(served: Api) -> None:
    body = {
        "datapoint_filters": UNLABELLED,
        "embeddings_name": "net:last",
        "algorithm_name": "PCA",
        "embeddings_field": "embeddings",
    }
    points = served.rows(ADDRESS, body)
    assert len(points) == 40
    assert set(points[0]) == {"datapoint", "x", "y", "vector", "prediction"}
    vectors = served.lake.feature_vectors.select(
        {"left": "type", "op": "=", "right": "EMBEDDINGS"}, ["id", "datapoint", "prediction"]
    ).set_index("id")
    for point in points:
        row = vectors.loc[point["vector"]]
        assert (row["datapoint"], row["prediction"]) == (point["datapoint"], point["prediction"])
    response = served.post(ADDRESS, {**body, "background": True})
    assert response.status_code == 202
    task_id = response.json()["id"]
    assert served.client.get(f"{ADDRESS}/{task_id}").json() == points
    assert served.stranger.get(f"{ADDRESS}/{task_id}").status_code == 404
    for wrong, status in (
        ({**body, "algorithm_name": "LDA"}, 400),
        ({**body, "embeddings_name": "other"}, 400),
        ({**body, "colour": "red"}, 422),
        ({**body, "dataset_id": "x"}, 404),
        ({**body, "dataset_id": "x", "dataset_ids": ["y"]}, 422),
    ):
        assert served.post(ADDRESS, wrong).status_code == status, wrong
    assert served.stranger.post(ADDRESS, json=body).status_code == 400


def test_of_datasets(served: Api) -> None:
    lake = served.lake
    one, two = lake.datasets.create("one"), lake.datasets.create("two")
    one.add(filters=UNLABELLED)
    two.add(filters=LABELLED)
    two.add(lake.datapoints.select(UNLABELLED, limit=1)["id"])
    body = {"embeddings_name": "net:last", "algorithm_name": "PCA"}
    assert len(served.rows(ADDRESS, {**body, "dataset_id": one.id})) == 40
    points = pd.DataFrame(served.rows(ADDRESS, {**body, "dataset_ids": [one.id, two.id]}))
    assert points.groupby("dataset").size().to_dict() == {one.id: 40, two.id: 11}
    shared = points[points.duplicated("datapoint", keep=False)]
    assert len(shared) == 2
    assert shared["x"].nunique() == 1


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KATIML_LAKE", str(tmp_path / "lake"))
    with katiml.connect() as lake:
        lake.ingest(pool())

    def katiml_says(*arguments: str) -> str:
        with pytest.raises(SystemExit) as left:
            main(["project", *arguments])
        said = capsys.readouterr()
        assert left.value.code in (0, None), said.err
        return said.out

    assert len(json.loads(katiml_says("--model", "net", "--json", "--limit", "45"))) == 45
    katiml_says("--model", "net:last", "--output", str(tmp_path / "points.csv"))
    assert pd.read_csv(tmp_path / "points.csv").columns.tolist() == ["id", "x", "y"]
    assert "20 of 50" not in katiml_says("--model", "net")
    with pytest.raises(SystemExit) as left:
        main(["project", "--model", "other"])
    assert left.value.code == 1
    assert "'net:last'" in capsys.readouterr().err
