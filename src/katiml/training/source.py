"""A lake as a source of training items, in this process and in workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from katiml.errors import InvalidInput, KatiMLError
from katiml.lake import Lake
from katiml.training.cache import FileCache
from katiml.training.reading import Reader, open_image
from katiml.training.rows import ids_of, read_rows

__all__ = ["Source", "Transform", "chosen_ids"]

Transform = Callable[[dict[str, Any]], Any]
_FIRST = 32


class Source:
    """A lake that worker processes open for themselves, and the files of its datapoints."""

    def __init__(self, lake: Lake, cache: FileCache | None, on_error: str) -> None:
        if on_error not in ("raise", "skip"):
            raise InvalidInput(f"on_error is {on_error!r}", hint="'raise' or 'skip'")
        self._lake: Lake | None = lake
        self._url, self._organization_id = lake.scope.store.given_url, lake.organization_id
        self._reader = Reader(cache, self._read_object)
        self._skip = on_error == "skip"

    def __getstate__(self) -> dict[str, Any]:
        # A pickled copy (a forked one is no copy) is for another process.
        return {**vars(self), "_lake": None}

    def lake(self) -> Lake:
        """The lake, opened in this process."""
        if self._lake is None:
            import katiml

            self._lake = katiml.connect(self._url, organization_id=self._organization_id)
        return self._lake

    def _read_object(self, id_: str) -> bytes:
        with self.lake().scope.store.objects.open(self._organization_id, id_) as file:
            return file.read()

    def finish(self, row: dict[str, Any], transform: Transform | None) -> Any:
        """The row with what its file holds, transformed; None where it is to be left out."""
        uri = row["metadata"].get("uri")
        try:
            if row["type"] == "IMAGE" and isinstance(uri, str):
                row["image"] = open_image(self._reader(uri), uri)
        except KatiMLError as error:
            if not self._skip:
                raise
            warnings.warn(f"datapoint {row['id']} is left out: {error}", stacklevel=3)
            return None
        return row if transform is None else transform(row)

    def stream(
        self,
        ids: Sequence[str],
        task_types: Sequence[str] | None,
        transform: Transform | None,
        page: int,
        workers: int = 0,
    ) -> Iterator[Any]:
        """Finished items of `ids`, in order, rows read a page at a time, files by `workers`
        threads. An item that is left out, also one that was deleted meanwhile, is None."""
        if not ids:  # more workers than items
            return
        finish = partial(self._finish_row, transform=transform)
        # The first page is short, so that items come at once; each next one is read meanwhile.
        starts = [0, *range(min(page, _FIRST), len(ids), page)]
        parts = [ids[start:end] for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)]
        with ThreadPoolExecutor(workers + 1) as pool:
            ahead: Any = pool.submit(self._page, parts[0], task_types)
            for following in [*parts[1:], None]:
                if ahead is None:
                    return
                found = ahead.result()
                if following is not None:
                    ahead = pool.submit(self._page, following, task_types)
                yield from pool.map(finish, found) if workers else map(finish, found)

    def _page(
        self, ids: Sequence[str], task_types: Sequence[str] | None
    ) -> list[Callable[[], dict[str, Any]] | None]:
        """What makes each row when it is its turn: a page of decoded masks would be large."""
        rows = read_rows(self.lake(), list(dict.fromkeys(ids)), task_types)
        places = {id_: place for place, id_ in enumerate(rows.ids)}
        return [partial(rows.__getitem__, places[id_]) if id_ in places else None for id_ in ids]

    def _finish_row(
        self, row: Callable[[], dict[str, Any]] | None, transform: Transform | None
    ) -> Any:
        return None if row is None else self.finish(row(), transform)


def chosen_ids(
    lake: Lake,
    filters: Any,
    order_by: str | None,
    desc: bool,
    limit: int | None,
    ids: Sequence[str] | None,
) -> list[str]:
    """The ids that were given, or those of a selection. Raises InvalidInput for both."""
    if ids is None:
        return ids_of(lake, filters, order_by, desc, limit)
    if filters is not None or order_by is not None or limit is not None:
        raise InvalidInput("ids are given, and filters, order_by or limit", hint="one of the two")
    return [str(id_) for id_ in ids]
