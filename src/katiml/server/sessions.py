"""Sessions of browsers: a signed cookie that names an API key or the person at this machine.

Nothing is stored: a cookie holds who it is for, until when, and a signature with a secret that the
lake keeps, so any server of the lake knows it. A deleted key ends its sessions.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from katiml.store.store import Store, Transaction

__all__ = ["LOCAL", "Session", "Sessions"]

# The subject of a session without a key: whoever runs the server, at the same machine.
LOCAL = "local"
_SECRET = "session_secret"  # noqa: S105 - the name of a setting
_VERSION = "1"
_KEY_SECONDS = 30 * 86_400
_LOCAL_SECONDS = 86_400


@dataclass(frozen=True)
class Session:
    """Who a cookie is for. `subject` is `LOCAL` or the id of an API key."""

    subject: str
    organization_id: str
    expires: int


class Sessions:
    """Makes and reads the cookies of one lake."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._secret = b""
        self._lock = Lock()

    @property
    def cookie(self) -> str:
        """The cookie's name. Ports of one host share cookies, so each lake has its own."""
        return "katiml_" + hashlib.sha256(b"name" + self._key()).hexdigest()[:8]

    def make(self, subject: str, organization_id: str) -> tuple[str, int]:
        """The value of a new cookie, and for how many seconds it holds."""
        seconds = _LOCAL_SECONDS if subject == LOCAL else _KEY_SECONDS
        expires = int(self._clock()) + seconds
        text = f"{_VERSION}.{subject}.{organization_id}.{expires}.{secrets.token_urlsafe(9)}"
        return f"{text}.{self._sign(text)}", seconds

    def read(self, value: str) -> Session | None:
        """Who the cookie is for; None where it was not made here or is over.

        >>> import katiml
        >>> with katiml.connect(getfixture("tmp_path")) as lake:
        ...     sessions = Sessions(lake.scope.store)
        ...     value, _ = sessions.make(LOCAL, "default")
        ...     sessions.read(value).organization_id, sessions.read(value + "x")
        ('default', None)
        """
        text, _, signature = value.rpartition(".")
        if len(value) > 400 or not hmac.compare_digest(
            self._sign(text).encode(), signature.encode("utf-8", "replace")
        ):
            return None
        version, subject, organization_id, expires, _ = text.split(".")
        if version != _VERSION or int(expires) < self._clock():
            return None
        return Session(subject, organization_id, int(expires))

    def _sign(self, text: str) -> str:
        return hmac.new(self._key(), text.encode("utf-8", "replace"), "sha256").hexdigest()

    def _key(self) -> bytes:
        with self._lock:
            if not self._secret:
                self._secret = bytes.fromhex(self._store.transact(_lake_secret))
            return self._secret


def _lake_secret(transaction: Transaction) -> str:
    transaction.serialize(_SECRET)
    sql = "SELECT min(value) AS value FROM lake.settings WHERE name = $name"
    found = transaction.query(sql, {"name": _SECRET})["value"][0].as_py()
    if found is None:
        found = secrets.token_hex(32)
        transaction.execute(
            "INSERT INTO lake.settings (name, value) VALUES ($name, $value)",
            {"name": _SECRET, "value": found},
        )
    return str(found)
