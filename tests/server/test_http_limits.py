"""Bounds on bodies and on the rate of requests, without a lake."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from katiml.errors import InvalidInput
from katiml.server import errors
from katiml.server.limits import BodyLimit, RateLimit, TooManyRequests
from katiml.server.uploads import store_file
from tests.serving import client_of

LIMIT = 1_000_000


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """An application that answers with the size of the body it was given."""
    app = FastAPI()
    errors.install(app)

    async def size(request: Request) -> Response:
        return Response(str(len(await request.body())))

    async def fails(request: Request) -> Response:
        raise RuntimeError("the secret inside")

    for path in ("/size", "/large"):
        app.add_route(path, size, methods=["POST"])
    app.add_route("/fails", fails, methods=["POST"])
    app.add_middleware(BodyLimit, limit=LIMIT, exceptions={"/large": 10 * LIMIT})
    app.add_middleware(errors.Guard)
    with client_of(app) as client:
        yield client


def code(response: Any) -> str:
    found: str = response.json()["error"]["code"]
    return found


def test_body__up_to_the_limit(client: httpx.Client) -> None:
    assert client.post("/size", content=b"x" * LIMIT).text == str(LIMIT)
    assert client.post("/large", content=b"x" * 2 * LIMIT).text == str(2 * LIMIT)


@pytest.mark.parametrize("chunked", [False, True])
def test_body__past_the_limit(client: httpx.Client, chunked: bool) -> None:
    body = b"x" * (LIMIT + 1)
    response = client.post("/size", content=iter([body]) if chunked else body)
    assert response.status_code == 413
    assert code(response) == "too_large"
    assert "1 MB" in response.json()["error"]["message"]


def test_gzip__is_unpacked(client: httpx.Client) -> None:
    members = gzip.compress(b"x" * 1000) + gzip.compress(b"y" * 500)
    headers = {"content-encoding": "gzip"}
    assert client.post("/size", content=members, headers=headers).text == "1500"
    assert client.post("/size", content=b"", headers=headers).text == "0"
    pieces = iter([members[i : i + 7] for i in range(0, len(members), 7)])
    assert client.post("/size", content=pieces, headers=headers).text == "1500"


def test_gzip__bomb_is_stopped_before_it_is_unpacked(client: httpx.Client) -> None:
    bomb = gzip.compress(bytes(200_000_000))
    tracemalloc.start()
    response = client.post("/size", content=bomb, headers={"content-encoding": "gzip"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert response.status_code == 413
    assert peak < 20_000_000


@pytest.mark.parametrize(
    "body",
    [b"not gzip at all", gzip.compress(b"x" * 1000)[:-4], gzip.compress(b"x") + b"rubbish"],
    ids=["other", "short", "rubbish"],
)
def test_gzip__broken(client: httpx.Client, body: bytes) -> None:
    response = client.post("/size", content=body, headers={"content-encoding": "gzip"})
    assert response.status_code == 400
    assert code(response) == "invalid_input"


def test_encoding__unknown(client: httpx.Client) -> None:
    response = client.post("/size", content=b"x", headers={"content-encoding": "br"})
    assert response.status_code == 400
    assert "gzip" in response.json()["error"]["hint"]


def test_mistake_of_ours__has_an_id_and_no_secret(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    response = client.post("/fails")
    assert response.status_code == 500
    error = response.json()["error"]
    assert error["code"] == "internal_error"
    assert "secret" not in response.text and "Traceback" not in response.text
    assert error["details"]["id"] in caplog.text
    assert "the secret inside" in caplog.text


def test_unknown_address_and_method(client: httpx.Client) -> None:
    assert (client.get("/nowhere").status_code, code(client.get("/nowhere"))) == (404, "not_found")
    response = client.get("/size")
    assert (response.status_code, code(response)) == (405, "method_not_allowed")


def test_rate__refills() -> None:
    now = 0.0
    limit = RateLimit(60, clock=lambda: now)
    limit.check("a", cost=0.0)
    for _ in range(60):
        limit.check("a")
    with pytest.raises(TooManyRequests) as caught:
        limit.check("a")
    assert caught.value.status == 429
    assert caught.value.details["retry_after"] >= 1
    limit.check("b")
    with pytest.raises(TooManyRequests):
        limit.check("a", cost=0.0)
    now = 2.0
    limit.check("a")
    limit.check("a")
    with pytest.raises(TooManyRequests):
        limit.check("a")
    RateLimit(0).check("a")


def multipart(*parts: tuple[str, bytes]) -> bytes:
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n'
        % (name.encode(), data)
        for name, data in parts
    )
    return body + b"--b--\r\n"


def send(body: bytes, step: int, content_type: str = "multipart/form-data; boundary=b") -> bytes:
    """What the storing thread received."""
    received: list[bytes] = []

    def store(file: Any) -> str:
        while data := file.read(1000):
            received.append(data)
        return "stored"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), step):
            yield body[start : start + step]

    assert asyncio.run(store_file(content_type, chunks(), store)) == "stored"
    return b"".join(received)


@pytest.mark.parametrize("step", [1, 13, 100_000])
def test_upload__the_part_named_file(step: int) -> None:
    data = bytes(range(256)) * 8 + b"\r\n--b\r--b\n"
    body = multipart(("other", b"no"), ("file", data), ("file", b"second"), ("last", b"no"))
    assert send(body, step) == data
    assert send(multipart(("file", b"")), step) == b""


def test_upload__larger_than_the_queue() -> None:
    data = b"0123456789" * 1_000_000
    assert send(multipart(("file", data)), 65_536) == data


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/form-data; boundary=b"),
        (multipart(("other", b"x")), "multipart/form-data; boundary=b"),
        (multipart(("file", b"x" * 10_000))[:-20], "multipart/form-data; boundary=b"),
        (b"rubbish", "multipart/form-data; boundary=b"),
        (multipart(("file", b"x")), "multipart/form-data"),
        (b"{}", "application/json"),
        (b"{}", ""),
    ],
)
def test_upload__broken(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidInput):
        send(body, 100, content_type)


def test_upload__cut_off_makes_the_storing_fail() -> None:
    failed: list[BaseException] = []

    def store(file: Any) -> str:
        try:
            while file.read(1000):
                pass
        except OSError as error:
            failed.append(error)
            raise
        return "stored"

    async def chunks() -> AsyncIterator[bytes]:
        yield multipart(("file", b"x" * 1_000_000))[:900_000]
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        asyncio.run(store_file("multipart/form-data; boundary=b", chunks(), store))
    assert len(failed) == 1


def test_upload__storing_that_fails_is_told() -> None:
    def store(file: Any) -> str:
        file.read(10)
        raise OSError("disk full")

    async def chunks() -> AsyncIterator[bytes]:
        body = multipart(("file", b"x" * 20_000_000))
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(store_file("multipart/form-data; boundary=b", chunks(), store))
