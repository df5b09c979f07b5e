"""Whether a request comes from the person who runs the server, at the same machine.

They need no key: whatever the server can read, they can read without it. Everybody else does, and
on a shared machine, or behind a proxy, loopback alone does not tell them apart. So the connection
has to belong to the same user (where the system says whose it is), and the request has to look like
one that a browser at this machine made to this address.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import time
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.requests import Request

__all__ = ["is_loopback", "is_own_machine", "same_origin"]

_REMEMBERED_SECONDS = 5
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def same_origin(request: Request) -> bool:
    """Whether the browser says that a page of this server sent the request; true for what is no
    browser and says nothing."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


def is_own_machine(request: Request) -> bool:
    """Whether the person who runs the server sent this, from its machine and through no proxy."""
    client, server = request.client, request.scope.get("server")
    if client is None or not server or not is_loopback(client.host):
        return False
    # A name that somebody made to mean 127.0.0.1 (DNS rebinding) is not one of ours.
    if not is_loopback(_hostname(request.headers.get("host", ""))):
        return False
    if any(name in request.headers for name in _FORWARDED):
        return False
    # A connection's port may be somebody else's a while later, never within this time.
    now = int(time.monotonic() / _REMEMBERED_SECONDS)
    return _same_user((client.host, client.port), (server[0], server[1]), now)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=1024)
def _same_user(client: tuple[str, int], server: tuple[str, int], _: int) -> bool:
    """Whether the client's end of the connection belongs to the user this process runs as."""
    if sys.platform != "linux":
        # Elsewhere the system does not tell without rights.
        return True
    for path, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        try:
            near, far = _as_listed(family, *client), _as_listed(family, *server)
            with open(path, encoding="ascii") as lines:
                for line in lines:
                    columns = line.split()
                    if columns[1:3] == [near, far]:
                        return int(columns[7]) == os.geteuid()
        except OSError:
            continue
    return False


def _as_listed(family: socket.AddressFamily, host: str, port: int) -> str:
    """An address as /proc/net/tcp writes it: 32-bit words in the machine's order."""
    packed = socket.inet_pton(family, host)
    words = [
        int.from_bytes(packed[start : start + 4], sys.byteorder)
        for start in range(0, len(packed), 4)
    ]
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
