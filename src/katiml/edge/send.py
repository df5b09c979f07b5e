"""Batches of records on their way to a lake, with the standard library alone."""

from __future__ import annotations

import gzip
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from katiml import errors
from katiml.errors import InvalidInput, KatiMLError, LakeBusy, StoreError, Unauthorized

__all__ = ["Sent", "Uploaded", "sender"]

_TRIES = 6
_LONGEST_PAUSE = 20.0
_PASSING = {429, 502, 503, 504}
_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True)
class Sent:
    """What became of one batch: the id of the upload, records landed and rejected."""

    id: str | None = None
    landed: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class Uploaded:
    """What became of all batches: ids of the uploads, records landed and rejected."""

    ids: tuple[str, ...] = ()
    landed: int = 0
    rejected: int = 0

    def plus(self, sent: Sent) -> Uploaded:
        """With one batch more."""
        ids = self.ids if sent.id is None else (*self.ids, sent.id)
        return Uploaded(ids, self.landed + sent.landed, self.rejected + sent.rejected)


Send = Callable[[bytes, str], Sent]


def sender(destination: Any, api_key: str | None = None) -> Send:
    """A function of (body, idempotency key) that has the lake take a batch.

    `destination` is the address of a server, a `katiml.Lake`, or such a function itself.
    """
    if isinstance(destination, str):
        return _http(destination, api_key)
    if hasattr(destination, "ingest"):

        def ingest(body: bytes, key: str) -> Sent:
            upload = destination.ingest(json.loads(body)["records"], idempotency_key=key)
            counts = upload.counts
            return Sent(upload.id, counts["landed"], counts["rejected"])

        return ingest
    if callable(destination):
        return destination  # type: ignore[no-any-return]
    raise InvalidInput(
        f"records cannot be sent to {type(destination).__name__}",
        hint="give the address of a server, such as https://lake.example, or a katiml.Lake",
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key goes to the server that was named, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _http(address: str, api_key: str | None) -> Send:
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        raise InvalidInput(
            f"{address!r} is no address of a server", hint="for example https://lake.example"
        )
    key = api_key or os.environ.get("KATIML_API_KEY")
    if not key:
        raise Unauthorized(
            "no API key", hint="pass api_key, or set KATIML_API_KEY; `katiml keys create` makes one"
        )
    url = f"{address.rstrip('/')}/api/ingestion/ingest"
    opener = urllib.request.build_opener(_NoRedirects)

    def send(body: bytes, idempotency_key: str) -> Sent:
        headers = {
            "x-api-key": key,
            "Idempotency-Key": idempotency_key,
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
        packed = gzip.compress(body, 6)
        request = urllib.request.Request(url, packed, headers, method="POST")  # noqa: S310
        return _sent(_answer(opener, request, address))

    return send


def _answer(opener: Any, request: urllib.request.Request, address: str) -> Any:
    """Ask until there is an answer. Sending again does no harm: the key makes it one."""
    problem = ""
    for number in range(_TRIES):
        wait = min(_LONGEST_PAUSE, 0.5 * 2**number)
        try:
            with opener.open(request, timeout=120) as response:
                return json.loads(response.read(_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            text = error.read(_ANSWER_BYTES)
            if error.code not in _PASSING:
                raise _error(error.code, text) from None
            problem = f"it answered {error.code}"
            stated = error.headers.get("Retry-After", "")
            wait = max(wait, min(60.0, float(stated))) if stated.isdigit() else wait
        except (urllib.error.URLError, OSError) as error:
            problem = str(getattr(error, "reason", error))
        except ValueError as error:
            raise StoreError(f"{address} answered with something that is no JSON") from error
        if number + 1 < _TRIES:
            time.sleep(random.uniform(wait / 2, wait))  # noqa: S311  # no secret
    raise LakeBusy(f"no answer from {address}: {problem}", hint="records stay; try again later")


def _error(status: int, text: bytes) -> KatiMLError:
    """The error that the server raised, as its class."""
    try:
        answer = json.loads(text)["error"]
        message, hint, code = answer["message"], answer.get("hint"), answer.get("code")
    except (ValueError, KeyError, TypeError):
        message, hint, code = f"the server answered {status}", None, None
    for name in errors.__all__:
        kind = getattr(errors, name)
        if issubclass(kind, KatiMLError) and kind("").code == code:
            found: KatiMLError = kind(message, hint=hint)
            return found
    return StoreError(message, hint=hint)


def _sent(answer: Any) -> Sent:
    try:
        status, counts = answer["status"], answer["counts"]
        sent = Sent(str(answer["id"]), int(counts["landed"]), int(counts["rejected"]))
    except (TypeError, KeyError, ValueError):
        raise StoreError(f"an answer that is no upload: {str(answer)[:200]}") from None
    # FAILED where every record was rejected: then the lake has them, with the reasons.
    if status == "SUCCEEDED" or (status == "FAILED" and sent.rejected == int(counts["read"]) > 0):
        return sent
    raise StoreError(
        f"upload {sent.id} is {status}: {answer.get('errorMessage') or 'no reason given'}",
        hint="records stay; try again later",
    )
