"""What a strategy is: what it needs, what it can be told, and what it picks.

A strategy looks at a pool of N datapoints through the arrays of `Inputs` and answers with
`Picks`: positions in the pool, the best first, with a score each and what the score came from.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import Array, namespace, to_numpy
from katiml.errors import InvalidInput

__all__ = [
    "Inputs",
    "Parameter",
    "Picks",
    "Progress",
    "Run",
    "Strategy",
    "checked_size",
    "names_of",
]

# Called with (how much is done, of how much); what it raises stops the run.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Parameter:
    """One thing a strategy can be told: its type, default, bounds, and one sentence of help."""

    name: str
    type: type
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()

    def checked(self, strategy: str, value: Any) -> Any:
        """`value` as this parameter's type; InvalidInput says what would be right."""
        if value is None:
            return self.default
        converted = self._converted(value)
        if converted is None:
            raise InvalidInput(
                f"{strategy}: {self.name} is {value!r:.100}", hint=f"{self.name}: {self.range()}"
            )
        return converted

    def _converted(self, value: Any) -> Any:
        if self.type is bool or isinstance(value, bool):
            return value if self.type is bool and isinstance(value, bool) else None
        try:
            if self.type is int:
                value = operator.index(value)
            elif self.type is float:
                value = float(value) if not isinstance(value, str) else None
        except (TypeError, ValueError, OverflowError):
            return None
        if not isinstance(value, self.type) or (self.choices and value not in self.choices):
            return None
        if isinstance(value, int | float) and not self._within(value):
            return None
        return value

    def _within(self, value: float) -> bool:
        low, high = self.low, self.high
        return (
            math.isfinite(value)
            and (low is None or value >= low)
            and (high is None or value <= high)
        )

    def range(self) -> str:
        """Which values are right, in words."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        kind = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        text = kind.get(self.type, f"a {self.type.__name__}")
        if self.low is not None:
            text += f" from {self.low:g}"
        if self.high is not None:
            text += f" to {self.high:g}"
        return text


@dataclass(frozen=True)
class Inputs:
    """The pool as arrays. A strategy's `needs` and `uses` say which it looks at.

    Rows are datapoints, in the order of `ids`; N is their number. Arrays may be NumPy's, torch's
    or CuPy's.
    """

    # N datapoint ids, text: what breaks ties. Without them positions do.
    ids: Sequence[str] | NDArray[Any] | None = None
    # How many datapoints there are, where no other field says so.
    count: int | None = None
    # (N,) floats, one a datapoint, as a "metric:…" needs it; NaN where there is none.
    values: Any = None
    # (N, C): what one model says; rows sum to 1.
    probabilities: Any = None
    # (N, T, C): what its T passes of MC dropout say.
    passes: Any = None
    # (M, N, C): what M models say of the same C classes.
    committee: Any = None
    models: Sequence[str] | None = None
    class_names: Sequence[str] | None = None
    # (C,) not negative.
    class_weights: Any = None
    # (N, D) embeddings or logits.
    vectors: Any = None
    # (N, G) gradient embeddings.
    gradients: Any = None
    # (R, D), and R ids: what is labelled, or what to look like.
    reference: Any = None
    reference_ids: Sequence[str] | NDArray[Any] | None = None
    # (N,) int: the class each is labelled with, -1 where it is not.
    labels: Any = None

    _PER_DATAPOINT: ClassVar[tuple[str, ...]] = (
        "ids",
        "values",
        "probabilities",
        "passes",
        "vectors",
        "gradients",
        "labels",
    )

    def __len__(self) -> int:
        if self.count is not None:
            return self.count
        for name in self._PER_DATAPOINT:
            value = getattr(self, name)
            if value is not None:
                return len(value)
        return 0 if self.committee is None else int(self.committee.shape[1])

    def take(self, positions: NDArray[np.intp]) -> Inputs:
        """The same about some of the datapoints, in this order."""
        chosen: dict[str, Any] = {
            name: _rows(getattr(self, name), positions)
            for name in self._PER_DATAPOINT
            if getattr(self, name) is not None
        }
        if self.committee is not None:
            chosen["committee"] = self.committee[:, _index(self.committee, positions)]
        if self.count is not None:
            chosen["count"] = len(positions)
        return replace(self, **chosen)

    def check(self) -> None:
        """InvalidInput unless all arrays are of one pool."""
        count = len(self)
        for name in self._PER_DATAPOINT:
            value = getattr(self, name)
            if value is not None and len(value) != count:
                raise InvalidInput(f"{name} are of {len(value)} datapoints, the pool has {count}")
        if self.committee is not None and self.committee.shape[1] != count:
            raise InvalidInput(
                f"committee is of {self.committee.shape[1]} datapoints, the pool has {count}"
            )


def names_of(ids: Sequence[Any] | NDArray[Any] | None, count: int) -> list[Any]:
    """The ids as text, or positions where there are none."""
    if ids is None:
        return list(range(count))
    return [str(name, "ascii") if isinstance(name, bytes) else str(name) for name in ids]


def _index(array: Array, positions: NDArray[np.intp]) -> Any:
    xp = namespace(array)
    return positions if xp is np else xp.asarray(positions, device=array.device)


def _rows(values: Any, positions: NDArray[np.intp]) -> Any:
    if isinstance(values, np.ndarray):
        return values[positions]
    if hasattr(values, "shape"):
        return values[_index(values, positions)]
    return [values[position] for position in positions.tolist()]


@dataclass(frozen=True)
class Picks:
    """What a strategy chose: `positions` in the pool (the best first), `scores` float64, and
    `reasons`, a column for each thing that says where the score came from."""

    positions: NDArray[np.intp]
    scores: NDArray[np.float64]
    reasons: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class Run:
    """What one call of `pick` carries along: randomness, and who wants to know how far it is."""

    random: np.random.Generator
    progress: Progress | None = None

    def done(self, number: int, total: int) -> None:
        """Say how far the run is; raises what stops it."""
        if self.progress is not None:
            self.progress(number, total)


class Strategy(ABC):
    """One way to choose what to label next. Subclasses say the class variables and `_pick`.

    `needs` names what the strategy cannot do without and `uses` what it looks at where it is
    there: fields of `Inputs` ("vectors", "reference", "probabilities", "committee", …), or
    "metric:NAME": one number a datapoint in `values`, which a lake ranks by one SQL statement.

    >>> from katiml.miners import get_strategy
    >>> strategy = get_strategy("MARGIN")
    >>> picks = strategy.pick(Inputs(probabilities=np.array([[0.9, 0.1], [0.6, 0.4]])), 1, seed=0)
    >>> picks.positions.tolist(), picks.scores.round(6).tolist()
    ([1], [0.8])
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    # Whether high scores are picked first.
    highest: bool = True

    def __init__(self, **settings: Any) -> None:
        known = {parameter.name: parameter for parameter in self.parameters}
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise InvalidInput(
                f"{self.name} has no parameter {unknown[0]!r:.100}",
                hint=f"its parameters are: {', '.join(known)}" if known else "it has none",
            )
        self.settings: dict[str, Any] = {
            name: parameter.checked(self.name, settings.get(name))
            for name, parameter in known.items()
        }

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({told})"

    def pick(
        self, inputs: Inputs, size: int, *, seed: int = 0, progress: Progress | None = None
    ) -> Picks:
        """The `size` datapoints to label next: all, if the pool has no more.

        The same pool, settings and seed give the same picks, whatever the order of its rows.
        `progress(done, total)` is called now and then; what it raises ends the run.
        What is in the reference by its id is not picked again. Raises InvalidInput for a size
        under 1, an empty pool, arrays that are missing or do not belong together, and for NaN or
        infinity in vectors and probabilities.
        """
        size = checked_size(size)
        inputs.check()
        if len(inputs) == 0:
            raise InvalidInput(
                f"{self.name} has nothing to choose from: the pool is empty",
                hint="widen the filters of the selection",
            )
        self._require(inputs)
        order = _order_by_id(inputs.ids)
        if "reference" in (*self.needs, *self.uses):
            order = _without_reference(self.name, inputs, order)
        ordered = inputs if order is None else inputs.take(order)
        run = Run(np.random.default_rng(seed), progress)
        picks = self._pick(ordered, min(size, len(ordered)), run)
        if order is None:
            return picks
        return Picks(order[picks.positions], picks.scores, picks.reasons)

    @abstractmethod
    def _pick(self, inputs: Inputs, size: int, run: Run) -> Picks:
        """The picks among a pool that is sorted by id; 1 <= size <= len(inputs)."""

    def _require(self, inputs: Inputs) -> None:
        missing = [name for name in self.needs if getattr(inputs, _field_of(name)) is None]
        if missing:
            raise InvalidInput(f"{self.name} needs {' and '.join(missing)}")
        if "reference" in self.needs and not len(inputs.reference):
            raise InvalidInput(
                f"{self.name} compares with a reference, which is empty",
                hint="widen the filters of the reference",
            )
        own, other = inputs.vectors, inputs.reference
        if own is not None and other is not None and own.shape[1:] != other.shape[1:]:
            raise InvalidInput(
                f"vectors have {own.shape[-1]} values in the pool and {other.shape[-1]} in the "
                "reference",
                hint="both must come from the same layer of the same model",
            )
        self._check_finite(inputs, (*self.needs, *self.uses))

    def _check_finite(self, inputs: Inputs, names: Sequence[str]) -> None:
        for name in names:
            if name in _FINITE and (value := getattr(inputs, name)) is not None:
                _check_finite(self.name, name, value, inputs)


