"""An ASGI application behind a real socket, in a thread of the test's own process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import uvicorn


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve `app` on a free port of loopback; yields its address."""
    # The protocol is named because asyncio sends at once (TCP_NODELAY) only where it is.
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
            assert thread.is_alive()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@contextlib.contextmanager
def client_of(app: Any, key: str | None = None) -> Iterator[httpx.Client]:
    """An HTTP client of `app`."""
    headers = {"x-api-key": key} if key else {}
    with serving(app) as url, httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        yield client
