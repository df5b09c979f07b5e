"""The original client in a virtual environment of its own, made once a machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

# pandas 3 ended an aggregation that the client's group_by_uri relies on.
_CLIENT = ["dioptra==1.0.29"]
_NEEDED = [
    "boto3>=1.34,<2",
    "google-cloud-storage>=2.7,<4",
    "lz4>=4,<5",
    "mgzip>=0.2.1",
    "numpy>=1.26,<3",
    "orjson>=3.9",
    "pandas>=2.2,<3",
    "pillow>=10",
    "requests>=2.31,<3",
    "smart_open>=6,<8",
    "tqdm>=4.65",
]


def python_of_original_client() -> str:
    """The interpreter that can `import dioptra.lake.utils` of the original client."""
    wanted = f"{sys.version_info[:2]} {_CLIENT} {_NEEDED}".encode()
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "katiml-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"original-client-{hashlib.sha256(wanted).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    with (cache / "original-client.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            install = [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            # It declares more than it imports, torch's friends among them.
            _run(*install, "--no-deps", *_CLIENT)
            _run(*install, *_NEEDED)
            _run(str(python), "-c", "import dioptra.lake.utils")
            (folder / "made").touch()
    return str(python)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
