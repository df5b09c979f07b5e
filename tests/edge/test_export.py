"""Miners for devices, calibrated from a lake, in one file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import katiml
from katiml.edge import Miner, load
from katiml.errors import InvalidInput, KatiMLError, TooLarge

Record = dict[str, Any]


def frame(random: np.random.Generator, part: str, shift: float = 0.0) -> Record:
    return {
        "type": "IMAGE",
        "tags": {"part": part},
        "predictions": [
            {
                "task_type": "CLASSIFICATION",
                "model_name": "net",
                "logits": (2 * random.normal(size=4)).tolist(),
                "embeddings": {"pool": (shift + random.normal(size=6)).tolist()},
            }
        ],
    }


def part(name: str) -> list[Any]:
    return [
        {"left": "tags.name", "op": "=", "right": "part"},
        {"left": "tags.value", "op": "=", "right": name},
    ]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[katiml.Lake]:
    random = np.random.default_rng(0)
    with katiml.connect(tmp_path_factory.mktemp("lake")) as lake:
        lake.ingest([frame(random, "train") for _ in range(300)])
        lake.ingest([frame(random, "pool", 0.5) for _ in range(500)])
        yield lake


@pytest.mark.parametrize("rate", [0.02, 0.3, 1.0])
@pytest.mark.parametrize(
    "strategy",
    ["ENTROPY", "MARGIN", "CONFIDENCE", "ACTIVATION", "NOVELTY", "EMBEDDING_DISTANCE",
     "NEAREST_NEIGHBORS"],
)  # fmt: skip
def test_the_rate_is_the_share_of_the_selection_that_is_kept(
    lake: katiml.Lake, strategy: str, rate: float, tmp_path: Path
) -> None:
    metric = strategy in ("ENTROPY", "MARGIN", "CONFIDENCE")
    made = lake.edge_miner(
        strategy,
        part("pool"),
        model_name="net" if metric else "net:pool",
        rate=rate,
        reference_filters=None if metric else part("train"),
        reference_size=100,
    )
    miner = load(made.save(tmp_path / "miner.npz"))
    pool = lake.datapoints.select(part("pool"), ["id", "predictions.*"])
    vectors = lake.feature_vectors.select(
        {"left": "type", "op": "in", "right": ["EMBEDDINGS", "LOGITS"]},
        ["datapoint", "type", "encoded_value"],
    )
    by_id: dict[str, Record] = {}
    for row in vectors.itertuples():
        field = "embeddings" if row.type == "EMBEDDINGS" else "logits"
        from katiml.records.arrays import decode

        by_id.setdefault(row.datapoint, {"model_name": "net"})[field] = decode(row.encoded_value)
    kept = 0
    for one, said in zip(pool["id"], pool["predictions"], strict=True):
        prediction = {**by_id[one]}
        if metric:
            # The lake computed its confidences before it kept the logits as float16.
            prediction = {"model_name": "net", "confidences": said[0]["confidences"]}
        kept += miner.offer({"predictions": [prediction]})
    assert kept == round(rate * 500)
    assert miner.settings["made"]["calibrated_on"] == 500
    assert miner.settings["made"]["rate"] == rate


def test_the_reference_is_summed_up(lake: katiml.Lake, tmp_path: Path) -> None:
    sizes = {}
    for strategy in ("NOVELTY", "CORESET", "ACTIVATION"):
        miner = lake.edge_miner(
            strategy,
            model_name="net:pool",
            size=5,
            reference_filters=part("train"),
            reference_size=40,
        )
        path = miner.save(tmp_path / f"{strategy}.npz")
        sizes[strategy] = load(path).settings["reference"]
        assert path.stat().st_size < 5_000
        assert load(path).settings["made"]["reference_rows"] == 300
    assert sizes == {"NOVELTY": 40, "CORESET": 40, "ACTIVATION": 1}


def test_random_takes_its_rate_as_it_is(lake: katiml.Lake) -> None:
    miner = lake.edge_miner("RANDOM", rate=0.1)
    kept = sum(miner.offer({}) for _ in range(5_000))
    assert 400 < kept < 600


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strategy": "BADGE", "rate": 0.1}, "no strategy 'BADGE' on a device"),
        ({"strategy": "ENTROPY"}, "nothing says what to keep"),
        ({"strategy": "ENTROPY", "rate": 0}, "rate is 0"),
        ({"strategy": "ENTROPY", "rate": "much"}, "rate is 'much'"),
        ({"strategy": "ENTROPY", "rate": 0.1, "threshold": 1.0}, "both a rate and a threshold"),
        ({"strategy": "ENTROPY", "rate": 0.1, "model_name": "nat"}, "no predictions of 'nat'"),
        ({"strategy": "VARIANCE", "rate": 0.1}, "VARIANCE: no prediction of 'net'"),
        ({"strategy": "NOVELTY", "rate": 0.1}, "NOVELTY needs a reference"),
        (
            {"strategy": "NOVELTY", "rate": 0.1, "reference_filters": [], "model_name": "net:top"},
            "no embeddings are called 'net:top'",
        ),
        (
            {"strategy": "NOVELTY", "rate": 0.1, "reference_filters": [], "reference_size": 0},
            "reference_size is 0",
        ),
        ({"strategy": "CORESET", "model_name": "net:pool"}, "CORESET keeps a number of centres"),
    ],
)
def test_what_the_lake_cannot_give(
    lake: katiml.Lake, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(KatiMLError, match=problem):
        lake.edge_miner(**options)


# -- the file --------------------------------------------------------------------------------


def test_a_miner_is_the_same_after_a_round_trip(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    reference = random.normal(size=(9, 4)).astype(np.float16)
    made = Miner(
        "NOVELTY",
        model_name="net:pool",
        size=7,
        threshold=1.25,
        reference=reference,
        metric="cosine",
        neighbors=2,
        seed=11,
    )
    again = load(made.save(tmp_path / "folder" / "miner.npz"))
    assert again.settings == made.settings
    record = {"predictions": [{"model_name": "net", "embeddings": {"pool": random.normal(size=4)}}]}
    assert again.score(record) == made.score(record)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["miner.npz"]


def test_what_a_miner_sent_is_part_of_what_it_saves(tmp_path: Path) -> None:
    made = Miner("CORESET", size=2, reference=np.zeros((1, 2)))
    for vector in ([5.0, 0.0], [0.0, 9.0]):
        made.offer({"predictions": [{"embeddings": vector}]})
    made.clear()
    again = load(made.save(tmp_path / "miner.npz"))
    assert again.settings["reference"] == 3
    assert again.score({"predictions": [{"embeddings": [5.0, 0.0]}]}) == 0.0


def _written(path: Path, settings: Any, **arrays: Any) -> Path:
    text = json.dumps(settings).encode()
    np.savez(path, settings=np.frombuffer(text, np.uint8), **arrays)
    return path


GOOD = {
    "format": 1, "strategy": "ENTROPY", "threshold": 0.5, "metric": "euclidean",
    "embeddings_field": "embeddings", "aggregate": "sum", "neighbors": 5, "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 2}, "is of format 2"),
        ({"strategy": 7}, "is damaged"),
        ({"threshold": "low"}, "is damaged"),
        ({"neighbors": 2.5}, "is damaged"),
        ({"made": []}, "is damaged"),
        ({"strategy": "NOVELTY"}, "NOVELTY needs a reference"),
        ({"size": -3}, "size is -3"),
    ],
)
def test_files_that_say_something_wrong(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    assert load(_written(tmp_path / "good.npz", GOOD)).threshold == 0.5
    with pytest.raises(InvalidInput, match=problem):
        load(_written(tmp_path / "wrong.npz", {**GOOD, **change}))


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "wrong.npz"
    for data in (b"", b"PK\x03\x04 not a zip", json.dumps(GOOD).encode()):
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match="is no file of an edge miner"):
            load(path)
    with pytest.raises(InvalidInput, match="is of format"):
        load(_written(path, [1, 2, 3]))
    np.savez(path, other=np.zeros(3))
    with pytest.raises(InvalidInput, match="is no file of an edge miner"):
        load(path)
    _written(path, GOOD, reference=np.array([["a"]]))
    with pytest.raises(InvalidInput, match="damaged"):
        load(path)
    with pytest.raises(OSError):
        load(tmp_path / "missing.npz")


def test_pickles_are_never_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    text = json.dumps(GOOD).encode()
    trap = np.array([Trap()], dtype=object)
    path = tmp_path / "trap.npz"
    np.savez(path, settings=np.frombuffer(text, np.uint8), reference=trap)
    with pytest.raises(InvalidInput):
        load(path)
    assert not (tmp_path / "sprung").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("settings.npy", bytes(2_000_000))
    monkeypatch.setattr("katiml.edge.kit.MAX_KIT_BYTES", 1_000_000)
    with pytest.raises(TooLarge, match="unpacks to"):
        load(path)
