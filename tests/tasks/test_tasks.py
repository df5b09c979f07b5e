"""Tasks: states, progress, cancel, retry, logs, limits; and what a process that dies leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import katiml
from katiml.errors import Conflict, InvalidInput, LakeBusy, NotFound, TooLarge
from katiml.tasks import Done, Run, Stopped, Task, pool, register
from katiml.tasks import state as states
from katiml.tasks.limits import bytes_of
from katiml.tasks.state import State
from tests.store.processes import Script


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(pool, "_BEAT_SECONDS", 0.05)


class Gate:
    """A body that waits to be let through, and counts who is inside."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, run: Run) -> Done:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        try:
            while not self.open.wait(0.005):
                run.check()
            return Done({"through": True})
        finally:
            with self._lock:
                self.inside -= 1


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    register("gate", made)
    yield made
    made.open.set()


def entered(gate: Gate, count: int = 1) -> None:
    for _ in range(count):
        assert gate.entered.acquire(timeout=30)


def logged(task: Task) -> list[tuple[str, str]]:
    return list(task.logs[["level", "message"]].itertuples(index=False, name=None))


def test_success(lake: katiml.Lake) -> None:
    def double(run: Run) -> Done:
        run.log("began")
        run.progress(0.5, "half")
        return Done({"doubled": [2 * number for number in run.arguments["numbers"]]})

    register("double", double)
    task = lake.tasks.submit("double", {"numbers": [1, 2]}, subject=None)
    assert task.wait(30).check() is task
    assert (task.status, task.result, task.error, task.progress) == (
        "SUCCESS",
        {"doubled": [2, 4]},
        None,
        1.0,
    )
    assert logged(task) == [("INFO", "began")]
    again = lake.tasks.get(task.id)
    assert again.to_dict() == task.to_dict()
    assert again.duration > 0
    assert lake.tasks.list(kind="double", status="SUCCESS")[0].id == task.id


def test_progress_is_seen_while_it_runs__here_and_through_the_lake(lake: katiml.Lake) -> None:
    reached, go = threading.Event(), threading.Event()

    def slow(run: Run) -> Done:
        run.progress(0.25, "a quarter")
        reached.set()
        go.wait(30)
        return Done({})

    register("slow", slow)
    task = lake.tasks.submit("slow")
    try:
        assert reached.wait(30)
        assert (task.status, task.progress, task.to_dict()["message"]) == (
            "STARTED",
            0.25,
            "a quarter",
        )
        deadline = time.monotonic() + 30
        while states.read_state(lake.scope, task.id).progress != 0.25:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(TimeoutError):
            task.wait(0.01)
    finally:
        go.set()
    seen: list[Any] = []
    task.wait(30, on_progress=lambda task: seen.append(task.progress))
    assert seen[-1] == 1.0


def test_failure_says_why__and_frees_what_it_held(lake: katiml.Lake) -> None:
    def wrong(run: Run) -> Done:
        raise InvalidInput("size is -1", hint="1 or more")

    def broken(run: Run) -> Done:
        raise ZeroDivisionError("division by zero")

    register("wrong", wrong)
    register("broken", broken)
    task = lake.tasks.submit("wrong").wait(30)
    assert task.status == "FAILURE"
    assert task.error == {"message": "size is -1", "code": "invalid_input", "hint": "1 or more"}
    assert ("ERROR", "attempt 1 failed: size is -1 (1 or more)") in logged(task)
    with pytest.raises(InvalidInput, match="size is -1"):
        task.check()
    task = lake.tasks.submit("broken").wait(30)
    assert task.error is not None and "ZeroDivisionError" in task.error["message"]
    assert pool.has_room()


def test_passing_errors_are_tried_again(lake: katiml.Lake) -> None:
    attempts = []

    def busy(run: Run) -> Done:
        attempts.append(run.state.attempt)
        if len(attempts) < 3:
            raise LakeBusy("others write")
        return Done({})

    register("busy", busy)
    task = lake.tasks.submit("busy").wait(30)
    assert task.status == "SUCCESS"
    assert attempts == [1, 2, 3]
    assert [level for level, _ in logged(task)] == ["ERROR", "INFO", "ERROR", "INFO"]


def test_passing_errors_that_do_not_pass_are_a_failure(lake: katiml.Lake) -> None:
    def busy(run: Run) -> Done:
        raise ConnectionResetError("gone")

    register("busy", busy)
    task = lake.tasks.submit("busy").wait(30)
    assert task.status == "FAILURE"
    assert task.to_dict()["attempt"] == pool.MAX_ATTEMPTS


def test_cancel_while_it_runs(lake: katiml.Lake, gate: Gate) -> None:
    task = lake.tasks.submit("gate")
    entered(gate)
    task.cancel("not wanted")
    assert task.wait(30).status == "REVOKED"
    assert task.error is not None and task.error["message"] == "not wanted"
    with pytest.raises(Conflict, match="not wanted"):
        task.check()
    lake.tasks.submit("gate").cancel()
    gate.open.set()
    assert lake.tasks.submit("gate").wait(30).status == "SUCCESS"
    assert task.cancel().status == "REVOKED"


