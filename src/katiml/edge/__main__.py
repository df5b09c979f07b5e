"""`python -m katiml.edge`, for devices that have nothing but NumPy.

python -m katiml.edge show FILE               what a miner does, and where it is from
python -m katiml.edge upload FOLDER URL       send what a spool holds; the key is KATIML_API_KEY
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from katiml.edge import Spool, load
from katiml.errors import KatiMLError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 where it worked, 1 where it did not."""
    parser = argparse.ArgumentParser(prog="python -m katiml.edge", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="what a miner does")
    show.add_argument("file")
    upload = commands.add_parser("upload", help="send what a spool holds")
    upload.add_argument("folder")
    upload.add_argument("url")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "show":
            print(json.dumps(load(chosen.file).settings, indent=2, default=str))
        else:
            with Spool(chosen.folder) as spool:
                sent = spool.upload(chosen.url)
            print(json.dumps({"landed": sent.landed, "rejected": sent.rejected}))
    except (KatiMLError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
