"""Where the owner of a lake listens: a file only its user can read, and proof that both know it."""

from __future__ import annotations

import hmac
import json
import os
import socket
import struct
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from katiml import schema
from katiml.errors import LakeBusy

__all__ = ["Endpoint", "accept_handshake", "connect", "limit_silence", "listen", "protocol", "wrap"]

ENDPOINT_FILE = "owner.json"
HANDSHAKE_SECONDS = 5.0
_NONCE_BYTES = 32


def protocol() -> str:
    """What both ends must share: the form of the messages (raise it with them) and the schema."""
    return f"1/{schema.SCHEMA_VERSION}"


@dataclass(frozen=True)
class Endpoint:
    """A port on this machine, the secret its clients must know, and the process behind it."""

    port: int
    secret: str
    pid: int
    protocol: str

    def publish(self, folder: Path) -> None:
        """Write the file that clients read, at once whole, readable by this user alone."""
        unfinished = folder / f"{ENDPOINT_FILE}.{self.pid}"
        unfinished.unlink(missing_ok=True)
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(handle, "w", encoding="ascii") as file:
                json.dump(asdict(self), file)
            unfinished.replace(folder / ENDPOINT_FILE)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def withdraw(self, folder: Path) -> None:
        """Remove the file, where it is still this one."""
        if Endpoint.read(folder) == self:
            (folder / ENDPOINT_FILE).unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> Endpoint | None:
        """The endpoint of the folder's owner; None where no file says so."""
        try:
            fields = json.loads((folder / ENDPOINT_FILE).read_text("ascii"))
            return cls(**fields)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise LakeBusy(
                f"another user's process owns the lake {folder}",
                hint="ask that user to serve it: katiml serve",
            ) from error
        except (ValueError, TypeError):
            return None


def listen() -> socket.socket:
    """A socket that listens on a free port of the loopback interface."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def wrap(peer: socket.socket) -> Connection:
    """Messages instead of bytes over a connected socket."""
    peer.settimeout(None)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(peer.detach())


def limit_silence(connection: Connection, seconds: float) -> None:
    """Let a read or write that makes no progress for this long fail; 0 waits for ever."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as peer:
        interval = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)


def connect(endpoint: Endpoint) -> Connection | None:
    """A proven connection to the owner; None where nobody, or somebody else, listens there."""
    try:
        peer = socket.create_connection(("127.0.0.1", endpoint.port), HANDSHAKE_SECONDS)
    except OSError:
        return None
    connection = wrap(peer)
    try:
        server_nonce = _receive(connection)
        client_nonce = os.urandom(_NONCE_BYTES)
        nonces = server_nonce + client_nonce
        connection.send_bytes(client_nonce + _proof(endpoint.secret, b"client", nonces))
        if hmac.compare_digest(_receive(connection), _proof(endpoint.secret, b"server", nonces)):
            return connection
    except (OSError, EOFError):
        pass
    connection.close()
    return None


def accept_handshake(connection: Connection, secret: str) -> bool:
    """Whether the client at the other end has proven that it knows the secret."""
    server_nonce = os.urandom(_NONCE_BYTES)
    connection.send_bytes(server_nonce)
    answer = _receive(connection)
    nonces = server_nonce + answer[:_NONCE_BYTES]
    if not hmac.compare_digest(answer[_NONCE_BYTES:], _proof(secret, b"client", nonces)):
        return False
    connection.send_bytes(_proof(secret, b"server", nonces))
    return True


def _receive(connection: Connection) -> bytes:
    if not connection.poll(HANDSHAKE_SECONDS):
        raise TimeoutError("no answer")
    return connection.recv_bytes(256)


def _proof(secret: str, role: bytes, nonces: bytes) -> bytes:
    return hmac.digest(secret.encode(), role + nonces, "sha256")
