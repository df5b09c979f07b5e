"""The graph of a dataset's versions, and merging of member sets: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pyroaring import BitMap

__all__ = ["ancestors", "common_ancestor", "first_parents", "merge_members", "tips"]

Parents = Mapping[str, Sequence[str]]


def ancestors(parents: Parents, version: str) -> set[str]:
    """The version with everything it comes from.

    >>> sorted(ancestors({"a": [], "b": ["a"], "c": ["a"]}, "b"))
    ['a', 'b']
    """
    found: set[str] = set()
    waiting = [version]
    while waiting:
        step = waiting.pop()
        if step not in found:
            found.add(step)
            waiting.extend(parents.get(step, ()))
    return found


def common_ancestor(parents: Parents, a: str, b: str, order: Mapping[str, int]) -> str | None:
    """The latest version that both come from; None where there is none.

    Where several are equally near (after crossed merges), the one with the highest `order`.

    >>> parents = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    >>> common_ancestor(parents, "b", "c", {"a": 1, "b": 2, "c": 3, "d": 4})
    'a'
    >>> common_ancestor(parents, "d", "c", {"a": 1, "b": 2, "c": 3, "d": 4})
    'c'
    """
    shared = ancestors(parents, a) & ancestors(parents, b)
    # A version is always numbered after its parents.
    return max(shared, key=lambda version: order[version], default=None)


def tips(parents: Parents) -> list[str]:
    """The versions that nothing comes from: the ends of the branches.

    >>> tips({"a": [], "b": ["a"], "c": ["a"]})
    ['b', 'c']
    """
    inner = {parent for own in parents.values() for parent in own}
    return [version for version in parents if version not in inner]


def first_parents(parents: Parents, version: str) -> Iterable[str]:
    """The version, its first parent, the first parent of that, and so on.

    >>> list(first_parents({"a": [], "b": ["a"], "c": ["b"]}, "c"))
    ['c', 'b', 'a']
    """
    step: str | None = version
    while step is not None:
        yield step
        step = next(iter(parents.get(step, ())), None)


def merge_members(base: BitMap, ours: BitMap, theirs: BitMap) -> BitMap:
    """Three-way merge: what either side added is there, what either side removed is not.

    No member can be in conflict: a side that changed it since `base` decides, and two sides that
    did changed it the same way.

    >>> merge_members(BitMap([1, 2]), BitMap([1, 2, 3]), BitMap([2, 4]))
    BitMap([2, 3, 4])
    """
    return base ^ ((base ^ ours) | (base ^ theirs))
