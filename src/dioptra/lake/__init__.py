"""Records in, queries out: `dioptra.lake.utils`."""

from __future__ import annotations
