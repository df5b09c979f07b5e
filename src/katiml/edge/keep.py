"""What of a stream is kept, in bounded memory. Knows of numbers and vectors, not of records.

`plan` looks at a value and changes nothing; `take` carries a plan out, once what it is about is
stored under a ticket, and says which tickets are given up for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.edge.distances import distances, prepared
from katiml.errors import InvalidInput

__all__ = ["Best", "KCenter", "Plan"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """What would happen to a value: whether it is kept, and which tickets go for it.

    `changes` where `take` has something to do, which may be so though the value is not kept.
    """

    kept: bool
    gone: tuple[int, ...] = ()
    value: Any = None
    changes: bool = False


class Best:
    """All numbers on the right side of `threshold`, or the `size` best of them.

    Higher is better where `highest`. Of equal numbers the earlier stays. Random numbers make it a
    reservoir: the best of them are a uniform sample of the stream (Efraimidis and Spirakis, 2006).

    >>> best = Best(size=2)
    >>> [best.offer(value, ticket) for ticket, value in enumerate([1.0, 3.0, 0.5, 2.0])]
    [True, True, False, True]
    >>> best.tickets
    [1, 3]
    """

    def __init__(
        self, *, size: int | None = None, threshold: float | None = None, highest: bool = True
    ) -> None:
        if size is None and threshold is None:
            raise InvalidInput(
                "nothing says what to keep", hint="give a size, a threshold, or both"
            )
        self.size, self.threshold, self.highest = size, threshold, highest
        # The worst is at the top: (value as higher is better, minus its place, ticket).
        self._heap: list[tuple[float, int, int]] = []
        self._place = 0

    @property
    def tickets(self) -> list[int]:
        """What is kept of a limited number, the oldest first."""
        return sorted(ticket for *_, ticket in self._heap)

    @property
    def bar(self) -> float | None:
        """What a number has to reach, or to pass where the number is limited; None: anything."""
        if self.size is not None and len(self._heap) >= self.size:
            worst = self._heap[0][0]
            return worst if self.highest else -worst
        return self.threshold

    def plan(self, value: float) -> Plan:
        """What offering `value` would do."""
        value = float(value)
        if self.threshold is not None:
            enough = value >= self.threshold if self.highest else value <= self.threshold
            if not enough:
                return Plan(False)
        if self.size is None or len(self._heap) < self.size:
            return Plan(True, value=value, changes=True)
        worst, _, ticket = self._heap[0]
        better = (value if self.highest else -value) > worst
        return Plan(better, (ticket,) if better else (), value, better)

    def take(self, plan: Plan, ticket: int | None) -> None:
        """Carry out a plan whose value is kept under `ticket`."""
        if self.size is None or ticket is None:
            return
        self._place += 1
        item = (plan.value if self.highest else -plan.value, -self._place, ticket)
        (heapq.heapreplace if plan.gone else heapq.heappush)(self._heap, item)

    def offer(self, value: float, ticket: int) -> bool:
        """Plan and take in one."""
        plan = self.plan(value)
        if plan.kept:
            self.take(plan, ticket)
        return plan.kept

    def release(self, tickets: Collection[int]) -> None:
        """Let these tickets go without judging anything."""
        self._heap = [item for item in self._heap if item[2] not in tickets]
        heapq.heapify(self._heap)


class KCenter:
    """At most `size` vectors of a stream, such that none was far from all of them.

    The doubling algorithm of Charikar, Chekuri, Feder and Motwani ("Incremental Clustering and
    Dynamic Information Retrieval", STOC 1997). A vector farther than `radius` from all centres
    becomes one. When there are too many, `bound` becomes the smallest distance between two of
    them, or twice what it was, and those nearer than twice that to an earlier one go. Whatever was
    offered is within `radius`, 4 times the bound, of a centre or of the `reference`; and no `size`
    centres, chosen with hindsight, have a radius under half the bound. So it is at most 8 times
    the best.

    `reference`, (R, D), are centres that are there already and cost nothing. Under "cosine" the
    guarantee is about chords, the straight lines between unit vectors. Memory: size + R vectors,
    and those of `release`.

    >>> centres = KCenter(size=2)
    >>> for ticket, value in enumerate([0.0, 0.1, 10.0, 10.2, 0.3]):
    ...     _ = centres.offer(np.array([value]), ticket)
    >>> centres.tickets, centres.radius <= 8 * 0.3
    ([0, 2], True)
    """

    def __init__(self, size: int, *, reference: Any = None, metric: str = "euclidean") -> None:
        self.size, self.metric = size, metric
        # There were size + 1 vectors at least this far apart, and from the reference.
        self.bound = 0.0
        self._given = prepared(np.zeros((0, 0)) if reference is None else reference, metric)
        self._settled: Floats = np.zeros((0, 0))
        self._reference = self._given
        self._centres: Floats = np.zeros((0, 0))
        self._tickets: list[int] = []

    @property
    def tickets(self) -> list[int]:
        """The tickets of the centres, the oldest first."""
        return list(self._tickets)

    @property
    def radius(self) -> float:
        """Within this distance of a centre (or the reference) lies all that was offered."""
        return 2 * self._apart

    @property
    def _apart(self) -> float:
        return 2 * self.bound

    def plan(self, vector: Any) -> Plan:
        """What offering a (D,) vector would do."""
        value = prepared(vector, self.metric)
        if value.ndim != 1:
            raise InvalidInput(f"a vector of shape {value.shape} where (D,) is expected")
        width = self._width()
        if width is not None and len(value) != width:
            raise InvalidInput(f"a vector of {len(value)} values among vectors of {width}")
        nearest = self._nearest(value, len(self._tickets))
        if nearest <= self.radius:
            return Plan(False)
        if len(self._tickets) < self.size:
            return Plan(True, value=value, changes=True)
        return self._merged(value)

    def take(self, plan: Plan, ticket: int | None) -> None:
        """Carry out a plan; `ticket` is None where the value itself is not kept."""
        if isinstance(plan.value, _Merge):
            merge = plan.value
            self.bound = merge.bound
            self._centres = merge.centres
            gone = set(plan.gone)
            self._tickets = [kept for kept in self._tickets if kept not in gone]
        elif ticket is not None:
            value = plan.value[None]
            self._centres = np.concatenate([self._centres, value]) if self._tickets else value
        if ticket is not None:
            self._tickets.append(ticket)

    def offer(self, vector: Any, ticket: int) -> bool:
        """Plan and take in one."""
        plan = self.plan(vector)
        if plan.changes:
            self.take(plan, ticket if plan.kept else None)
        return plan.kept

    @property
    def reference(self) -> Floats | None:
        """The centres that cost nothing, as they are compared; None without any."""
        return self._reference if len(self._reference) else None

    def distance(self, vector: Any) -> float:
        """From a (D,) vector to the nearest centre or row of the reference; infinite without."""
        value = prepared(vector, self.metric)
        known = [part for part in (self._reference, self._centres) if len(part)]
        found = [float(distances(value, part, self.metric).min()) for part in known]
        return min(found, default=np.inf)

    def restore(self, vector: Any, ticket: int) -> tuple[int, ...]:
        """Take a centre of an earlier process as it was; returns the tickets that go if there are
        too many."""
        value = prepared(vector, self.metric)
        if len(self._tickets) >= self.size:
            plan = self._merged(value)
            self.take(plan, ticket if plan.kept else None)
            return plan.gone if plan.kept else (*plan.gone, ticket)
        self.take(Plan(True, value=value, changes=True), ticket)
        return ()

    def release(self, tickets: Collection[int]) -> None:
        """Make these centres part of the reference, and begin to choose others.

        The guarantee is then about what is offered from here on. At most 10 times `size` centres
        are remembered so; the oldest are forgotten first.
        """
        rows = [row for row, ticket in enumerate(self._tickets) if ticket in tickets]
        if not rows:
            return
        settled = [part for part in (self._settled, self._centres[rows]) if len(part)]
        self._settled = np.concatenate(settled)[-10 * self.size :]
        self._reference = np.concatenate(
            [part for part in (self._given, self._settled) if len(part)]
        )
        left = [row for row in range(len(self._tickets)) if row not in set(rows)]
        self._centres = self._centres[left]
        self._tickets = [self._tickets[row] for row in left]
        self.bound = 0.0

    def _width(self) -> int | None:
        for known in (self._centres, self._reference):
            if len(known):
                return int(known.shape[1])
        return None

    def _nearest(self, value: Floats, count: int) -> float:
        """The distance to the nearest of the reference and the first `count` centres."""
        found = np.inf
        for known in (self._reference, self._centres[:count]):
            if len(known):
                found = min(found, float(distances(value, known, self.metric, chord=True).min()))
        return found

    def _merged(self, value: Floats) -> Plan:
        """One centre too many: raise the bound and drop centres near an earlier one."""
        every = np.concatenate([self._centres, value[None]])
        closest = min(self._distance(every, row, list(range(row))) for row in range(len(every)))
        bound = max(self._apart, closest)
        kept: list[int] = []
        for row in range(len(every)):
            if self._distance(every, row, kept) > 2 * bound:
                kept.append(row)
        gone = tuple(ticket for row, ticket in enumerate(self._tickets) if row not in kept)
        return Plan(len(every) - 1 in kept, gone, _Merge(bound, every[kept]), changes=True)

    def _distance(self, every: Floats, row: int, others: list[int]) -> float:
        """From one centre to the nearest of some others and the reference."""
        known = [part for part in (self._reference, every[others]) if len(part)]
        found = [distances(every[row], part, self.metric, chord=True).min() for part in known]
        return float(min(found, default=np.inf))


@dataclass(frozen=True)
class _Merge:
    bound: float
    centres: Floats
