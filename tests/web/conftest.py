"""A browser, and a `katiml serve` of its own process with real data.

Tests are skipped, with the reason, where there is no browser or the app was not built.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

import katiml
from katiml.server.webapp import STATIC
from tests.web import scenes

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-component-update", "--disable-background-networking", "--disable-sync",
    "--force-color-profile=srgb",
    "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them in one worker: one browser and one server are enough."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("web"))


def chromium_path() -> str | None:
    """The system's Chromium, or the one that Playwright downloaded; None for neither."""
    named = os.environ.get("KATIML_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if named:
        return named
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if os.path.exists(own) else None


@dataclass
class Server:
    """One `katiml serve`."""

    lake: Path
    env: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[str] | None = None
    key: str = ""

    def start(self) -> None:
        env = {**os.environ, "KATIML_CACHE": str(self.lake.parent / "cache"), **self.env}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "katiml",
                "serve",
                "--lake",
                str(self.lake),
                "--port",
                str(self.port),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        assert self.process.stderr
        for line in self.process.stderr:
            found = re.search(r"at http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found[1])
                break
        self.wait()

    def wait(self) -> None:
        for _ in range(200):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.communicate(timeout=40)
            self.process = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def everything(folder: Path, count: int = 40) -> list[dict[str, Any]]:
    """Records of every kind, whose files are in `folder`, with images that cannot be shown."""
    broken = folder / "broken.jpg"
    made = [
        *scenes.streets(folder / "streets", count),
        *scenes.photographs(folder / "photographs"),
        *scenes.sounds(folder / "sounds"),
        *scenes.texts(),
    ]
    broken.write_bytes(b"no image at all")
    bad = {"missing": folder / "missing.jpg", "broken": broken}
    for name, path in bad.items():
        made.append({"type": "IMAGE", "metadata": {"uri": str(path)}, "tags": {"source": name}})
    return made


def seed(lake: Path, records: list[dict[str, Any]]) -> None:
    with katiml.connect(lake) as opened:
        upload = opened.ingest(records)
        assert upload.status == "SUCCEEDED", upload.error
        assert not upload.counts["rejected"], list(upload.rejected_lines())[:1]


def eventually(page: Any, expression: str, seconds: float = 15.0) -> Any:
    """Wait until a JavaScript expression is true. Playwright's own way to wait uses eval, which the
    app's Content-Security-Policy forbids."""
    for _ in range(int(seconds * 20)):
        found = page.evaluate(expression)
        if found:
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


@contextlib.contextmanager
def served(lake: Path, **env: str) -> Iterator[Server]:
    """A running server of the lake in that folder."""
    server = Server(lake, env)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a screen."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (STATIC / "index.html").is_file():
        pytest.skip("the web app was not built: `make web` needs Node.js 20 or later")
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium: install the system's, or set KATIML_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The records that tests look at; their files stay as long as the session."""
    return everything(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def shared(
    browser: Any, records: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that tests only look at."""
    lake = tmp_path_factory.mktemp("shared") / "lake"
    seed(lake, records)
    with served(lake) as server:
        yield server


@pytest.fixture
def own(browser: Any, records: Any, tmp_path: Path) -> Iterator[Server]:
    """A server of the same data, for a test that changes them."""
    seed(tmp_path / "lake", records)
    with served(tmp_path / "lake") as server:
        yield server


class Watched:
    """Opens pages, and remembers what went wrong in them."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self.wrong: list[str] = []
        # Statuses that a test expects; Chromium writes them to the console.
        self.expected: set[int] = set()

    def open(self, url: str, *, theme: str = "light", width: int = 1280, height: int = 800) -> Any:
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
        )
        context.set_default_timeout(15_000)
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", self._console)
        page.goto(url)
        return page

    def _console(self, message: Any) -> None:
        expected = any(f"status of {status}" in message.text for status in self.expected)
        # Chromium itself styles what is typed over a selection in an editor, and then refuses that.
        own = "Applying inline style" in message.text and "/sql" in message.location["url"]
        if message.type == "error" and not expected and not own:
            self.wrong.append(message.text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self._contexts.clear()


@pytest.fixture
def web(browser: Any) -> Iterator[Watched]:
    """Opens pages. Errors in the console, refusals by the Content-Security-Policy among them, fail
    the test."""
    watched = Watched(browser)
    yield watched
    watched.close()
    assert watched.wrong == []
