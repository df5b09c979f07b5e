"""API keys: random, shown once, stored hashed, each belonging to one organization.

A key made here has 256 random bits, which nobody can guess however fast the hash is: SHA-256
is right for it. A key that a person chose (`preset`) may be weak, so a short one is hashed with
argon2, which makes guessing from a stolen lake slow.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any, Protocol

import pyarrow as pa

from katiml.errors import Conflict, InvalidInput, NotFound
from katiml.store.ids import uuid7_strings

__all__ = [
    "STRONG_LENGTH",
    "Keys",
    "NewKey",
    "any_key",
    "identify",
    "organization_of",
    "organizations",
    "verify",
]

_MARK = "katiml_"
# A secret this long is taken to be random enough for a fast hash.
STRONG_LENGTH = 32
_SHORTEST, _LONGEST = 8, 512
_VERIFIED_SIZE = 1024


class _Store(Protocol):
    def query(self, sql: str, parameters: Mapping[str, Any] = ...) -> pa.Table: ...
    def transact(self, work: Any) -> Any: ...


class NewKey(tuple[str, str]):
    """What `Keys.create` returns: `(id, secret)`; the secret is never shown again.

    >>> NewKey(("0190", "katiml_abc")).secret
    'katiml_abc'
    """

    __slots__ = ()

    @property
    def id(self) -> str:
        """The key's id, for `delete`."""
        return self[0]

    @property
    def secret(self) -> str:
        """What a client sends as `x-api-key`."""
        return self[1]

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r}, secret=<shown once: .secret>)"


class Keys:
    """The API keys of one organization: `lake.keys`.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> key = lake.keys.create("laptop")
    >>> [shown["name"] for shown in lake.keys.list()], lake.keys.verify(key.secret)
    (['laptop'], 'default')
    >>> lake.keys.delete(key.id)
    >>> lake.keys.verify(key.secret) is None
    True
    >>> lake.close()
    """

    def __init__(self, store: _Store, organization_id: str) -> None:
        self._store = store
        self._organization_id = organization_id

    def create(self, name: str = "") -> NewKey:
        """Make a random key. Its secret is in the result and nowhere else."""
        secret = _MARK + secrets.token_urlsafe(32)
        return NewKey((self._add(name, secret), secret))

    def preset(self, secret: str, name: str = "preset") -> str:
        """Make a key of a secret that the operator chose; returns its id. It replaces an earlier
        preset of the same name, so that changing the secret takes the old one out of use.

        Raises InvalidInput for a secret that is too short or cannot travel in a header, Conflict
        for one that belongs to another organization.
        """
        _check_preset(secret)
        found = _find(self._store, secret)
        if found and found[1] != self._organization_id:
            raise Conflict(
                "this API key already belongs to another organization",
                hint="choose another secret",
            )
        key_id = found[0] if found else self._add(name, secret)
        self._store.transact(
            lambda transaction: transaction.execute(
                "DELETE FROM lake.api_keys WHERE organization_id = $organization_id"
                " AND name = $name AND prefix = '' AND id::VARCHAR <> $id",
                {"organization_id": self._organization_id, "name": name, "id": key_id},
            )
        )
        return key_id

    def list(self) -> list[dict[str, Any]]:
        """`id, name, prefix, created_at` of each key, oldest first. Secrets are not kept."""
        rows = self._store.query(
            "SELECT id, name, prefix, created_at FROM lake.api_keys"
            " WHERE organization_id = $organization_id ORDER BY created_at, id",
            {"organization_id": self._organization_id},
        )
        return [{**row, "id": str(row["id"])} for row in rows.to_pylist()]

    def delete(self, key_id: str) -> None:
        """Delete one key; requests with it are refused from now on. Raises NotFound."""
        parameters = {"organization_id": self._organization_id, "id": str(key_id)}
        deleted = self._store.transact(
            lambda transaction: transaction.execute(
                "DELETE FROM lake.api_keys"
                " WHERE organization_id = $organization_id AND id::VARCHAR = $id",
                parameters,
            )
        )
        if not deleted:
            raise NotFound(f"no API key {key_id!r}", hint="list the keys to see their ids")

    def verify(self, secret: str) -> str | None:
        """The organization that a secret belongs to, whichever it is; None for a wrong one."""
        return verify(self._store, secret)

    def owner(self, secret: str) -> tuple[str, str] | None:
        """The organization that a secret belongs to and the key's name; None for a wrong one."""
        found = _find(self._store, secret)
        return found[1:] if found else None

    def named(self, id: str) -> str:
        """What the key with this id is called, or the first digits of the id."""
        names = [key["name"] for key in self.list() if key["id"] == id and key["name"]]
        return names[0] if names else f"key {id[:8]}"

    def _add(self, name: str, secret: str) -> str:
        generated = secret.startswith(_MARK)
        row = {
            "id": uuid7_strings(1)[0],
            "organization_id": self._organization_id,
            "name": name,
            # Of a chosen secret nothing is shown: its first characters may be most of it.
            "prefix": secret[: len(_MARK) + 4] if generated else "",
            "hash": _hash(secret),
        }
        self._store.transact(
            lambda transaction: transaction.execute(
                "INSERT INTO lake.api_keys BY NAME SELECT $id::UUID AS id,"
                " $organization_id AS organization_id, $name AS name, $prefix AS prefix,"
                " $hash AS hash, now() AS created_at",
                row,
            )
        )
        return row["id"]


