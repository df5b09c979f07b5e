"""Files in a bucket, read through a real S3 API."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest

from katiml.errors import KatiMLError
from katiml.ingest import ingest
from katiml.store import Scope


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    environment = pytest.MonkeyPatch()
    environment.setenv("AWS_ACCESS_KEY_ID", "key")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment.setenv("AWS_ENDPOINT_URL", endpoint)
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="records")
    records = "\n".join(json.dumps({"type": "TEXT", "text": str(n)}) for n in range(20))
    client.put_object(
        Bucket="records", Key="day/one.ndjson.gz", Body=gzip.compress(records.encode())
    )
    client.close()
    yield "s3://records"
    environment.undo()
    server.stop()


def test_a_file_in_a_bucket(scope: Scope, bucket: str) -> None:
    for trusted in (True, False):
        upload = ingest(scope, f"{bucket}/day/one.ndjson.gz", trusted=trusted).wait(60)
        assert upload.status == "SUCCEEDED", upload.error
        assert upload.counts["landed"] == 20


@pytest.mark.parametrize("path", ["day/two.ndjson.gz", ""])
def test_a_file_that_is_not_there(scope: Scope, bucket: str, path: str) -> None:
    upload = ingest(scope, f"{bucket}/{path}").wait(60)
    assert upload.status == "FAILED"
    assert bucket in (upload.error or {})["message"]


def test_a_bucket_that_is_not_there(scope: Scope, bucket: str) -> None:
    try:
        upload = ingest(scope, "s3://nobodys/file").wait(60)
    except KatiMLError:
        return
    assert upload.status == "FAILED"
    assert "nobodys" in (upload.error or {})["message"]
