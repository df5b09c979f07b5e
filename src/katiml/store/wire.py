"""Messages between the process that owns a lake and its clients: msgpack, with tables as Arrow IPC.

Never pickle: whatever arrives is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import singledispatch
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa

from katiml import errors
from katiml.store.failures import Interfered, Lost

__all__ = ["error_to_message", "message_to_error", "pack_parameters", "receive", "send"]

_DATETIME, _DATE, _TIME, _UUID, _DECIMAL, _TIMEDELTA, _INTEGER = range(1, 8)


@singledispatch
def _pack(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _pack(value.tolist())
    raise errors.InvalidInput(f"a {type(value).__name__} cannot be a parameter of a statement")


def _text(code: int) -> Callable[[Any], Any]:
    return lambda value: msgspec.msgpack.Ext(code, value.isoformat().encode())


def _same(value: Any) -> Any:
    return value


def _items(value: Any) -> Any:
    return [_pack(item) for item in value]


_PACKERS: dict[type, Callable[[Any], Any]] = {
    type(None): _same,
    bool: _same,
    str: _same,
    bytes: _same,
    float: float,
    Mapping: lambda value: {key: _pack(item) for key, item in value.items()},
    list: _items,
    tuple: _items,
    set: _items,
    frozenset: _items,
    datetime: _text(_DATETIME),
    date: _text(_DATE),
    time: _text(_TIME),
    UUID: lambda value: msgspec.msgpack.Ext(_UUID, value.bytes),
    Decimal: lambda value: msgspec.msgpack.Ext(_DECIMAL, str(value).encode()),
}
for _kind, _packer in _PACKERS.items():
    _pack.register(_kind, _packer)


@_pack.register
def _(value: int) -> Any:
    fits = -(2**63) <= value < 2**64
    return value if fits else msgspec.msgpack.Ext(_INTEGER, str(value).encode())


@_pack.register
def _(value: timedelta) -> Any:
    microseconds = value // timedelta(microseconds=1)
    return msgspec.msgpack.Ext(_TIMEDELTA, str(microseconds).encode())


def pack_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters in the types msgpack knows, others as extensions that `receive` restores.

    >>> pack_parameters({"p0": [1, None, "a"]})
    {'p0': [1, None, 'a']}
    """
    return {name: _pack(value) for name, value in parameters.items()}


_RESTORE: dict[int, Callable[[bytes], Any]] = {
    _DATETIME: lambda data: datetime.fromisoformat(data.decode()),
    _DATE: lambda data: date.fromisoformat(data.decode()),
    _TIME: lambda data: time.fromisoformat(data.decode()),
    _UUID: lambda data: UUID(bytes=data),
    _DECIMAL: lambda data: Decimal(data.decode()),
    _TIMEDELTA: lambda data: timedelta(microseconds=int(data)),
    _INTEGER: int,
}


def _restore(code: int, data: memoryview) -> Any:
    return _RESTORE[code](bytes(data))


_decoder = msgspec.msgpack.Decoder(ext_hook=_restore)


def send(connection: Connection, message: dict[str, Any], table: pa.Table | None = None) -> None:
    """Send one message, with a table behind it or not."""
    if table is None:
        connection.send_bytes(msgspec.msgpack.encode(message))
        return
    connection.send_bytes(msgspec.msgpack.encode({**message, "table": True}))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    connection.send_bytes(sink.getvalue())


def receive(connection: Connection) -> tuple[dict[str, Any], pa.Table | None]:
    """The next message and its table. Raises EOFError when the other end has closed."""
    message: dict[str, Any] = _decoder.decode(connection.recv_bytes())
    if not message.pop("table", False):
        return message, None
    return message, pa.ipc.open_stream(connection.recv_bytes()).read_all()


def error_to_message(error: Exception) -> dict[str, Any]:
    """An exception as `message_to_error` makes it again at the other end."""
    if isinstance(error, errors.KatiMLError):
        return {
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "details": error.details,
        }
    return {"kind": type(error).__name__, "message": str(error)}


def message_to_error(message: dict[str, Any]) -> Exception:
    """The exception that `error_to_message` described.

    >>> message_to_error(error_to_message(errors.NotFound("no tag", hint="make it")))
    NotFound('no tag')
    """
    text = message["message"]
    if message["kind"] in ("Interfered", "Lost"):
        return {"Interfered": Interfered, "Lost": Lost}[message["kind"]](text)
    kind = getattr(errors, message["kind"], None)
    if not (isinstance(kind, type) and issubclass(kind, errors.KatiMLError)):
        return errors.StoreError(f"the process that owns the lake failed: {text}")
    error: errors.KatiMLError = kind.__new__(kind, text)
    details = message.get("details") or {}
    errors.KatiMLError.__init__(error, text, hint=message.get("hint"), details=details)
    if isinstance(error, errors.InvalidRecord):
        error.path = details.get("path", "")
    return error
