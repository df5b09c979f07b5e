"""What a strategy needs, out of a lake: `Inputs`, and what was found on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from katiml._arrays import on_device
from katiml.errors import InvalidInput
from katiml.miners.measured import Measured
from katiml.miners.measures import resolve_model
from katiml.miners.outputs import load_committee, load_labels, load_probabilities, positions_in
from katiml.miners.strategy import Inputs, Progress, Strategy
from katiml.vectors.load import Vectors, load_vectors
from katiml.vectors.select import Select, datapoint_ids

if TYPE_CHECKING:
    from katiml.store import Scope

__all__ = ["Loaded", "Request", "load_inputs", "models_of", "one_name"]


@dataclass(frozen=True)
class Request:
    """What to mine: a strategy's wire name, how many datapoints, and from which."""

    strategy: str
    size: int
    select: Select = field(default_factory=Select)
    # What is labelled already, or what to look like.
    reference: Select | None = None
    # `model` or `model:layer`; a list of them for QUERY_BY_COMMITTEE.
    model_name: str | list[str] | None = None
    # "embeddings", "grad_embeddings" or "logits".
    embeddings_field: str = "embeddings"
    # What the strategy is told: its `parameters`.
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    # "cpu", or "cuda" where torch has it.
    device: str = "cpu"
    skip_caching: bool = False


@dataclass
class Loaded:
    """Inputs in the order of (N,) ids, and facts that a run rests on."""

    ids: NDArray[np.bytes_]
    inputs: Inputs
    facts: dict[str, Any]


_MOVED = {"vectors", "gradients", "reference", "probabilities"}


def load_inputs(
    scope: Scope, strategy: Strategy, request: Request, *, progress: Progress | None = None
) -> Loaded:
    """Load what a strategy needs, and what it uses where it is there.

    Of a measured strategy, what its numbers follow from where the lake does not keep them.
    """
    needs = strategy.sources if isinstance(strategy, Measured) else strategy.needs
    reference = None
    if "reference" in (*needs, *strategy.uses):
        reference = None if request.reference is None else request.reference.fixed(scope)
        if reference is None and "reference" in needs:
            raise InvalidInput(
                f"{strategy.name} compares with a reference, and none is given",
                hint="select_reference: the filters of what is labelled, or of what to look like",
            )
    loader = _Loader(scope, request, reference, progress)
    for need in needs or ("ids",):
        loader.add(need)
    ids, inputs = loader.together()
    if not len(ids) and needs:
        raise InvalidInput(
            f"{strategy.name}: no datapoint of the selection has all it needs",
            hint=f"it needs {' and '.join(needs)} of the same datapoints",
        )
    return Loaded(ids, inputs, loader.facts)


def models_of(request: Request) -> list[str]:
    """The models of a committee."""
    names = [request.model_name] if isinstance(request.model_name, str) else request.model_name
    if not names or len(set(names)) < 2:
        raise InvalidInput(
            f"{request.strategy} wants two models or more, model_name is {names!r:.100}",
            hint="model_name=['fold-1', 'fold-2']",
        )
    return list(dict.fromkeys(names))


def one_name(request: Request) -> str | None:
    """The model_name of a strategy that is about one model."""
    if isinstance(request.model_name, list | tuple):
        raise InvalidInput(f"{request.strategy} is about one model, not a list of them")
    return request.model_name


