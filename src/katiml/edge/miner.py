"""Choosing on a device, while records come by, which to keep and upload."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katiml.edge.distances import METRICS as DISTANCES
from katiml.edge.distances import distances, prepared
from katiml.edge.keep import Best, KCenter, Plan
from katiml.edge.kit import Kit, read_kit, write_kit
from katiml.edge.reading import METRICS, number_of, vector_of
from katiml.edge.send import Uploaded
from katiml.edge.spool import Spool
from katiml.errors import Conflict, InvalidInput
from katiml.miners import scores

__all__ = ["COMPARED", "LOWEST", "METRICS", "STRATEGIES", "Miner", "load", "of_kit"]

_VECTORS = ("ACTIVATION", "EMBEDDING_DISTANCE", "NEAREST_NEIGHBORS", "NOVELTY", "CORESET")
# Those that are judged against a reference.
COMPARED = ("EMBEDDING_DISTANCE", "NEAREST_NEIGHBORS", "NOVELTY")
LOWEST = ("ACTIVATION", "NEAREST_NEIGHBORS")
STRATEGIES = ("RANDOM", *METRICS, *_VECTORS)
# What keeps a ratio finite where the reference repeats itself, as in the lake's NOVELTY.
_LEAST = 1e-10
Floats = NDArray[np.float64]


class Miner:
    """One strategy over a stream: `offer` says of each record whether it is kept.

    `strategy` is RANDOM; ENTROPY, MARGIN, CONFIDENCE, VARIANCE, BALD; or, on the embedding
    `model:layer` (or `embeddings_field="logits"`), ACTIVATION, EMBEDDING_DISTANCE,
    NEAREST_NEIGHBORS, NOVELTY, CORESET. Scores are those of the lake's miners of the same names.

    All records whose score reaches `threshold` are kept, or with `size` the best of them, a better
    one later taking the place of the worst. CORESET keeps `size` centres. EMBEDDING_DISTANCE,
    NEAREST_NEIGHBORS and NOVELTY need a `reference`, (R, D) embeddings; CORESET may have one, and
    ACTIVATION too. With a `gate`, another Miner with a threshold, only what it keeps is looked at.

    Kept records are in `spool`, on the disk, or without one in memory. A spool that holds records
    already is taken over as it is, so that a restart goes on where it stopped.

    Raises InvalidInput for settings that do not belong together.

    >>> miner = Miner("ENTROPY", size=1)
    >>> logits = ([4.0, 0.0], [0.1, 0.0], [2.0, 0.0])
    >>> [miner.offer({"type": "IMAGE", "predictions": [{"logits": row}]}) for row in logits]
    [True, True, False]
    >>> [record["predictions"][0]["logits"] for record in miner.records()]
    [[0.1, 0.0]]
    """

    def __init__(
        self,
        strategy: str,
        *,
        model_name: str | None = None,
        size: int | None = None,
        threshold: float | None = None,
        reference: Any = None,
        metric: str = "euclidean",
        neighbors: int = 5,
        embeddings_field: str = "embeddings",
        aggregate: str = "sum",
        seed: int = 0,
        spool: Spool | None = None,
        gate: Miner | None = None,
    ) -> None:
        kit = Kit(
            strategy=strategy,
            model_name=model_name,
            size=size,
            threshold=threshold,
            metric=metric,
            neighbors=neighbors,
            embeddings_field=embeddings_field,
            aggregate=aggregate,
            seed=seed,
            reference=None if reference is None else np.asarray(reference),
        )
        self._begin(kit, spool, gate)

    def _begin(self, kit: Kit, spool: Spool | None, gate: Miner | None) -> None:
        self._kit = kit = _checked(kit)
        self._gate = gate
        self._lock = threading.RLock()
        self._store: Spool | _Memory = _Memory() if spool is None else spool
        self._starts = int(self._store.state.get("starts", 0)) + 1
        self._measure = _Measure(kit, self._starts)
        self._keep: Best | KCenter
        if kit.strategy == "CORESET":
            self._keep = KCenter(kit.size or 0, reference=kit.reference, metric=kit.metric)
        else:
            highest = kit.strategy not in LOWEST
            self._keep = Best(size=kit.size, threshold=kit.threshold, highest=highest)
        self.seen = 0
        self.kept = 0
        self._take_over()

    def __repr__(self) -> str:
        return (
            f"<Miner {self.strategy}: {self.seen:,} seen, {self.kept:,} kept, "
            f"{len(self._store):,} here>"
        )

    @property
    def strategy(self) -> str:
        """Its wire name."""
        return self._kit.strategy

    @property
    def threshold(self) -> float | None:
        """What a score has to reach, from above for ACTIVATION and NEAREST_NEIGHBORS; or None."""
        return self._kit.threshold

    @property
    def settings(self) -> dict[str, Any]:
        """What it was told, `reference` as its number of rows; and in `made` what the lake said
        that exported it: when, from which selection, calibrated on how many."""
        kit = self._kit
        rows = 0 if kit.reference is None else len(kit.reference)
        plain = {item.name: getattr(kit, item.name) for item in fields(kit)}
        return {**plain, "reference": rows, "made": dict(kit.made)}

    def __len__(self) -> int:
        return len(self._store)

    def offer(self, record: Mapping[str, Any]) -> bool:
        """Look at a record; True where it is kept, for now at least.

        A record that is kept is on the disk when this returns. Raises InvalidRecord for one that
        cannot be judged (no prediction of the model, NaN), StorageFull where there is no space
        left; the miner is then as it was before.
        """
        with self._lock:
            if self._gate is not None and not self._gate.judge(record):
                self.seen += 1
                return False
            value = self._measure(record)
            plan = self._keep.plan(value)
            ticket = None
            if plan.kept:
                note = {} if isinstance(value, np.ndarray) else {"score": value}
                ticket = self._store.append(record, note=note)
                self.kept += 1
            self.seen += 1
            if plan.changes:
                self._keep.take(plan, ticket)
                self._follow(plan)
            return plan.kept

    def judge(self, record: Mapping[str, Any]) -> bool:
        """Whether `offer` would keep it now; nothing is kept and nothing changes."""
        return self._keep.plan(self._measure(record)).kept

    def score(self, record: Mapping[str, Any]) -> float:
        """The score that the lake's miner of this name gives; of CORESET the distance to the
        nearest centre."""
        value = self._measure(record)
        if isinstance(self._keep, KCenter):
            return self._keep.distance(value)
        return float(value)

    def records(self) -> Iterator[dict[str, Any]]:
        """What is kept, the oldest first."""
        for _, record in self._store.records():
            yield record

    def upload(self, destination: Any, *, api_key: str | None = None) -> Uploaded:
        """Send what is kept to a lake; see `Spool.upload`. Other threads may go on to `offer`.

        What was sent no longer counts towards `size`. CORESET takes it for part of its reference:
        it does not choose the like again.
        """
        if isinstance(self._store, _Memory):
            raise InvalidInput("there is no spool to upload", hint="Miner(…, spool=Spool(folder))")
        try:
            return self._store.upload(destination, api_key=api_key)
        finally:
            with self._lock:
                self._release()

    def clear(self) -> None:
        """Give up what is kept, in the spool as well."""
        with self._lock:
            self._store.discard(self._store.tickets)
            self._release()

    def _release(self) -> None:
        here = set(self._store.tickets)
        self._keep.release([ticket for ticket in self._keep.tickets if ticket not in here])
        self._remember()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write its settings, thresholds and reference as one file that `load` reads."""
        reference = self._keep.reference if isinstance(self._keep, KCenter) else None
        kit = self._kit if reference is None else replace(self._kit, reference=reference)
        return write_kit(kit, path)

    # -- the spool -----------------------------------------------------------------------------

    def _follow(self, plan: Plan) -> None:
        """Bring the store in line with what was decided. The new record is stored already, so
        that a crash in between leaves one too many rather than one too few."""
        self._remember()
        self._store.discard(plan.gone)

    def _remember(self) -> None:
        """Write down what a restart has to know, where it has changed."""
        state: dict[str, Any] = {"strategy": self.strategy, "starts": self._starts}
        if isinstance(self._keep, KCenter):
            state["bound"] = self._keep.bound
        if self._store.state != state:
            self._store.remember(state)

    def _take_over(self) -> None:
        """Go on with what an earlier process left in the spool."""
        if isinstance(self._store, _Memory):
            return
        before = self._store.state
        if before.get("strategy", self.strategy) != self.strategy:
            raise Conflict(
                f"the spool holds what {before['strategy']} kept, not {self.strategy}",
                hint="upload it first, or give each miner its own folder",
            )
        gone: list[int] = []
        if isinstance(self._keep, KCenter):
            self._keep.bound = float(before.get("bound", 0.0))
            for ticket, record in self._store.records():
                gone += self._keep.restore(self._measure(record), ticket)
        elif self._kit.size is not None:
            for ticket, record, note in self._store.noted_records():
                score = note["score"] if "score" in note else self._measure(record)
                plan = self._keep.plan(float(score))
                gone += plan.gone if plan.kept else (ticket,)
                if plan.kept:
                    self._keep.take(plan, ticket)
        self._remember()
        self._store.discard(gone)


