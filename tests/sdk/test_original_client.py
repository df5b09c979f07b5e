"""The original client from PyPI, unmodified, against `katiml serve`, with a real bucket."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.sdk.original_client import python_of_original_client

KEY = "a key that only this test knows".replace(" ", "-")
BUCKET = "lake-uploads"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of an S3 server with a bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    httpx.put(
        f"{address}/{BUCKET}",
        content="<CreateBucketConfiguration><LocationConstraint>us-east-2"
        "</LocationConstraint></CreateBucketConfiguration>",
    ).raise_for_status()
    yield address
    server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a `katiml serve` process that may read private addresses."""
    folder = tmp_path_factory.mktemp("lake")
    process = subprocess.Popen(
        [sys.executable, "-m", "katiml", "serve", "--lake", str(folder), "--port", "0"],
        env={**os.environ, "KATIML_API_KEY": KEY, "KATIML_ALLOW_PRIVATE_URLS": "true"},
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    assert process.stderr
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            break
    else:
        pytest.fail("".join(said))
    try:
        yield found.group()
    finally:
        process.terminate()
        assert process.wait(60) == 0, process.stderr.read()
        process.stderr.close()


@pytest.fixture(scope="module")
def results(server: str, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the client saw."""
    home = tmp_path_factory.mktemp("home")
    output = home / "results.json"
    script = Path(__file__).with_name("original_client_script.py")
    done = subprocess.run(
        [python_of_original_client(), str(script), str(output)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "DIOPTRA_API_KEY": KEY,
            "DIOPTRA_APP_ENDPOINT": server,
            "DIOPTRA_API_ENDPOINT": f"{server}/events",
            "DIOPTRA_UPLOAD_BUCKET": BUCKET,
            "DIOPTRA_UPLOAD_PREFIX": "prefix",
            "AWS_ENDPOINT_URL": bucket,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def test_uploads(results: dict[str, Any]) -> None:
    uploads = results["uploads"]
    assert uploads["answer"]["id"]
    for name, landed in {"waited": 4, "unbatched": 1, "stream_waited": 1, "stored": 1}.items():
        assert uploads[name]["status"] == "SUCCEEDED", name
        assert uploads[name]["counts"]["landed"] == landed, name
        assert uploads[name]["errorMessage"] is None
        assert uploads[name]["durationMs"] >= 0
    assert uploads["streamed"]["status"] == "SUCCEEDED"
    assert uploads["after_stream"] == 6


def test_upload_from_bucket__lines_from_offset_to_limit(results: dict[str, Any]) -> None:
    found = results["from_bucket"]
    assert found["part"] == ["line 2", "line 3", "line 4"]
    assert found["whole"]["counts"]["landed"] == 10
    assert found["count"] == 13


# The last character of each uri: of 0 to 6, those that pass.
EXPECTED = {
    ("metadata.width", "="): "1",
    ("metadata.width", "!="): "023456",
    ("metadata.width", ">"): "456",
    ("metadata.width", "<"): "012",
    ("metadata.width", ">="): "3456",
    ("metadata.width", "<="): "0123",
    ("metadata.uri", "in"): "12",
    ("metadata.uri", "not in"): "023456",
    ("metadata.uri", "like"): "1",
    ("metadata.uri", "not like"): "023456",
    ("type", "="): "0123456",
    ("groundtruths.class_name", "="): "0246",
    ("predictions.model_name", "in"): "0123456",
    ("predictions.metrics.loss", ">="): "456",
    ("bboxes.class_name", "="): "0123456",
    ("id", "in"): "",
    ("id", "not in"): "0123456",
}


def test_every_operator(results: dict[str, Any]) -> None:
    found = {(left, op): uris for left, op, _, uris in results["selects"]["operators"]}
    assert found == EXPECTED


def test_selected_datapoints(results: dict[str, Any]) -> None:
    newest = results["selects"]["datapoints"]
    assert [row["metadata"]["uri"] for row in newest] == ["s3://dogs/6.jpg", "s3://dogs/5.jpg"]
    assert set(newest[0]) >= {
        "id",
        "organization_id",
        "created_at",
        "request_id",
        "type",
        "metadata",
        "text",
        "parent_datapoint",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", newest[0]["created_at"])
    assert len(results["selects"]["page"]) == 2
    assert results["selects"]["none"] == []


def test_joined_fields(results: dict[str, Any]) -> None:
    (row,) = results["selects"]["joined"]
    assert [truth["class_name"] for truth in row["groundtruths"]] == ["chihuahua"]
    assert sorted(guess["model_name"] for guess in row["predictions"]) == ["boxes", "mask", "net"]
    assert sorted(tag["name"] for tag in row["tags"]) == ["number", "source"]


def test_selected_attachments(results: dict[str, Any]) -> None:
    selects = results["selects"]
    entropies = [row["metrics"]["entropy"] for row in selects["predictions"]]
    assert len(entropies) == 7 and entropies == sorted(entropies)
    first = next(row for row in selects["predictions"] if row["metrics"]["loss"] == 0)
    assert first["class_name"] == "pug"
    assert sum(first["confidences"]) == pytest.approx(1)
    assert len(selects["groundtruths"]) == 7
    assert set(selects["groundtruths"][0]) == {"class_name", "datapoint"}
    assert selects["bboxes"][0]["coco_polygon"] is None
    assert selects["bboxes"][0]["height"] == 3


def test_error__carries_the_servers_sentence(results: dict[str, Any]) -> None:
    assert results["selects"]["error"].startswith("Api Error: ")
    assert "colour" in results["selects"]["error"]


def test_frames(results: dict[str, Any]) -> None:
    frames = results["frames"]
    assert len(frames["joined"]) == 2
    for row in frames["joined"]:
        assert len(row["groundtruths"]) == 1
        assert len(row["predictions"]) == 3
    assert frames["grouped"] == [
        {"uri": f"s3://dogs/{number}.jpg", "truths": 1, "guesses": 3} for number in range(2)
    ]


def test_arrays_of_the_answer_decode(results: dict[str, Any]) -> None:
    frames = results["frames"]
    assert frames["mask"] == [[0, 1], [1, 1]]
    assert set(frames["vectors"]) == {"EMBEDDINGS net:layer", "LOGITS net"}
    embedding = frames["vectors"]["EMBEDDINGS net:layer"]
    assert embedding[:2] == [0.5, 1.0]
    logits = frames["vectors"]["LOGITS net"]
    assert logits == pytest.approx([0.9, 1.4 - embedding[2]], abs=2e-3)
    assert all(np.dtype(name).kind == "f" for name in frames["dtypes"].values())


def test_updates(results: dict[str, Any]) -> None:
    updates = results["updates"]
    tags = {tag["name"]: tag["value"] for tag in updates["tags"]}
    assert tags == {"source": "dogs", "new": "yes"}
    after = {row["model_name"]: row for row in updates["after"]}
    assert after["net"]["id"] == updates["before"]
    assert after["net"]["class_name"] == "cat"
    assert after["other"]["class_name"] == "chihuahua"


def test_miners(results: dict[str, Any]) -> None:
    miners = results["miners"]
    assert miners["before"] == ["PENDING"] * 8
    pool = set(miners["pool"])
    for name in ("random", "entropy", "weighted entropy", "activation", "coreset", "knn", "badge"):
        assert len(set(miners[name])) == 2, (name, miners[name])
        assert set(miners[name]) <= pool, name
    # No prediction here has passes of MC dropout.
    assert miners["variance"] == "Miner failed"
    assert miners["after"] == ["SUCCESS"] * 3 + ["FAILURE"] + ["SUCCESS"] * 4
    assert miners["listed"] == miners["ids"][::-1]
    config = miners["coreset config"]
    assert (config["strategy"], config["size"], config["metric"]) == ("CORESET", 2, "cosine")
    assert config["select"]["limit"] == 4
    assert config["select_reference"]["filters"][0]["right"] == 102
    assert miners["reset"] == "PENDING"
    assert miners["again"] == miners["random"]
    assert miners["left"] == 0


def test_deletes(results: dict[str, Any]) -> None:
    deletes = results["deletes"]
    assert len(deletes["predictions"]) == 7
    assert {row["model_name"] for row in deletes["predictions"]} == {"mask"}
    assert deletes["predictions_left"] == 15
    assert len(deletes["groundtruths"]) == 2
    assert deletes["groundtruths_left"] == 5
    assert [row["metadata"]["width"] for row in deletes["datapoints"]] == [101]
    assert deletes["orphans"] == 0
    assert deletes["wiped"] == 6 + 13
    assert deletes["left"] == [0, 0, 0]