def verify(store: _Store, secret: str) -> str | None:
    """The organization that `secret` belongs to, or None. Takes one query.

    >>> class NoKeys:
    ...     def query(self, sql, parameters={}):
    ...         return pa.table({"id": [], "organization_id": [], "hash": []})
    >>> verify(NoKeys(), "katiml_wrong") is None
    True
    """
    found = _find(store, secret)
    return found[1] if found else None


def identify(store: _Store, secret: str) -> tuple[str, str] | None:
    """The id and the organization of the key with this secret, or None. Takes one query."""
    found = _find(store, secret)
    return found[:2] if found else None


def organization_of(store: _Store, key_id: str) -> str | None:
    """The organization of the key with this id; None where it was deleted."""
    rows = store.query(
        "SELECT organization_id FROM lake.api_keys WHERE id::VARCHAR = $id", {"id": key_id}
    )
    return str(rows["organization_id"][0].as_py()) if rows.num_rows else None


def any_key(store: _Store) -> bool:
    """Whether any organization of this lake has a key."""
    found: int = store.query("SELECT 1 FROM lake.api_keys LIMIT 1").num_rows
    return found > 0


def organizations(store: _Store) -> list[str]:
    """The organizations that have a key, sorted."""
    rows = store.query("SELECT DISTINCT organization_id FROM lake.api_keys ORDER BY 1")
    found: list[str] = rows["organization_id"].to_pylist()
    return found


def _find(store: _Store, secret: str) -> tuple[str, str, str] | None:
    if not 0 < len(secret) <= _LONGEST:
        return None
    digest = _digest(secret)
    # The digest of a random secret can be compared by the engine: knowing how many of its first
    # characters matched would not help to find the secret. Argon2 hashes hold a salt each, so
    # every one of them has to be tried; only operators' presets have them.
    rows = store.query(
        "SELECT id, organization_id, name, hash FROM lake.api_keys"
        " WHERE hash = $digest OR hash LIKE '$argon2%' ORDER BY created_at, id",
        {"digest": digest},
    ).to_pylist()
    for row in rows:
        if _matches(secret, digest, row["hash"]):
            return str(row["id"]), row["organization_id"], row["name"] or ""
    return None


def _matches(secret: str, digest: str, stored: str) -> bool:
    if not stored.startswith("$argon2"):
        return hmac.compare_digest(digest, stored)
    if len(secret) >= STRONG_LENGTH:
        return False
    return _verified.argon2(stored, secret)


def _digest(secret: str) -> str:
    return "sha256:" + hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _hash(secret: str) -> str:
    if len(secret) >= STRONG_LENGTH:
        return _digest(secret)
    from argon2 import PasswordHasher

    return PasswordHasher().hash(secret)


def _check_preset(secret: str) -> None:
    hint = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes a good one"
    if not _SHORTEST <= len(secret) <= _LONGEST:
        raise InvalidInput(
            f"an API key has {_SHORTEST} to {_LONGEST} characters, this one has {len(secret)}",
            hint=hint,
        )
    if not all("!" <= character <= "~" for character in secret):
        raise InvalidInput(
            "an API key travels in an HTTP header: only printable ASCII without spaces works",
            hint=hint,
        )


class _Verified:
    """Remembers which secrets passed argon2, so that it runs once a process and key (50 ms)."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(32)
        self._passed: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()
        # One at a time: each run takes 64 MB, and wrong keys can come in any number.
        self._running = Lock()

    def argon2(self, stored: str, secret: str) -> bool:
        text = f"{stored}\0{secret}".encode("utf-8", "surrogatepass")
        token = hmac.digest(self._salt, text, "sha256")
        with self._lock:
            if token in self._passed:
                return True
        with self._running:
            passed = _argon2_verify(stored, secret)
        if passed:
            with self._lock:
                self._passed[token] = None
                while len(self._passed) > _VERIFIED_SIZE:
                    self._passed.popitem(last=False)
        return passed


def _argon2_verify(stored: str, secret: str) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        PasswordHasher().verify(stored, secret)
    except (Argon2Error, InvalidHashError):
        return False
    return True


_verified = _Verified()
