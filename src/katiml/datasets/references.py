"""What a version is called: an id or its beginning, a tag, HEAD, HEAD~2, draft."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

from katiml.datasets.graph import first_parents
from katiml.datasets.sets import Reader
from katiml.datasets.state import (
    DatasetState,
    VersionState,
    checked_text,
    foreign_version,
    is_id,
    matching,
    read_tags,
    read_version,
    read_versions,
)
from katiml.errors import InvalidInput, NotFound
from katiml.query.fields import shown

__all__ = ["DRAFT", "HEAD", "checked_tag", "find_version"]

HEAD = "HEAD"
# The members as they are now, committed or not.
DRAFT = "draft"
_BACK = re.compile(r"(.*?)~(\d{0,6})\Z", re.DOTALL)
_HINT = (
    "a version is named by its id or the beginning of it, by a tag, or as HEAD or HEAD~2; "
    "the dataset's history shows them"
)


def checked_tag(name: object) -> str:
    """A name that a version may be given. Raises InvalidInput for what would mean another."""
    text = checked_text("tag", name, 100)
    looks_like_an_id = re.fullmatch(r"[0-9a-f-]{4,}", text.lower()) is not None
    if text in (HEAD, DRAFT) or looks_like_an_id or re.search(r"\s|~|\.\.|[:^]", text):
        raise InvalidInput(
            f"a version cannot be tagged {shown(text)}",
            hint="HEAD, draft, what looks like an id, white space, '~', '..', ':' and '^' have "
            "another meaning",
        )
    return text


def find_version(
    reader: Reader, dataset: DatasetState, reference: object, *, draft: bool = False
) -> VersionState | None:
    """The version of this dataset that `reference` names; None is the head.

    With `draft`, None is returned for the uncommitted members. Raises NotFound and InvalidInput.
    """
    if reference is None:
        reference = HEAD
    if not isinstance(reference, str) or not reference or "\0" in reference:
        raise InvalidInput(f"{shown(reference)} names no version", hint=_HINT)
    if reference == DRAFT or (is_id(reference) and str(UUID(reference)) == dataset.draft):
        if draft:
            return None
        raise InvalidInput(
            f"the uncommitted members of {dataset.name!r} are no version",
            hint="commit them first; the dataset itself reads them",
        )
    back = _BACK.match(reference)
    if back is not None:
        start, steps = back[1] or HEAD, int(back[2] or 1)
        return _before(read_versions(reader, dataset.id), reference, dataset, steps, start, reader)
    return _named(reader, dataset, reference, None)


def _named(
    reader: Reader,
    dataset: DatasetState,
    reference: str,
    versions: Sequence[VersionState] | None,
) -> VersionState:
    if reference == HEAD:
        if dataset.head is None:
            raise NotFound(
                f"the dataset {dataset.name!r} has no version yet", hint="commit one first"
            )
        return read_version(reader, dataset.head)
    if is_id(reference):
        found = read_version(reader, str(UUID(reference)))
        if found.dataset != dataset.id:
            raise foreign_version(reference, dataset)
        return found
    versions = read_versions(reader, dataset.id) if versions is None else versions
    tagged = read_tags(reader, dataset.id).get(reference)
    name = tagged or matching(reference, [one.id for one in versions])
    known = {one.id: one for one in versions}
    if name is None or name not in known:
        raise NotFound(f"{dataset.name!r} has no version {shown(reference)}", hint=_HINT)
    return known[name]


def _before(
    versions: Sequence[VersionState],
    reference: str,
    dataset: DatasetState,
    steps: int,
    start: str,
    reader: Reader,
) -> VersionState:
    """The version `steps` first parents before `start`."""
    known = {one.id: one for one in versions}
    first = _named(reader, dataset, start, versions)
    line = list(first_parents({name: one.parents for name, one in known.items()}, first.id))
    if steps >= len(line):
        raise NotFound(
            f"{dataset.name!r} has no version {shown(reference)}: "
            f"only {len(line) - 1} come before {start}",
            hint=_HINT,
        )
    return known[line[steps]]
