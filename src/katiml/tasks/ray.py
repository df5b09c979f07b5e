"""Parts of a computation on a Ray cluster, whose nodes may die meanwhile.

Parts are put into the cluster's memory by this process, so they outlive the node that works on
them. A function whose node died is called again elsewhere; an object that died is made again there
and given, in their order, the calls that changed it.

Ray serialises functions and arrays between processes of one cluster, which trust each other;
nothing that came from outside is ever unpickled.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from katiml.errors import KatiMLError, MissingExtra
from katiml.tasks.executors import Executor, Held

__all__ = ["ClusterUnreachable", "Ray"]

T = TypeVar("T")
_RETRIES = 5
_WAIT_SECONDS = 0.25
_KNOCK_SECONDS = 10.0
_joining = threading.Lock()


class ClusterUnreachable(KatiMLError, ConnectionError):
    """No Ray cluster answers at `KATIML_RAY_ADDRESS`, or the last of its nodes went away."""

    status = 503


class Ray(Executor):
    """A Ray cluster, joined once for each process."""

    name = "ray"

    def __init__(self, address: str, check: Callable[[], None] | None = None) -> None:
        super().__init__(check)
        self._ray = _join(address)

    @property
    def width(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def map(
        self,
        function: Callable[..., T],
        parts: Sequence[Sequence[Any]],
    ) -> list[T]:
        ray = self._ray
        remote = ray.remote(max_retries=_RETRIES, scheduling_strategy="SPREAD")(function)
        references = [remote.remote(*part) for part in _stored(ray, parts)]
        try:
            return [_answer(ray, reference, self._check) for reference in references]
        except BaseException:
            for reference in references:
                with suppress(Exception):
                    ray.cancel(reference, force=True)
            raise

    def hold(
        self,
        make: Callable[..., Any],
        parts: Sequence[Sequence[Any]],
    ) -> Held:
        return _There(self._ray, make, parts, self._check)


def _join(address: str) -> Any:
    # Ray warns otherwise that a later version of it will treat GPUs differently.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtra(
            "KATIML_RAY_ADDRESS is set, and Ray is not installed",
            hint="pip install 'katiml[ray]', or unset KATIML_RAY_ADDRESS",
        ) from error
    with _joining:
        if not ray.is_initialized():
            try:
                _knock(address)
                ray.init(address, namespace="katiml", log_to_driver=False, configure_logging=False)
            except (RuntimeError, ValueError, OverflowError, OSError) as error:
                raise ClusterUnreachable(
                    f"no Ray cluster answers at KATIML_RAY_ADDRESS={address!r}: {error}"[:1_000],
                    hint="`ray start --head` starts one; `ray status` shows it",
                ) from error
    return ray


def _knock(address: str) -> None:
    """Raises OSError where nobody listens: Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def _stored(ray: Any, parts: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The parts in the cluster's memory; what several of them share is there once."""
    stored: dict[int, Any] = {}
    return [
        [
            stored[id(value)]
            if id(value) in stored
            else stored.setdefault(id(value), ray.put(value))
            for value in part
        ]
        for part in parts
    ]


def _answer(ray: Any, reference: Any, check: Callable[[], None]) -> Any:
    while True:
        check()
        done, _ = ray.wait([reference], timeout=_WAIT_SECONDS)
        if done:
            break
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        # What the function itself raised is what the caller would have seen without a cluster.
        raise error.cause or error from None
    except ray.exceptions.RayActorError:
        raise
    except ray.exceptions.RayError as error:
        raise ClusterUnreachable(
            f"the Ray cluster lost a part of the work: {error}"[:1_000], hint="run it again"
        ) from error


class _Holder:
    """What an actor is: an object that was made of a part."""

    def __init__(self, make: Callable[..., Any], *part: Any) -> None:
        self._object = make(*part)

    def answer(self, calls: list[tuple[str, tuple[Any, ...]]]) -> Any:
        """Do calls in their order; returns what the last one answers."""
        result = None
        for method, arguments in calls:
            result = getattr(self._object, method)(*arguments)
        return result


class _There(Held):
    def __init__(
        self,
        ray: Any,
        make: Callable[..., Any],
        parts: Sequence[Sequence[Any]],
        check: Callable[[], None],
    ) -> None:
        self._ray = ray
        self._check = check
        self._make = make
        self._parts = _stored(ray, parts)
        # What each object was told, to tell it again where it has to be made anew.
        self._told: list[list[tuple[str, tuple[Any, ...]]]] = [[] for _ in parts]
        self._actors = [self._place(number) for number in range(len(parts))]

    def _place(self, number: int, attempt: int = 0) -> Any:
        """A new actor, on the nodes that are alive in turn."""
        strategies = self._ray.util.scheduling_strategies
        alive = sorted(node["NodeID"] for node in self._ray.nodes() if node["Alive"])
        if not alive:
            raise ClusterUnreachable("the Ray cluster has no node left", hint="start it again")
        node = alive[(number + attempt) % len(alive)]
        actor = self._ray.remote(num_cpus=0, max_restarts=0)(_Holder).options(
            scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(node, soft=True)
        )
        return actor.remote(self._make, *self._parts[number])

    def tell(self, arguments: Sequence[Sequence[Any]], method: str) -> list[Any]:
        sent = [
            actor.answer.remote([(method, tuple(given))])
            for actor, given in zip(self._actors, arguments, strict=True)
        ]
        return [
            self._received(number, reference, method, tuple(given))
            for number, (reference, given) in enumerate(zip(sent, arguments, strict=True))
        ]

    def _received(
        self, number: int, reference: Any, method: str, arguments: tuple[Any, ...]
    ) -> Any:
        for attempt in range(_RETRIES + 1):
            try:
                result = _answer(self._ray, reference, self._check)
            except self._ray.exceptions.RayActorError as error:
                if attempt == _RETRIES:
                    raise ClusterUnreachable(
                        f"the Ray cluster lost a part of the work {attempt + 1} times: {error}"[
                            :1_000
                        ],
                        hint="run it again",
                    ) from error
                with suppress(Exception):
                    self._ray.kill(self._actors[number])
                self._actors[number] = self._place(number, attempt)
                calls = [*self._told[number], (method, arguments)]
                reference = self._actors[number].answer.remote(calls)
            else:
                self._told[number].append((method, arguments))
                return result
        raise AssertionError  # the loop returns or raises

    def close(self) -> None:
        for actor in self._actors:
            with suppress(Exception):
                self._ray.kill(actor)
        self._actors.clear()
