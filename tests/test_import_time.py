"""What `import katiml` may not pull in: heavy libraries wait until they are needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

LAZY = (
    "PIL",
    "dioptra",
    "fastapi",
    "fsspec",
    "httpx",
    "pandas",
    "rich",
    "sklearn",
    "tensorflow",
    "torch",
    "typer",
    "uvicorn",
)


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    ["import katiml", "import katiml; katiml.connect, katiml.Lake", "import katiml.cli"],
)
def test_heavy_libraries_are_imported_when_first_needed(statement: str) -> None:
    assert _loaded_by(statement) & set(LAZY) == set()


def test_the_check_would_notice() -> None:
    assert "rich" in _loaded_by("import katiml; import rich.console")
