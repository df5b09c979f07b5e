"""The same work on a real Ray cluster of two raylets, one of which is killed in the middle."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import katiml
from katiml.errors import InvalidInput
from katiml.miners.coreset import k_center
from katiml.miners.nearest_neighbors import by_distance
from katiml.miners.strategy import Run as StrategyRun
from katiml.tasks import Stopped, Task, executors
from katiml.tasks.executors import Executor, Local, executor_of_environment, spread_over
from katiml.vectors import project, projections
from tests.mining.conftest import LABELLED, UNLABELLED, pool
from tests.store.processes import Script

ray = pytest.importorskip(
    "ray", reason="Ray has no wheel for this Python: katiml[ray] leaves it out"
)
pytestmark = [
    pytest.mark.xdist_group("ray"),
    # Ray leaves sockets and files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.integers(0, 5, (600, 4)).astype(np.float32)


class Cluster:
    """Two raylets; the one that this process is connected to, and one that can be killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        memory = 80_000_000
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "object_store_memory": memory,
                "include_dashboard": False,
            },
        )
        self._memory = memory
        self._second: Any = None

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def complete(self) -> None:
        """Have two raylets."""
        if self._second is None:
            self._second = self._cluster.add_node(num_cpus=1, object_store_memory=self._memory)
            self._cluster.wait_for_nodes()

    @property
    def second(self) -> str:
        return str(self._second.node_id)

    def kill(self) -> None:
        """Kill the second raylet as `kill -9` does."""
        second, self._second = self._second, None
        self._cluster.remove_node(second, allow_graceful=False)

    def end(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def started() -> Iterator[Cluster]:
    # A node that is gone is noticed in a second, not in half a minute.
    os.environ.update(
        RAY_health_check_period_ms="300",
        RAY_health_check_failure_threshold="3",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    )
    cluster = Cluster()
    yield cluster
    cluster.end()


@pytest.fixture
def cluster(started: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    started.complete()
    monkeypatch.setenv("KATIML_RAY_ADDRESS", started.address)
    monkeypatch.setattr(executors, "_SMALLEST_PART", 50)
    return started


@pytest.fixture
def executor(cluster: Cluster) -> Executor:
    """The cluster as work finds it."""
    found = executor_of_environment()
    assert found is not None
    assert (found.name, found.width) == ("ray", 2)
    return found


def node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def test_parts_are_done_on_both_raylets(executor: Executor) -> None:
    def part(number: int) -> tuple[int, str]:
        time.sleep(0.3)
        return number, node()

    found = executor.map(part, [(number,) for number in range(6)])
    assert [number for number, _ in found] == list(range(6))
    assert len({where for _, where in found}) == 2


def test_what_a_part_raises_is_raised(executor: Executor) -> None:
    def part(number: int) -> int:
        if number == 1:
            raise InvalidInput("one is wrong", hint="two is right")
        return number

    with pytest.raises(InvalidInput, match="one is wrong"):
        executor.map(part, [(0,), (1,), (2,)])


def test_stopping_ends_what_runs(executor: Executor, tmp_path: Path) -> None:
    def part() -> None:
        time.sleep(60)

    stopped = threading.Event()
    threading.Timer(0.5, stopped.set).start()

    def check() -> None:
        if stopped.is_set():
            raise Stopped("no")

    before = time.monotonic()
    stoppable = executor_of_environment(check)
    assert stoppable is not None
    with pytest.raises(Stopped):
        stoppable.map(part, [(), ()])
    assert time.monotonic() - before < 30
    assert executor.map(lambda: 1, [()]) == [1]


def test_a_raylet_killed_in_the_middle_of_parts(
    cluster: Cluster, executor: Executor, tmp_path: Path
) -> None:
    def part(number: int, rows: Any) -> tuple[int, float]:
        (tmp_path / f"{number} {node()}").touch()
        time.sleep(1)
        return number, float(rows.sum())

    def kill_when_it_works() -> None:
        while not any(file.name.endswith(cluster.second) for file in tmp_path.iterdir()):
            time.sleep(0.02)
        cluster.kill()

    killer = threading.Thread(target=kill_when_it_works)
    killer.start()
    rows = np.ones((100, 100))
    found = executor.map(part, [(number, rows) for number in range(4)])
    killer.join()
    assert found == [(number, 10_000.0) for number in range(4)]


@pytest.mark.parametrize("reference", [None, MATRIX[:7]], ids=["no-reference", "reference"])
def test_coreset__a_raylet_killed_in_the_middle(
    cluster: Cluster, executor: Executor, reference: Any
) -> None:
    wanted = k_center(MATRIX, 40, reference, first=5)

    def progress(done: int, _total: int) -> None:
        if done == 15:
            cluster.kill()

    with spread_over(executor):
        run = StrategyRun(np.random.default_rng(0), progress)
        found = k_center(MATRIX, 40, reference, first=5, run=run)
    for own, other in zip(found, wanted, strict=True):
        assert np.array_equal(own, other, equal_nan=True)


@pytest.mark.parametrize(("metric", "highest"), [("euclidean", True), ("cosine", False)])
def test_nearest_and_farthest(executor: Executor, metric: str, highest: bool) -> None:
    wanted = by_distance(MATRIX, MATRIX[:9] + 1, 50, metric=metric, highest=highest)
    for spread in (executor, Local(4)):
        with spread_over(spread):
            found = by_distance(MATRIX, MATRIX[:9] + 1, 50, metric=metric, highest=highest)
        for own, other in zip(found, wanted, strict=True):
            assert np.array_equal(own, other)


def test_projections(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "_VALUES", 400)
    matrix = RANDOM.normal(size=(300, 8)).astype(np.float32)
    wanted = {method: project(matrix, method) for method in ("pca", "tsne")}
    with spread_over(executor):
        for method, places in wanted.items():
            assert np.array_equal(project(matrix, method), places), method


def test_miners_of_a_lake__a_raylet_killed_in_the_middle(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, dict[str, Any]]] = [
        ("ENTROPY", {"model_name": "net"}),
        ("NEAREST_NEIGHBORS", {"model_name": "net:last", "reference_filters": LABELLED}),
        ("CORESET", {"model_name": "net:last", "reference_filters": LABELLED}),
    ]
    monkeypatch.setattr(executors, "_SMALLEST_PART", 10)
    with katiml.connect(tmp_path / "lake") as lake:
        lake.ingest(pool(200))
        monkeypatch.delenv("KATIML_RAY_ADDRESS")
        wanted = [lake.mine(strategy, 30, UNLABELLED, **more) for strategy, more in told]
        monkeypatch.setenv("KATIML_RAY_ADDRESS", cluster.address)
        for (strategy, more), local in zip(told, wanted, strict=True):
            miner = lake.miners.create(strategy, 30, UNLABELLED, **more)
            killed: list[bool] = []

            def kill(task: Task, killed: list[bool] = killed) -> None:
                if task.progress and not killed and task.progress < 1:
                    killed.append(True)
                    cluster.kill()

            picked = miner.run(on_progress=kill if strategy == "CORESET" else None).picked
            assert picked.ids == local.ids
            assert np.array_equal(picked.scores, local.scores)
            assert picked.explanation["executor"] == "ray"
        assert killed


def test_no_cluster_answers(tmp_path: Path) -> None:
    """In a process of its own: this one has joined a cluster."""
    script = """
    import katiml
    with katiml.connect(sys.argv[1]) as lake:
        lake.ingest([{"type": "TEXT", "text": "one"}])
        try:
            lake.mine("RANDOM", 1)
        except katiml.KatiMLError as error:
            say(error.code, error.message, error.hint)
    """
    address = "127.0.0.1:1"
    with Script(script, tmp_path / "lake", KATIML_RAY_ADDRESS=address) as process:
        said = process.line()
    assert said.startswith("cluster_unreachable no Ray cluster answers at KATIML_RAY_ADDRESS")
    assert "ray start" in said
