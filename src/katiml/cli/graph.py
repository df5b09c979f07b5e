"""The lines of a graph of versions, as `git log --graph` draws them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

__all__ = ["graph_lines"]


def graph_lines(parents: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str | None]]:
    r"""Lines as (what is drawn, the version that stands on the line or None).

    `parents` names the parents of each version, every version before its parents.

    >>> history = {"merge": ["a", "b"], "b": ["root"], "a": ["root"], "root": []}
    >>> for drawn, version in graph_lines(history):
    ...     print(drawn if version is None else f"{drawn} {version}")
    * merge
    |\
    | * b
    * | a
    |/
    * root
    """
    lanes: list[str] = []
    for version in parents:
        waiting = [lane for lane, expected in enumerate(lanes) if expected == version]
        for lane in reversed(waiting[1:]):
            yield _joining(waiting[0], lane, len(lanes)), None
            del lanes[lane]
        if waiting:
            here = waiting[0]
        else:
            here = len(lanes)
            lanes.append(version)
        yield " ".join("*" if lane == here else "|" for lane in range(len(lanes))), version
        own = list(parents[version])
        if not own:
            del lanes[here]
            if here < len(lanes):
                yield _joining(here, here, len(lanes) + 1, ends=True), None
            continue
        lanes[here] = own[0]
        for parent in own[1:]:
            lanes.insert(here + 1, parent)
            yield _forking(here, len(lanes)), None


def _joining(into: int, lane: int, lanes: int, *, ends: bool = False) -> str:
    """`lane` runs into `into`; those right of it move one to the left."""
    drawn = [" "] * (2 * lanes)
    for other in range(lanes):
        if other < lane:
            drawn[2 * other] = "|"
        elif other > lane or not ends:
            drawn[2 * other - 1] = "/"
    for between in range(2 * into + 1, 2 * lane - 1):
        if drawn[between] == " ":
            drawn[between] = "_"
    return "".join(drawn).rstrip()


def _forking(here: int, lanes: int) -> str:
    """A new lane right of `here`; those right of it have moved one to the right."""
    drawn = [" "] * (2 * lanes)
    for lane in range(lanes):
        if lane <= here:
            drawn[2 * lane] = "|"
        else:
            drawn[2 * lane - 1] = "\\"
    return "".join(drawn).rstrip()
