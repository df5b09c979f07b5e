"""Records and images through a real bucket (an S3 server of this machine)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fsspec
import httpx
import numpy as np
import pytest
from PIL import Image

import katiml
from dioptra.lake import utils
from katiml.errors import InvalidSource, KatiMLError
from tests.server.conftest import picture

BUCKET = "uploads"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server with a bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.put(
        f"http://{host}:{port}/{BUCKET}",
        content="<CreateBucketConfiguration><LocationConstraint>us-east-2"
        "</LocationConstraint></CreateBucketConfiguration>",
    ).raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def credentials(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("DIOPTRA_UPLOAD_BUCKET", BUCKET)
    monkeypatch.setenv("DIOPTRA_UPLOAD_PREFIX", "some/prefix/")


def objects() -> set[str]:
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
    filesystem.invalidate_cache()
    return set(filesystem.find(BUCKET))


def test_via_object_store(lake: katiml.Lake) -> None:
    before = objects()
    record = {**picture(0), "tags": {"score": np.float32(0.5)}}
    upload = utils.upload_to_lake_via_object_store([record, {"type": "SMELL"}], custom_path="logs")
    state = utils.wait_for_upload(upload)
    assert state["counts"] == {"read": 2, "landed": 1, "rejected": 1}
    (made,) = objects() - before
    assert made.startswith(f"{BUCKET}/some/prefix/logs/") and made.endswith(".ndjson.gz")
    assert "Signature" not in json.dumps(state)


def test_from_bucket(lake: katiml.Lake) -> None:
    lines = "".join(json.dumps({"type": "TEXT", "text": str(n)}) + "\n" for n in range(10))
    fsspec.filesystem("s3", skip_instance_cache=True).pipe(f"{BUCKET}/own.ndjson", lines.encode())
    part = utils.upload_to_lake_from_bucket(BUCKET, "own.ndjson", offset=2, limit=5)
    assert utils.wait_for_upload(part)["counts"]["landed"] == 3
    whole = utils.upload_to_lake_from_bucket(BUCKET, "own.ndjson", disable_batching=True)
    assert utils.wait_for_upload(whole)["counts"]["landed"] == 10
    missing: Any = None
    with pytest.raises((RuntimeError, KatiMLError)):
        missing = utils.wait_for_upload(utils.upload_to_lake_from_bucket(BUCKET, "none.ndjson"))
    assert missing is None
    assert lake.datapoints.count() == 13


def test_images(lake: katiml.Lake) -> None:
    image = Image.fromarray(np.full((4, 6, 3), 7, np.uint8))
    (upload,) = utils.upload_image_dataset(
        [{"image": image}], "CLASSIFICATION", "image", image_ids=["one"]
    )
    utils.wait_for_upload(upload)
    metadata = utils.select_datapoints([])["metadata"][0]
    assert metadata == {"uri": f"s3://{BUCKET}/some/prefix/images/one.png", "width": 6, "height": 4}
    with fsspec.filesystem("s3", skip_instance_cache=True).open(metadata["uri"]) as file:
        np.testing.assert_array_equal(np.asarray(Image.open(file)), np.asarray(image))


def test_bucket_that_does_not_exist(lake: katiml.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIOPTRA_UPLOAD_BUCKET", "no-such-bucket")
    with pytest.raises(InvalidSource, match="no-such-bucket") as caught:
        utils.upload_to_lake_via_object_store([picture(0)])
    assert "credentials" in (caught.value.hint or "")
