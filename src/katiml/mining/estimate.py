"""What a run would take, before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from katiml.errors import InvalidInput
from katiml.miners.measured import Measured
from katiml.miners.measures import nothing_measured, resolve_model, without_value
from katiml.miners.mine import Request
from katiml.miners.registry import get_strategy
from katiml.tasks.limits import shown_bytes

if TYPE_CHECKING:
    from katiml.store import Scope
    from katiml.vectors.select import Select

__all__ = ["Estimate", "estimate", "memory_of"]

# What a strategy works with -> what the lake holds of it.
_FIELD_OF = {"gradients": "grad_embeddings", "probabilities": "logits", "passes": "logits"}
# Blocks of products and the arrays beside a matrix.
_WORKING_BYTES = 128 << 20
_BYTES_A_ROW = 96


@dataclass(frozen=True)
class Estimate:
    """What a run would look at: how many `datapoints` are selected, how many are `usable`, how many
    are `missing` something (by reason), how wide a vector is, and about how many bytes of `memory`
    the run takes. `reference` says the same of the reference.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> _ = lake.ingest([{"type": "TEXT", "text": str(number)} for number in range(9)])
    >>> lake.miners.estimate("RANDOM", 2).usable
    9
    """

    datapoints: int
    usable: int
    missing: Mapping[str, int] = field(default_factory=dict)
    name: str | None = None
    width: int | None = None
    memory: int = 0
    reference: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        told = {**vars(self), "missing": dict(self.missing)}
        told["reference"] = None if self.reference is None else self.reference.to_dict()
        return told

    def __str__(self) -> str:
        lines = [f"{self.usable:,} of {self.datapoints:,} datapoints can be chosen from"]
        lines += [f"{count:,} are left out: {reason}" for reason, count in self.missing.items()]
        if self.width is not None:
            lines.append(f"vectors of {self.name!r} with {self.width:,} values each")
        if self.reference is not None:
            lines.append(f"{self.reference.usable:,} datapoints are the reference")
        lines.append(f"about {shown_bytes(self.memory)} of memory")
        return "\n".join(lines)


def estimate(scope: Scope, request: Request) -> Estimate:
    """What a run would take; raises InvalidInput where it would come to nothing."""
    strategy = get_strategy(request.strategy, **request.settings)
    if isinstance(strategy, Measured):
        return _of_measure(scope, strategy, request)
    wanted = next((name for name in strategy.needs if name in ("vectors", *_FIELD_OF)), None)
    if wanted is None:
        count = _count(scope, request.select)
        return Estimate(count, count, memory=_memory(count, 0))
    kind = _FIELD_OF.get(wanted, request.embeddings_field)
    own = _of_vectors(scope, request.select, request, kind)
    if request.reference is None or "reference" not in (*strategy.needs, *strategy.uses):
        return own
    reference = _of_vectors(scope, request.reference, request, kind)
    together = own.memory + reference.memory - _WORKING_BYTES
    return Estimate(
        own.datapoints, own.usable, own.missing, own.name, own.width, together, reference
    )


def memory_of(scope: Scope, request: Request) -> int:
    """About how many bytes a run takes; 0 where it will fail for another reason."""
    try:
        return estimate(scope, request).memory
    except InvalidInput:
        return 0


def _count(scope: Scope, select: Select) -> int:
    chosen = select.chosen()
    found = scope.query(f"SELECT count(*) FROM ({chosen.sql})", chosen.parameters)
    return int(found.column(0)[0].as_py())


def _of_measure(scope: Scope, strategy: Measured, request: Request) -> Estimate:
    if isinstance(request.model_name, list):
        raise InvalidInput(f"{strategy.name} is about one model, not a list of them")
    select = request.select.fixed(scope)
    model = resolve_model(scope, select.chosen(), request.model_name)
    count = _count(scope, select)
    without = without_value(scope, select, strategy.metric, model)
    if count and without == count:
        raise nothing_measured(scope, strategy.name, strategy.metric, model)
    reason = f"no prediction of {model!r} with a value for {strategy.metric}"
    missing = {reason: without} if without else {}
    # One statement ranks them: the database bounds its own memory.
    return Estimate(count, count - without, missing, memory=0)


def _of_vectors(scope: Scope, select: Select, request: Request, kind: str) -> Estimate:
    from katiml.vectors.load import estimate_vectors

    names = request.model_name if isinstance(request.model_name, list) else [request.model_name]
    found = [estimate_vectors(scope, select, model_name=name, field=kind) for name in names]
    fewest = min(found, key=lambda own: own.vectors)
    return Estimate(
        fewest.datapoints,
        fewest.vectors,
        fewest.missing,
        fewest.name,
        fewest.width,
        _memory(fewest.vectors, sum(own.bytes for own in found)),
    )


def _memory(rows: int, matrix: int) -> int:
    return matrix + rows * _BYTES_A_ROW + _WORKING_BYTES