def test_cancel_through_the_lake_alone__as_another_process_does(
    lake: katiml.Lake, gate: Gate
) -> None:
    task = lake.tasks.submit("gate")
    entered(gate)
    job = pool.job_of(task.id)
    assert job is not None
    lake.scope.transact(lambda transaction: states.revoke(transaction, task.id, "elsewhere"))
    assert job.ended.wait(30)
    assert gate.inside == 0
    assert task.status == "REVOKED"


def test_a_stopped_attempt_writes_nothing(lake: katiml.Lake) -> None:
    """Neither through the fence, nor together with its success."""
    began, go, seen = threading.Event(), threading.Event(), []

    def late(run: Run) -> Done:
        began.set()
        go.wait(30)
        try:
            run._why = None  # as if the news had not come yet
            run.transact(lambda transaction: seen.append("fenced"))
        except Stopped:
            seen.append("stopped")
        run._why = None
        return Done({}, lambda transaction: seen.append("with success"))

    register("late", late)
    task = lake.tasks.submit("late")
    assert began.wait(30)
    job = pool.job_of(task.id)
    assert job is not None
    lake.scope.transact(lambda transaction: states.revoke(transaction, task.id, "no"))
    go.set()
    assert job.ended.wait(30)
    assert seen == ["stopped"]
    assert task.status == "REVOKED"


def test_what_a_body_writes_with_success_is_written_with_it_or_not_at_all(
    lake: katiml.Lake,
) -> None:
    def fails_at_the_end(run: Run) -> Done:
        def write(transaction: Any) -> None:
            states.append_logs(
                transaction,
                run.state.id,
                [states.LogLine(run.state.created_at, "INFO", "half written")],
            )
            raise InvalidInput("no")

        return Done({}, write)

    register("end", fails_at_the_end)
    task = lake.tasks.submit("end").wait(30)
    assert task.status == "FAILURE"
    assert "half written" not in [message for _, message in logged(task)]


