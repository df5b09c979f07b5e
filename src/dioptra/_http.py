"""A server as a lake: HTTP with `x-api-key`, Arrow for rows, retries where they do no harm."""

from __future__ import annotations

import contextlib
import io
import os
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from dioptra import _progress, _settings
from dioptra._encode import encode_records
from katiml.errors import KatiMLError

if TYPE_CHECKING:
    import httpx

__all__ = ["ServerError", "ServerLake", "answer_of", "request"]

_ARROW = "application/vnd.apache.arrow.stream"
_TRIES = 7
_LONGEST_PAUSE = 20.0
# The server is starting, restarting, or too busy: nothing is wrong with the request.
_PASSING = {502, 503, 504}
_ANSWER_BYTES = 1 << 20


class ServerError(KatiMLError):
    """The server failed, or could not be reached."""


def request(
    method: str,
    url: str,
    *,
    json: Any = None,
    content: Callable[[], Any] | None = None,
    files: Any = None,
    headers: Mapping[str, str] | None = None,
    repeat: bool = False,
) -> Any:
    """One call; returns what its JSON holds, or a `pyarrow.Table` for an Arrow answer.

    With `repeat`, a call that failed on the way, or met a busy server, is sent again; without, only
    one that never reached the server.

    Raises the error that the server raised, as its class; ServerError where there was no answer.
    """
    import httpx

    def once() -> Any:
        sent = {"x-api-key": _settings.api_key(), **(headers or {})}
        body: dict[str, Any] = {"files": files}
        if content is not None:
            body = {"content": _pieces(content())}
        elif json is not None:
            body = {"content": msgspec.json.encode(json, enc_hook=_plain)}
            sent["content-type"] = "application/json"
        client = _client(_settings.verify_tls())
        with client.stream(method, url, headers=sent, **body) as response:
            return _answer(response)

    number = 0
    while True:
        try:
            return once()
        except httpx.TransportError as error:
            never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            if number == _TRIES - 1 or not (repeat or never_sent):
                raise _unreachable(error) from error
            _pause(number)
        except KatiMLError as error:
            status = error.details.get("status")
            # 429 refuses before anything is done.
            passing = status == 429 or (repeat and status in _PASSING)
            if number == _TRIES - 1 or not passing:
                raise
            _pause(number, error.details.get("retry_after"))
        number += 1


def _pause(number: int, wanted: Any = None) -> None:
    longest = min(_LONGEST_PAUSE, 0.2 * 2**number)
    seconds = random.uniform(longest / 2, longest)  # noqa: S311  # no secret
    if isinstance(wanted, int | float):
        seconds = max(seconds, min(float(wanted), 60.0))
    time.sleep(seconds)


def _unreachable(error: httpx.TransportError) -> ServerError:
    where = ""
    with contextlib.suppress(RuntimeError):
        where = f" at {error.request.url.copy_with(path='/', query=None)}"
    return ServerError(
        f"no answer from the server{where}: {error or type(error).__name__}",
        hint="is it running (`katiml serve`), and is DIOPTRA_APP_ENDPOINT its address?",
    )


@lru_cache(maxsize=4)
def _client(verify: bool) -> httpx.Client:
    """Connections are kept and shared by all threads of the process."""
    import httpx

    timeout = httpx.Timeout(600.0, connect=10.0)
    return httpx.Client(verify=verify, timeout=timeout, follow_redirects=False)


# A forked process must not share its parent's connections.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_client.cache_clear)


def _answer(response: httpx.Response) -> Any:
    if response.is_error:
        raise _error(response)
    if response.headers.get("content-type", "").startswith(_ARROW):
        with pa.ipc.open_stream(pa.PythonFile(_Incoming(response), mode="r")) as stream:
            return stream.read_all()
    content = response.read()
    if not content:
        return None
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        start = content[:200].decode(errors="replace")
        raise ServerError(
            f"{response.request.url} answered with something that is no JSON: {start!r}",
            hint="is DIOPTRA_APP_ENDPOINT the address of a KatiML server?",
        ) from None


def answer_of(response: httpx.Response) -> Any:
    """What an answer that was read whole holds. Raises what the server raised."""
    return _answer(response)


def _error(response: httpx.Response) -> KatiMLError:
    """The error of the answer, as the class that raised it on the server."""
    try:
        body = msgspec.json.decode(response.read())
        found = body["error"]
        message, hint = str(found["message"]), found.get("hint")
        code, details = found.get("code"), found.get("details") or {}
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        message = f"{response.request.url} answered {response.status_code}"
        hint, code, details = None, None, {}
    details = {**details, "status": response.status_code}
    error = KatiMLError.named(code, message, hint=hint)
    if type(error) is KatiMLError:
        error = ServerError(message, hint=hint)
    error.details = {**error.details, **details}
    return error


