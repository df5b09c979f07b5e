"""The SDK on an embedded lake, and on a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import katiml
from dioptra import _embedded
from katiml.server import Settings, create_app
from tests.serving import serving

_NAMES = (
    "DIOPTRA_API_KEY",
    "DIOPTRA_APP_ENDPOINT",
    "DIOPTRA_API_ENDPOINT",
    "DIOPTRA_SSL_NOVERIFY",
    "DIOPTRA_UPLOAD_BUCKET",
    "DIOPTRA_UPLOAD_PREFIX",
    "DIOPTRA_UPLOAD_STORAGE_TYPE",
    "AWS_REGION",
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing set but a lake and a cache folder of this test's own."""
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KATIML_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("DIOPTRA_LOCAL_CACHE_DIR", str(tmp_path / "cache"))
    yield
    _embedded.close()


@pytest.fixture(params=["embedded", "http"])
def lake(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[katiml.Lake]:
    """The lake that the SDK works on: in this process, or behind a server."""
    with katiml.connect(tmp_path / "lake") as lake:
        if request.param == "embedded":
            yield lake
            return
        app = create_app(lake, Settings(allow_private_urls=True))
        with serving(app) as url:
            monkeypatch.setenv("DIOPTRA_APP_ENDPOINT", url)
            monkeypatch.setenv("DIOPTRA_API_KEY", lake.keys.create("sdk").secret)
            yield lake
