"""`katiml.edge` works where NumPy is all there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Everything but NumPy, the standard library and KatiML itself cannot be imported.
_ALONE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "katiml"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
for name in ("duckdb", "pyarrow", "pandas", "msgspec", "lz4", "httpx"):
    assert name not in sys.modules
"""
_SESSION = """
import numpy as np
from katiml import edge

random = np.random.default_rng(0)
reference = random.normal(size=(20, 4))
def frame(number):
    return {"type": "IMAGE", "metadata": {"uri": f"frame/{number}"}, "predictions": [{
        "task_type": "CLASSIFICATION", "model_name": "net", "logits": random.normal(size=3),
        "embeddings": {"pool": random.normal(size=4)}}]}
for strategy in edge.STRATEGIES:
    if strategy in ("VARIANCE", "BALD"):
        continue
    vectors = strategy not in ("RANDOM", "ENTROPY", "MARGIN", "CONFIDENCE")
    made = edge.Miner(strategy, size=5, model_name="net:pool" if vectors else "net",
                      reference=reference if vectors else None)
    made.save(f"{strategy}.npz")
    with edge.Spool(f"spool-{strategy}") as spool:
        miner = edge.load(f"{strategy}.npz", spool=spool)
        for number in range(40):
            miner.offer(frame(number))
        assert 1 <= len(miner) <= 5, (strategy, len(miner))
        sent = miner.upload(lambda body, key: edge.Sent(key, 1, 0))
        assert len(spool) == 0 and len(sent.ids) == 1
print(sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)))
"""


def test_a_session_without_any_other_package(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ALONE + _SESSION],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    packages = done.stdout.strip()
    assert "'katiml'" in packages and "'numpy'" in packages and "duckdb" not in packages


def test_the_check_would_notice(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ALONE + "import katiml.lake"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("arguments", [["show", "door.npz"], ["upload", "spool", "ftp://lake"]])
def test_the_command_of_a_device(tmp_path: Path, arguments: list[str]) -> None:
    from katiml.edge import Miner, Spool

    Miner("ENTROPY", threshold=0.5).save(tmp_path / "door.npz")
    with Spool(tmp_path / "spool") as spool:
        spool.append({"type": "TEXT", "text": "kept"})
    command = f"{_ALONE}\nfrom katiml.edge.__main__ import main\nsys.exit(main({arguments!r}))"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if arguments[0] == "show":
        assert done.returncode == 0 and '"threshold": 0.5' in done.stdout
    else:
        assert done.returncode == 1 and "no address of a server" in done.stderr
