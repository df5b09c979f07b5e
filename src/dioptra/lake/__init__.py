"""Records in, queries out: `dioptra.lake.utils`; and `dioptra.lake.datasets`."""

from __future__ import annotations
