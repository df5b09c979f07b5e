"""Choosing among the members of datasets: found when a run begins, kept with what explains it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyroaring import BitMap

from katiml.errors import InvalidInput
from katiml.store.scope import Scope
from katiml.vectors.select import Select

__all__ = ["MEMBERS", "Found", "Members"]

MEMBERS = ("dataset_id", "version_id", "exclude_dataset_id")
_MAX_TEXT = 1_000


@dataclass(frozen=True)
class Members:
    """Datapoints of a dataset (by id or name) as it is now, or of one of its versions; but for
    those of another dataset.

    >>> Members.of({"filters": [], "dataset_id": "train"}, "select").told()
    {'dataset_id': 'train'}
    """

    dataset_id: str | None = None
    version_id: str | None = None
    exclude_dataset_id: str | None = None

    @classmethod
    def of(cls, told: Any, name: str) -> Members:
        """What a selection says of datasets; raises InvalidInput."""
        given = {key: told.get(key) for key in MEMBERS} if isinstance(told, Mapping) else {}
        for key, value in given.items():
            wrong = not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or "\0" in value
            if value is not None and wrong:
                raise InvalidInput(
                    f"{name}.{key} is {value!r:.100}", hint="the id or name of a dataset or version"
                )
        return cls(**given)

    def told(self) -> dict[str, str]:
        """What was said, as plain JSON."""
        return {name: value for name in MEMBERS if (value := getattr(self, name)) is not None}

    def find(self, scope: Scope) -> Found:
        """The members as they are now; raises NotFound."""
        from katiml.datasets import Datasets

        datasets = Datasets(scope)
        included = excluded = None
        if self.dataset_id is not None or self.version_id is not None:
            included = datasets.scope(self.dataset_id, self.version_id).view.members
        if self.exclude_dataset_id is not None:
            excluded = datasets.scope(self.exclude_dataset_id).view.members
        return Found(included, excluded)


@dataclass(frozen=True)
class Found:
    """Row numbers of datapoints to choose among, and of others to leave out; None: all, nothing."""

    included: BitMap | None = None
    excluded: BitMap | None = None

    def narrow(self, select: Select) -> Select:
        """The selection among these alone."""
        return replace(select, members=self.included, excluded=self.excluded)

    def to_texts(self) -> list[str | None]:
        """As an explanation holds them.

        >>> found = Found(BitMap([1, 2]), None)
        >>> Found.from_texts(found.to_texts()) == found
        True
        """
        return [_text(self.included), _text(self.excluded)]

    @classmethod
    def from_texts(cls, texts: Any) -> Found:
        """What `to_texts` wrote; raises InvalidInput."""
        try:
            included, excluded = (_bitmap(text) for text in texts)
        except (binascii.Error, ValueError, TypeError) as error:
            raise InvalidInput("these are no members that KatiML wrote") from error
        return cls(included, excluded)


def _text(numbers: BitMap | None) -> str | None:
    if numbers is None:
        return None
    packed = numbers.copy()
    packed.run_optimize()
    return base64.b64encode(packed.serialize()).decode()


def _bitmap(text: str | None) -> BitMap | None:
    return None if text is None else BitMap.deserialize(base64.b64decode(text, validate=True))
