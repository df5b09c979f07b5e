"""Running what a miner is told: the pool found, the work spread, the run explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from katiml.errors import InvalidInput
from katiml.miners.estimate import estimate
from katiml.miners.measured import Measured
from katiml.miners.mine import Mined, Request, mine
from katiml.miners.registry import strategy_class
from katiml.miners.strategy import Progress
from katiml.mining.configuration import Configuration
from katiml.mining.explain import explained, lake_state
from katiml.mining.members import Found
from katiml.store.scope import Scope
from katiml.tasks.executors import executor_of_environment, spread_over

__all__ = ["memory_of", "request_of", "run_configuration"]


def run_configuration(
    scope: Scope,
    configuration: Configuration,
    *,
    again: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    check: Callable[[], None] | None = None,
) -> tuple[Mined, dict[str, Any]]:
    """What was picked, and the explanation of the run.

    `again` is the explanation of an earlier run, whose members of datasets are taken instead of
    those of now. `progress` and `check` are called now and then: what they raise ends the run.
    Raises InvalidInput, InvalidFilter, NotFound for a dataset that is gone.
    """
    state = lake_state(scope) if again is None else again["lake_state"]
    found = _members(scope, configuration) if again is None else _known(again)
    request = _narrowed(configuration.request, found)
    executor = executor_of_environment(check)
    with spread_over(executor):
        mined = mine(scope, request, progress=progress)
    if len(mined) < request.size:
        raise InvalidInput(
            f"size is {request.size:,}, and {request.strategy} can choose from"
            f" {len(mined):,} datapoints only",
            hint=f"ask for {len(mined):,} or fewer, or widen the selection; "
            "lake.miners.estimate says which datapoints are left out, and why",
        )
    more: dict[str, Any] = {"executor": "local" if executor is None else executor.name}
    members = {name: own.to_texts() for name, own in found.items() if own != Found()}
    if members:
        more["members"] = members
    return mined, explained(configuration, mined, state, more)


def request_of(scope: Scope, configuration: Configuration) -> Request:
    """The request about the members of datasets as they are now; raises NotFound."""
    return _narrowed(configuration.request, _members(scope, configuration))


def memory_of(scope: Scope, configuration: Configuration) -> int:
    """About how many bytes a run takes; 0 where it will fail for another reason."""
    if issubclass(strategy_class(configuration.request.strategy), Measured):
        # One statement ranks them: the database bounds its own memory.
        return 0
    try:
        return estimate(scope, request_of(scope, configuration)).bytes
    except (InvalidInput, LookupError):
        return 0


def _members(scope: Scope, configuration: Configuration) -> dict[str, Found]:
    return {
        "select": configuration.members.find(scope),
        "select_reference": configuration.reference_members.find(scope),
    }


def _known(explanation: Mapping[str, Any]) -> dict[str, Found]:
    texts = explanation.get("members") or {}
    return {
        name: Found.from_texts(texts[name]) if name in texts else Found()
        for name in ("select", "select_reference")
    }


def _narrowed(request: Request, found: Mapping[str, Found]) -> Request:
    reference = request.reference
    return replace(
        request,
        select=found["select"].narrow(request.select),
        reference=None if reference is None else found["select_reference"].narrow(reference),
    )