_FINITE = {"probabilities", "passes", "committee", "vectors", "gradients", "reference"}


def _field_of(need: str) -> str:
    return "values" if need.startswith("metric:") else need


def checked_size(size: Any) -> int:
    """`size` as a whole number from 1; InvalidInput for anything else."""
    try:
        number = None if isinstance(size, bool) else operator.index(size)
    except TypeError:
        number = None
    if number is None or number < 1:
        raise InvalidInput(f"size is {size!r:.100}", hint="how many to pick: a whole number from 1")
    return number


def _order_by_id(ids: Sequence[str] | NDArray[Any] | None) -> NDArray[np.intp] | None:
    """The positions that sort the pool by id; None where it is sorted already."""
    if ids is None:
        return None
    array = _texts(ids)
    if bool(np.all(array[:-1] < array[1:])):
        return None
    order = np.argsort(array, kind="stable")
    if bool(np.any(array[order][:-1] == array[order][1:])):
        raise InvalidInput("a datapoint is in the pool twice", hint="ids must be different")
    return order


def _without_reference(
    strategy: str, inputs: Inputs, order: NDArray[np.intp] | None
) -> NDArray[np.intp] | None:
    """The same positions but for those of datapoints in the reference."""
    if inputs.ids is None or inputs.reference_ids is None or not len(inputs.reference_ids):
        return order
    known = np.isin(_texts(inputs.ids), _texts(inputs.reference_ids))
    if not known.any():
        return order
    rest = np.flatnonzero(~known) if order is None else order[~known[order]]
    if not len(rest):
        raise InvalidInput(
            f"{strategy} has nothing to choose from: the whole pool is in the reference",
            hint="widen the selection, or narrow the reference",
        )
    return rest


def _texts(ids: Sequence[str] | NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(ids)
    return array.astype(str) if array.dtype == object else array


def _check_finite(strategy: str, name: str, array: Array, inputs: Inputs) -> None:
    """InvalidInput where a value is NaN or infinite; looks at some rows at a time."""
    rows = len(array)
    step = max(1, 2**22 // max(1, math.prod(array.shape[1:])))
    for start in range(0, rows, step):
        block = array[start : start + step]
        xp = namespace(block)
        # A sum is read at the speed of memory; one that overflows is looked at again.
        if math.isfinite(float(xp.sum(block, dtype=xp.float32))) or bool(
            xp.all(xp.isfinite(block))
        ):
            continue
        bad = ~np.isfinite(to_numpy(block))
        first = start + int(np.argwhere(bad)[0, 0])
        ids = inputs.reference_ids if name == "reference" else inputs.ids
        # The rows of a committee are models.
        known = ids is not None and name != "committee"
        who = f"datapoint {ids[first]}" if known and ids is not None else f"row {first}"
        raise InvalidInput(
            f"{strategy}: {name} of {who} hold NaN or infinity",
            hint="leave such datapoints out of the selection, or send them again",
        )
