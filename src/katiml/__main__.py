"""`python -m katiml` is `katiml`."""

from __future__ import annotations

from katiml.cli import main

if __name__ == "__main__":
    main()
