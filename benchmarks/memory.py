"""Peak memory of a process that ingests a file, and one ten times as long."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import data
from benchmarks.common import Measure, Sizes, Topic

__all__ = ["run"]

_CHILD = """
import resource, sys
import katiml

with katiml.connect(sys.argv[1]) as lake:
    upload = lake.ingest(sys.argv[2]).wait()
    assert upload.status == "SUCCEEDED", upload.error
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.platform == "linux":  # where ru_maxrss counts what started this process, too
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)
"""


def run(sizes: Sizes, folder: Path) -> Topic:
    """The same records, once and ten times; the longer file must not need more."""
    topic = Topic("Peak memory of an ingest", "a file a tenth as long")
    count = sizes.of(20_000)
    short = _peak(data.embeddings_file(folder, count))
    long = _peak(data.embeddings_file(folder, count * 10))
    topic.measures.append(Measure(f"{count:,} records", f"{short:.0f} MB", aim="< 700 MB"))
    topic.measures.append(
        Measure(
            f"{count * 10:,} records",
            f"{long:.0f} MB",
            f"{short:.0f} MB",
            long / short,
            "the same, < 700 MB",
        )
    )
    return topic


def _peak(path: Path) -> float:
    with tempfile.TemporaryDirectory(prefix="katiml-bench-") as home:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, home, str(path)],
            check=True,
            capture_output=True,
            text=True,
        )
    return float(done.stdout)