def test_at_most_so_many_at_once(
    lake: katiml.Lake, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATIML_TASK_WORKERS", "2")
    tasks = [lake.tasks.submit("gate") for _ in range(5)]
    entered(gate, 2)
    assert sorted(task.status for task in tasks).count("PENDING") == 3
    assert not pool.has_room()
    tasks[-1].cancel()
    gate.open.set()
    assert [task.wait(30).status for task in tasks] == ["SUCCESS"] * 4 + ["REVOKED"]
    assert gate.most == 2


def test_at_most_so_much_memory_at_once(
    lake: katiml.Lake, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KATIML_TASK_WORKERS", "4")
    monkeypatch.setenv("KATIML_TASK_MEMORY", "1GB")
    large = [lake.tasks.submit("gate", memory=600_000_000) for _ in range(2)]
    small = lake.tasks.submit("gate", memory=300_000_000)
    entered(gate, 2)
    assert [task.status for task in large] == ["STARTED", "PENDING"]
    assert small.status == "STARTED"
    gate.open.set()
    assert [task.wait(30).status for task in [*large, small]] == ["SUCCESS"] * 3
    with pytest.raises(TooLarge, match="about 2 GB of memory, more than the 1 GB"):
        lake.tasks.submit("gate", memory=2_000_000_000)


@pytest.mark.parametrize(
    ("name", "value"), [("KATIML_TASK_WORKERS", "many"), ("KATIML_TASK_MEMORY", "much")]
)
def test_wrong_limits(
    name: str, value: str, lake: katiml.Lake, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=name):
        lake.tasks.submit("gate")


def test_amounts_of_memory() -> None:
    assert [bytes_of(text) for text in ("12", "1kB", "2 MiB", "0.5gb")] == [
        12,
        1000,
        2 << 20,
        500_000_000,
    ]
    for wrong in ("", "GB", "-1GB", "1XB"):
        with pytest.raises(ValueError, match=wrong or "^$"):
            bytes_of(wrong)


def test_unknown_kinds_ids_and_statuses(lake: katiml.Lake) -> None:
    with pytest.raises(InvalidInput, match="'dance'"):
        lake.tasks.submit("dance")
    for wrong in ("", "x", "0190c1f2-0000-7000-8000-000000000000", "a\0b"):
        with pytest.raises((NotFound, InvalidInput)):
            lake.tasks.get(wrong)
    with pytest.raises(InvalidInput, match="RUNNING"):
        lake.tasks.list(status="RUNNING")


def test_another_organization_sees_nothing(lake: katiml.Lake, gate: Gate) -> None:
    task = lake.tasks.submit("gate")
    other = lake.for_organization("other")
    with pytest.raises(NotFound):
        other.tasks.get(task.id)
    assert other.tasks.list() == []
    other.scope.transact(lambda transaction: states.revoke(transaction, task.id, "mine now"))
    gate.open.set()
    assert task.wait(30).status == "SUCCESS"


def test_two_claims_of_one_task__one_is_given(lake: katiml.Lake) -> None:
    state = State("gate", worker="elsewhere:1")
    lake.scope.transact(lambda transaction: states.insert(transaction, state))
    given: list[State | None] = []

    def claim() -> None:
        given.append(lake.scope.transact(lambda transaction: states.claim(transaction, state)))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found is None for found in given) == [False, True, True, True]


def started_by(lake: katiml.Lake, worker: str, seconds_ago: int, attempt: int = 1) -> Task:
    """A task that another process says it is running."""
    state = State("gate", status="STARTED", worker=worker, attempt=attempt)
    lake.scope.transact(lambda transaction: states.insert(transaction, state))
    lake.scope.transact(
        lambda transaction: transaction.update(
            "tasks",
            "updated_at = now() - to_seconds($ago)",
            "id = $id::UUID",
            {"ago": seconds_ago, "id": state.id},
        )
    )
    return lake.tasks.get(state.id)


def test_silent_workers_lose_their_tasks__others_keep_them(lake: katiml.Lake, gate: Gate) -> None:
    gate.open.set()
    silent = started_by(lake, "another-host:1", 1_000)
    alive = started_by(lake, "another-host:2", 10)
    assert lake.tasks.resume() == 1
    assert silent.wait(30).to_dict()["attempt"] == 2
    assert silent.status == "SUCCESS"
    assert alive.status == "STARTED"
    alive.cancel()


def test_a_task_that_ends_every_process_is_given_up(lake: katiml.Lake, gate: Gate) -> None:
    task = started_by(lake, "another-host:1", 1_000, attempt=pool.MAX_ATTEMPTS)
    assert lake.tasks.resume() == 1
    assert task.wait(30).status == "FAILURE"
    assert task.error is not None and "ended early" in task.error["message"]
    assert gate.inside == 0


def test_a_task_of_a_kind_that_is_not_known_here_waits_for_a_process_that_knows_it(
    lake: katiml.Lake,
) -> None:
    state = State("of a newer version", worker="another-host:1")
    lake.scope.transact(lambda transaction: states.insert(transaction, state))
    assert lake.tasks.resume() == 0
    lake.tasks.get(state.id).cancel()


KILLED = """
import threading
import katiml
from katiml.tasks import Done, register

def body(run):
    run.log("begun elsewhere")
    run.progress(0.5, "half")
    run.beat()
    say("running")
    threading.Event().wait()

register("gate", body)
lake = katiml.connect(sys.argv[1])
tasks = [lake.tasks.submit("gate") for _ in range(3)]
say(*[task.id for task in tasks])
threading.Event().wait()
"""


def test_a_killed_process__its_tasks_go_on_in_another(lake_url: str, gate: Gate) -> None:
    gate.open.set()
    with Script(KILLED, lake_url, KATIML_TASK_WORKERS="1") as process:
        said = sorted([process.line(), process.line()], key=len)
        assert said[0] == "running"
        ids = said[1].split()
        with katiml.connect(lake_url) as lake:
            tasks = [lake.tasks.get(id) for id in ids]
            assert [task.status for task in tasks] == ["STARTED", "PENDING", "PENDING"]
            assert lake.tasks.resume() == 0
            process.process.kill()
            process.process.wait()
            assert tasks[0].wait(60).status == "SUCCESS"
            assert ("INFO", "begun elsewhere") in logged(tasks[0])
            assert tasks[0].to_dict()["attempt"] == 2
            assert lake.tasks.resume() == 2
            assert [task.wait(60).status for task in tasks] == ["SUCCESS"] * 3


def test_a_script_that_ends_finishes_its_tasks_first(tmp_path: Any) -> None:
    script = """
    import katiml
    from katiml.tasks import Done, register

    def body(run):
        time.sleep(0.3)
        return Done({"done": True})

    register("gate", body)
    lake = katiml.connect(sys.argv[1])
    say(lake.tasks.submit("gate").id)
    """
    with Script(script, tmp_path / "lake") as process:
        task_id = process.line()
        process.finish()
    with katiml.connect(tmp_path / "lake") as lake:
        assert lake.tasks.get(task_id).status == "SUCCESS"


def test_released_tasks_go_to_whoever_comes_next(lake: katiml.Lake, gate: Gate) -> None:
    running, waiting, last = (lake.tasks.submit("gate") for _ in range(3))
    entered(gate, 2)
    pool.release_tasks(lake.scope.store)
    for task in (running, waiting, last):
        state = task.refresh()
        assert (state.status, state.worker, state.attempt) == ("PENDING", None, 0)
    gate.open.set()
    assert lake.tasks.resume() == 3
    assert [task.wait(30).status for task in (running, waiting, last)] == ["SUCCESS"] * 3


def test_logs_are_bounded(lake: katiml.Lake) -> None:
    def talkative(run: Run) -> Done:
        for number in range(3_000):
            run.log(f"line {number}" + "x" * 10_000)
        return Done({})

    register("talkative", talkative)
    logs = lake.tasks.submit("talkative").wait(60).logs
    assert len(logs) == 1_000
    assert logs["message"].str.len().max() == 2_000