def load(
    path: str | os.PathLike[str], *, spool: Spool | None = None, gate: Miner | None = None
) -> Miner:
    """The miner that `katiml edge export` or `Miner.save` wrote.

    Raises InvalidInput for a file that is none, or of a later format.

    >>> path = Miner("ENTROPY", threshold=0.9).save(getfixture("tmp_path") / "door.npz")
    >>> load(path).threshold
    0.9
    """
    return of_kit(read_kit(path), spool=spool, gate=gate)


def of_kit(kit: Kit, *, spool: Spool | None = None, gate: Miner | None = None) -> Miner:
    """The miner with these settings."""
    miner = Miner.__new__(Miner)
    miner._begin(kit, spool, gate)
    return miner


class _Memory:
    """Where kept records are without a spool."""

    def __init__(self) -> None:
        self._records: dict[int, Mapping[str, Any]] = {}
        self._next = 1
        self.state: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._records)

    def append(self, record: Mapping[str, Any], *, note: Mapping[str, Any]) -> int:  # noqa: ARG002
        ticket, self._next = self._next, self._next + 1
        self._records[ticket] = record
        return ticket

    @property
    def tickets(self) -> list[int]:
        return list(self._records)

    def discard(self, tickets: Any) -> None:
        for ticket in tickets:
            self._records.pop(ticket, None)

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from ((ticket, dict(record)) for ticket, record in self._records.items())

    def remember(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)


