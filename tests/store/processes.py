"""Other processes for the tests of shared lakes: they run a script and talk over their pipes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from typing import IO

PREAMBLE = """
import os, sys, time
import pyarrow as pa
from katiml.store import Scope, open_store
from katiml.store.ids import uuid7, uuid7_strings

def say(*words):
    print(*words, flush=True)

def datapoints(count, text=None):
    return pa.table({"id": uuid7(count), "text": [text] * count})
"""


class Script:
    """A Python script in another process; the lake's URL is its `sys.argv[1]`."""

    def __init__(self, script: str, *arguments: object, **environment: str) -> None:
        text = PREAMBLE + textwrap.dedent(script)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", text, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.wait()
        self.out.close()
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    @property
    def out(self) -> IO[str]:
        assert self.process.stdout
        return self.process.stdout

    def line(self) -> str:
        """The next line it says."""
        line = self.out.readline()
        assert line, f"the process ended with {self.process.wait()}"
        return line.strip()

    def tell(self, line: str = "") -> None:
        """Give it a line to read."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def finish(self) -> list[str]:
        """What it still says, after it ended well."""
        lines = self.out.read().splitlines()
        assert self.process.wait() == 0
        return lines
