"""What the tests of history share."""

from __future__ import annotations

from typing import Any

import pytest

from katiml.lake import Lake


class Writer:
    """Writes records into a lake and reads it back."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake

    def new(self, count: int = 1, **fields: Any) -> list[str]:
        """New datapoints; returns their ids."""
        before = set(self.lake.datapoints.select(fields=["id"])["id"])
        self.send(*[{"type": "TEXT", **fields}] * count)
        return sorted(set(self.lake.datapoints.select(fields=["id"])["id"]) - before)

    def send(self, *records: dict[str, Any]) -> int:
        """Ingest; returns the number of the change."""
        upload = self.lake.ingest(list(records))
        assert upload.status == "SUCCEEDED", upload.rejected.to_dict("records")
        return self.last()

    def last(self) -> int:
        """The number of the latest change."""
        return int(self.lake.changes(1)["change"].item())

    def rows(self, table: str) -> bytes:
        """A whole table."""
        return b"".join(getattr(self.lake, table).select_json())

    def tags(self) -> list[str]:
        """The values of all tags."""
        return sorted(self.lake.tags.select()["value"])


@pytest.fixture
def writer(lake: Lake) -> Writer:
    return Writer(lake)
