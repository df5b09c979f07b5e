"""`katiml serve`: a lake over HTTP until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from katiml.errors import InvalidInput
from katiml.keys import STRONG_LENGTH, any_key, organizations
from katiml.mining.miners import with_due_miners
from katiml.server.app import Settings, create_app
from katiml.server.local import is_loopback
from katiml.tasks import release_tasks, resume_tasks
from katiml.tasks.queue import with_work

if TYPE_CHECKING:
    from katiml.lake import Lake

__all__ = ["is_loopback", "look_for_work", "prepare_keys", "serve", "settings_from_environment"]

_PRESET = "KATIML_API_KEY"
_GRACE_SECONDS = 30
# How often this server looks for what other processes left behind, and for miners that are due.
_LOOK_SECONDS = 5.0
_UPLOADS_SECONDS = 60.0
_log = logging.getLogger("katiml.server")


def serve(
    lake_url: str | None = None,
    host: str = "127.0.0.1",
    port: int = 4004,
    settings: Settings | None = None,
) -> None:
    """Serve the lake at `lake_url` until SIGINT or SIGTERM; requests under way are finished.

    Raises InvalidInput where `host` is not loopback and no key that is fit for it was set up, or
    where the address cannot be listened on.
    """
    import uvicorn

    import katiml

    settings = settings or settings_from_environment(host)
    with katiml.connect(lake_url) as lake:
        made = prepare_keys(lake, host)
        with _listen(host, port) as listening:
            address = _address(host, listening.getsockname()[1])
            _say(f"KatiML {katiml.__version__} serves {lake.url}")
            _say(f"at {address} (web app), the API is described at {address}/docs")
            if made:
                _say("An API key was made; keep it now, it is not shown again:")
                print(made, flush=True)
            config = uvicorn.Config(
                create_app(lake, settings),
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                server_header=False,
                lifespan="off",
            )
            with _ending_quietly(), _working(lake):
                uvicorn.Server(config).run(sockets=[listening])


def prepare_keys(lake: Lake, host: str = "127.0.0.1") -> str | None:
    """See that a key exists: the one of `KATIML_API_KEY`, or an earlier one, or a new one, which is
    returned to be shown once.

    Raises InvalidInput where `host` is not loopback and there is neither a key nor a preset that
    is hard to guess: whoever reaches the port could otherwise try.
    """
    preset = os.environ.get(_PRESET, "").strip()
    loopback = is_loopback(host)
    hint = (
        "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one for"
        f" {_PRESET}; or `katiml keys create NAME` before serving"
    )
    if preset and not loopback and len(preset) < STRONG_LENGTH:
        raise InvalidInput(
            f"the key in {_PRESET} has {len(preset)} characters; beyond this machine"
            f" (--host {host}) it needs {STRONG_LENGTH} or more",
            hint=hint,
        )
    if preset:
        lake.keys.preset(preset, name=_PRESET)
        return None
    if any_key(lake.scope.store):
        return None
    if not loopback:
        raise InvalidInput(
            f"no API key is set up, and --host {host} would let other machines in", hint=hint
        )
    return lake.keys.create("first").secret


def settings_from_environment(host: str = "127.0.0.1") -> Settings:
    """What the environment variables of docs/http.md say, for a server that listens on `host`."""
    usual = Settings()
    roots = os.environ.get("KATIML_MEDIA_ROOTS", "").split(os.pathsep)
    return Settings(
        requests_per_minute=_number("KATIML_REQUESTS_PER_MINUTE", usual.requests_per_minute),
        max_upload_bytes=_number("KATIML_MAX_UPLOAD_BYTES", usual.max_upload_bytes),
        allow_private_urls=_flag("KATIML_ALLOW_PRIVATE_URLS"),
        local_sessions=is_loopback(host) and not _flag("KATIML_REQUIRE_KEY"),
        media_roots=tuple(os.path.realpath(root) for root in roots if root.strip()),
        cache_folder=os.environ.get("KATIML_CACHE", "").strip() or _usual_cache(),
        max_image_pixels=_number("KATIML_MAX_IMAGE_PIXELS", usual.max_image_pixels),
    )


def _usual_cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME", "").strip() or os.path.expanduser("~/.cache")
    return os.path.join(base, "katiml")


def _listen(host: str, port: int) -> socket.socket:
    """The socket is opened here, so that a taken port is one sentence, and the port 0 is known."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # From here on nobody is turned away: who comes before the server is up waits.
        listening.listen(2048)
    except OSError as error:
        raise InvalidInput(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="another server may have it; --port 0 takes a free one",
        ) from error
    return listening


def _address(host: str, port: int) -> str:
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{shown}:{port}"


@contextmanager
def _working(lake: Lake) -> Iterator[None]:
    """Take over uploads and tasks whose process is gone (after a restart, or of another server),
    take some work off others while there is room, run miners by their schedules, and forget once a
    day what is older than the retention."""
    stop = threading.Event()

    def work() -> None:
        uploads_at = 0.0
        while True:
            try:
                if time.monotonic() >= uploads_at:
                    uploads_at = time.monotonic() + _UPLOADS_SECONDS
                    for organization_id in organizations(lake.scope.store):
                        own = lake.for_organization(organization_id)
                        own.uploads.resume()
                        own.forget_if_due()
                look_for_work(lake)
            except Exception:  # noqa: BLE001 - it is tried again, and the server answers meanwhile
                _log.exception("work left in the lake could not be taken up")
            if stop.wait(_LOOK_SECONDS):
                return

    thread = threading.Thread(target=work, name="katiml-work", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        # Whoever serves the lake next goes on with them.
        release_tasks(lake.scope.store)


def look_for_work(lake: Lake) -> None:
    """Begin the runs of miners that are due, and take over tasks."""
    store = lake.scope.store
    for organization_id in with_due_miners(store):
        lake.for_organization(organization_id).miners.run_due()
    for organization_id in with_work(store):
        resume_tasks(lake.for_organization(organization_id).scope, steal=True)


@contextmanager
def _ending_quietly() -> Iterator[None]:
    """Being told to stop is no failure: uvicorn raises the signal again once it has stopped, for
    whoever handled it before."""
    signals = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _flag(name: str) -> bool:
    text = os.environ.get(name, "").strip().lower()
    if text in ("", "0", "false", "no"):
        return False
    if text in ("1", "true", "yes"):
        return True
    raise InvalidInput(f"{name} is {text!r}", hint="it is true or false")


def _number(name: str, usual: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return usual
    if not text.isdecimal():
        raise InvalidInput(f"{name} is {text!r}", hint="it is a whole number, 0 or more")
    return int(text)