class _Loader:
    """Loads arrays, each about the datapoints that have it."""

    def __init__(
        self, scope: Scope, request: Request, reference: Select | None, progress: Progress | None
    ) -> None:
        self.scope = scope
        self.request = request
        self.reference = reference
        self.select = replace(request.select.fixed(scope), without=reference)
        self.chosen = self.select.chosen()
        self.progress = progress
        self.facts: dict[str, Any] = {}
        self._arrays: dict[str, tuple[NDArray[np.bytes_], Any]] = {}
        self._rest: dict[str, Any] = {}

    def add(self, need: str) -> None:
        """Load one of the fields of `Inputs`."""
        getattr(self, f"_{need}")()

    def together(self) -> tuple[NDArray[np.bytes_], Inputs]:
        """(the ids that all arrays are about, the arrays about those)."""
        ids = reduce(np.intersect1d, [ids for ids, _ in self._arrays.values()])
        values = {
            name: array if len(own) == len(ids) else array[positions_in(own, ids)]
            for name, (own, array) in self._arrays.items()
            if array is not None
        }
        moved = {
            name: on_device(array, self.request.device) if name in _MOVED else array
            for name, array in {**values, **self._rest}.items()
        }
        return ids, Inputs(ids=ids, **moved)

    def _ids(self) -> None:
        self._arrays["count"] = datapoint_ids(self.scope, self.select), None

    def _vectors(self) -> None:
        vectors = self._load(self.select, one_name(self.request), self.request.embeddings_field)
        self._arrays["vectors"] = vectors.ids, vectors.matrix
        self._note(vectors)
        if self.reference is None:
            return
        if not len(datapoint_ids(self.scope, self.reference)):
            # Filters with a slip of the pen are more likely than nothing being labelled yet.
            raise InvalidInput(
                f"{self.request.strategy} compares with a reference, which is empty",
                hint="widen the filters of the reference, or leave the reference out",
            )
        other = self._load(self.reference, vectors.name, vectors.field)
        widths = vectors.matrix.shape[1], other.matrix.shape[1]
        if widths[0] != widths[1]:
            raise InvalidInput(
                f"{vectors.field} called {vectors.name!r} have {widths[0]} values in the selection"
                f" and {widths[1]} in the reference",
                hint="give each its own model_name",
            )
        self._rest |= {"reference": other.matrix, "reference_ids": other.ids}
        self.facts["reference"] = len(other.ids)

    def _reference(self) -> None:
        if "reference" not in self._rest:  # loaded with the vectors
            raise InvalidInput(
                f"{self.request.strategy} compares with a reference, which is empty",
                hint="widen the filters of the reference",
            )

    def _gradients(self) -> None:
        """Stored gradient embeddings, or what they are made of: probabilities and embeddings."""
        name = one_name(self.request)
        try:
            stored = self._load(self.select, name, "grad_embeddings")
        except InvalidInput as missing:
            try:
                factors = self._load(self.select, name, "embeddings")
                self._probabilities()
            except InvalidInput as neither:
                raise InvalidInput(
                    f"BADGE: {missing.message}; nor what they are made of: {neither.message}",
                    hint=neither.hint,
                ) from None
            self._arrays["vectors"] = factors.ids, factors.matrix
            self._note(factors)
            return
        self._arrays["gradients"] = stored.ids, stored.matrix
        self._note(stored)

    def _probabilities(self) -> None:
        model = resolve_model(self.scope, self.chosen, one_name(self.request))
        found = load_probabilities(self.scope, self.chosen, model)
        self._arrays["probabilities"] = found.ids, found.probabilities
        self._rest["class_names"] = found.class_names
        self.facts["model_name"] = model

    def _labels(self) -> None:
        names = self._rest["class_names"]  # of the probabilities, which come first
        self._arrays["labels"] = load_labels(self.scope, self.chosen, names)

    def _committee(self) -> None:
        models = [resolve_model(self.scope, self.chosen, name) for name in models_of(self.request)]
        ids, committee, names = load_committee(self.scope, self.chosen, models)
        self._arrays["committee"] = ids, None  # nothing else is loaded beside it
        self._rest |= {"committee": committee, "models": models, "class_names": names}
        self.facts["model_name"] = models

    def _load(self, select: Select, name: str | None, field: str) -> Vectors:
        return load_vectors(
            self.scope,
            select,
            model_name=name,
            field=field,
            skip_caching=self.request.skip_caching,
            progress=self.progress,
        )

    def _note(self, vectors: Vectors) -> None:
        self.facts |= {
            "model_name": vectors.name,
            "embeddings_field": vectors.field,
            "missing": {reason: len(ids) for reason, ids in vectors.missing.items()},
            "state": vectors.state,
        }