class _Incoming(io.RawIOBase):
    """The body of an answer as a file, so that Arrow reads it while it arrives."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.iter_bytes(_ANSWER_BYTES)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        pieces = []
        wanted = size if size >= 0 else 1 << 62
        while wanted:
            if not self._rest:
                chunk = next(self._chunks, b"")
                if not chunk:
                    break
                self._rest = memoryview(chunk)
            piece = self._rest[:wanted]
            self._rest = self._rest[len(piece) :]
            wanted -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)


def _pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(_ANSWER_BYTES):
        yield piece


def _plain(value: Any) -> Any:
    """Values of filters that are no JSON: NumPy's, sets, series."""
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


class ServerLake:
    """A lake behind `DIOPTRA_APP_ENDPOINT`."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def where(self, upload_id: str) -> str:
        """Where a person looks at an upload."""
        return f"{self.endpoint}/settings/uploads/{upload_id}"

    def request(self, method: str, path: str, json: Any = None, files: Any = None) -> Any:
        """Any address of the server."""
        repeat = method.upper() in ("GET", "HEAD", "OPTIONS")
        return request(method, self.endpoint + path, json=json, files=files, repeat=repeat)

    def select(self, table: str, chosen: Mapping[str, Any]) -> pa.Table:
        """Rows of a table as Arrow."""
        return request(
            "POST",
            f"{self.endpoint}/api/{table}/select",
            json=dict(chosen),
            headers={"accept": _ARROW},
            repeat=True,
        )

    def delete(self, table: str, chosen: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Delete rows; returns them."""
        rows: list[dict[str, Any]] = request(
            "POST", f"{self.endpoint}/api/{table}/delete", json=dict(chosen)
        )
        return rows

    def upload(self, records: Iterable[Any], *, batching: bool) -> tuple[dict[str, Any], int]:
        """Send records as one file and have it ingested; returns (answer, number of records)."""
        with _progress.spool() as file:
            count = 0
            # Zstandard packs faster than most networks carry.
            with pa.CompressedOutputStream(_progress.Kept(file), "zstd") as packed:
                for line in encode_records(records):
                    packed.write(line)
                    count += 1
            url = self._store(file, file.tell())
        return self.ingest({"urls": [url]} if batching else {"url": url}), count

    def upload_file(self, path: str) -> dict[str, Any]:
        """Send a local file and have it ingested in the background."""
        with open(path, "rb") as file:
            url = self._store(file, os.fstat(file.fileno()).st_size)
        return self.ingest({"urls": [url]})

    def _store(self, file: IO[bytes], size: int) -> str:
        """Send a file, from its start; returns the address the server gives it."""
        boundary = uuid.uuid4().hex

        def content() -> io.RawIOBase:
            return _progress.Sending(file, size, _multipart_head(boundary), boundary)

        uploaded = request(
            "POST",
            f"{self.endpoint}/api/ingestion/upload",
            content=content,
            headers={"content-type": f"multipart/form-data; boundary={boundary}"},
            repeat=True,
        )
        return str(uploaded["url"])

    def ingest(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Have URLs ingested in the background."""
        return self._once(f"{self.endpoint}/api/ingestion/ingest", body)

    def ingest_events(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The same at the address of `DIOPTRA_API_ENDPOINT`."""
        return self._once(_settings.events_endpoint(), body)

    def stream(self, records: Iterable[Any]) -> dict[str, Any]:
        """Send records in the request itself; they are committed when it returns."""
        body = b'{"records":[' + b",".join(encode_records(records, b"")) + b"]}"
        answer: dict[str, Any] = request(
            "POST",
            _settings.events_endpoint(),
            content=lambda: io.BytesIO(body),
            headers={"content-type": "application/json", **_new_key()},
            repeat=True,
        )
        return answer

    def execution(self, upload_id: str) -> dict[str, Any]:
        """The state of an upload."""
        found: dict[str, Any] = self.request("GET", f"/api/ingestion/executions/{upload_id}")
        return found

    def _once(self, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = request(
            "POST", url, json=dict(body), headers=_new_key(), repeat=True
        )
        return answer


def _new_key() -> dict[str, str]:
    """A key under which the server does the work once, however often the request arrives."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def _multipart_head(boundary: str) -> bytes:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file";'
        ' filename="records.ndjson.zst"\r\nContent-Type: application/octet-stream\r\n\r\n'
    ).encode()