class _Measure:
    """A record -> its score, or its vector for CORESET."""

    def __init__(self, kit: Kit, start: int) -> None:
        self._kit = kit
        # Other numbers after a restart: the first ones have been given to other records.
        self._random = np.random.default_rng([kit.seed, start])
        self._usual: Floats | None = None
        self._rows = self._thin = np.zeros((0, 0))
        reference = kit.reference
        if kit.strategy == "ACTIVATION" and reference is not None:
            self._usual = np.abs(np.asarray(reference, np.float64)).mean(axis=0)
        elif kit.strategy in COMPARED and reference is not None:
            self._rows = prepared(reference, kit.metric)
            self._neighbors = min(kit.neighbors, len(self._rows) - 1)
            if kit.strategy == "NOVELTY":
                self._thin = _own_distances(self._rows, self._neighbors, kit.metric)

    def __call__(self, record: Mapping[str, Any]) -> Any:
        kit = self._kit
        if kit.strategy == "RANDOM":
            return float(self._random.random())
        if kit.strategy in METRICS:
            return number_of(record, METRICS[kit.strategy], kit.model_name, kit.aggregate)
        vector = vector_of(record, kit.model_name, kit.embeddings_field)
        width = None if kit.reference is None else int(kit.reference.shape[1])
        if width is not None and len(vector) != width:
            raise InvalidInput(
                f"an embedding of {len(vector)} values beside a reference of {width}",
                hint="the reference is of another layer or model",
            )
        if kit.strategy == "CORESET":
            return vector
        if kit.strategy == "ACTIVATION":
            return float(scores.activation(vector, self._usual))
        found = distances(prepared(vector, kit.metric), self._rows, kit.metric)
        if kit.strategy != "NOVELTY":
            return float(found.min())
        nearest = np.argsort(found, kind="stable")[: self._neighbors]
        around = self._thin[nearest].mean()
        return float((found[nearest].mean() + _LEAST) / (around + _LEAST))


def _own_distances(rows: Floats, neighbors: int, metric: str) -> Floats:
    """(R,) mean distance of each row to its nearest others."""
    found = np.empty(len(rows))
    for index, row in enumerate(rows):
        away = np.delete(distances(row, rows, metric), index)
        found[index] = np.sort(away)[:neighbors].mean()
    return found


def _checked(kit: Kit) -> Kit:
    """The same with the strategy spelled as the wire has it; InvalidInput for what cannot be."""
    name = str(kit.strategy).strip().upper().replace("-", "_")
    if name not in STRATEGIES:
        raise InvalidInput(
            f"no strategy {kit.strategy!r} on a device", hint=f"strategies: {', '.join(STRATEGIES)}"
        )
    for what, value, right in (
        ("metric", kit.metric, DISTANCES),
        ("aggregate", kit.aggregate, scores.AGGREGATES),
    ):
        if value not in right:
            raise InvalidInput(f"{what} is {value!r}", hint=f"one of {', '.join(right)}")
    _whole("neighbors", kit.neighbors, 1)
    _whole("seed", kit.seed, 0)
    if kit.size is not None:
        _whole("size", kit.size, 1)
    if kit.threshold is not None and not np.isfinite(kit.threshold):
        raise InvalidInput(f"threshold is {kit.threshold}", hint="a finite number")
    if name == "CORESET" and (kit.size is None or kit.threshold is not None):
        raise InvalidInput("CORESET keeps a number of centres", hint="give a size, no threshold")
    if kit.size is None and kit.threshold is None:
        raise InvalidInput("nothing says what to keep", hint="give a size, a threshold, or both")
    _check_reference(name, kit.reference)
    return replace(kit, strategy=name, size=None if kit.size is None else int(kit.size))


def _whole(what: str, number: Any, least: int) -> None:
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not whole or number < least:
        raise InvalidInput(f"{what} is {number!r}", hint=f"a whole number from {least}")


def _check_reference(name: str, reference: NDArray[Any] | None) -> None:
    if reference is None:
        if name in COMPARED:
            raise InvalidInput(
                f"{name} needs a reference", hint="(R, D) embeddings, or katiml edge export"
            )
        return
    if reference.ndim != 2 or not reference.size or not np.isfinite(reference).all():
        raise InvalidInput(
            f"a reference of shape {reference.shape}", hint="finite numbers, (R, D), R at least 1"
        )
    if name == "NOVELTY" and len(reference) < 2:
        raise InvalidInput("NOVELTY beside a reference of 1 is not defined")
