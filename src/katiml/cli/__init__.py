"""The command line: `katiml …`, thin over `katiml.Lake`.

Nothing heavy is imported here, so that `katiml --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 done, 1 an error, 2 wrong usage.

    >>> main(["version", "--short"])
    Traceback (most recent call last):
    SystemExit: 0
    """
    from katiml.cli.app import run

    run(arguments)
