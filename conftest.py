"""For every test and every example in a docstring: a lake of its own, never the user's."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_numbers = itertools.count()
_SDK = (
    "DIOPTRA_API_KEY",
    "DIOPTRA_APP_ENDPOINT",
    "DIOPTRA_API_ENDPOINT",
    "DIOPTRA_UPLOAD_BUCKET",
)


@pytest.fixture(scope="session")
def default_lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lakes are that code opens without naming one."""
    return tmp_path_factory.mktemp("default-lakes")


@pytest.fixture(autouse=True)
def own_default_lake(default_lakes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`katiml.connect()` and the SDK open an empty lake that no other test sees."""
    monkeypatch.setenv("KATIML_LAKE", str(default_lakes / str(next(_numbers))))
    monkeypatch.setenv("KATIML_CACHE", str(default_lakes / "cache"))
    for name in _SDK:
        monkeypatch.delenv(name, raising=False)
    yield
    embedded = sys.modules.get("dioptra._embedded")
    if embedded is not None:
        embedded.close()
