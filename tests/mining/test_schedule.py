"""Miners that run by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import katiml
from katiml.errors import InvalidInput
from katiml.mining.periods import Period, parse_period
from katiml.server.run import look_for_work


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("PT5M", Period(0, timedelta(minutes=5))),
        ("PT90S", Period(0, timedelta(seconds=90))),
        ("PT12H", Period(0, timedelta(hours=12))),
        ("P7D", Period(0, timedelta(days=7))),
        ("P1W", Period(0, timedelta(weeks=1))),
        ("P1M", Period(1, timedelta(0))),
        ("P1Y2M3DT4H5M6S", Period(14, timedelta(days=3, hours=4, minutes=5, seconds=6))),
    ],
)
def test_durations(text: str, period: Period) -> None:
    assert parse_period(text) == period


@pytest.mark.parametrize(
    "text",
    "|P|PT|5M|PT5|P1.5D|PT0S|PT59S|P0D|-P1D|P1DT|P-1D|pt5m|P999999Y|PT9999999999999999H|P1D; DROP"
    f"|P{'1' * 200}D".split("|"),
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidInput, match="evaluation_period"):
        parse_period(text)


@given(
    minutes=st.integers(1, 100_000),
    months=st.integers(0, 30),
    due=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    late=st.integers(0, 10_000_000),
)
def test_the_next_time_is_a_whole_number_of_periods_later(
    minutes: int, months: int, due: datetime, late: int
) -> None:
    now = due + timedelta(seconds=late)
    period = Period(0, timedelta(minutes=minutes))
    following = period.next(due, now)
    assert now < following <= now + period.rest
    assert (following - due) % period.rest == timedelta(0)
    if months:
        by_month = Period(months, timedelta(0))
        following = by_month.next(due, now)
        assert following > now
        assert following.day <= due.day


def due(lake: katiml.Lake, miner: katiml.mining.Miner) -> None:
    """Have its time come."""
    lake.scope.transact(
        lambda transaction: transaction.update(
            "miners",
            "next_run_at = $moment",
            "id = $id::UUID",
            {"moment": datetime.now(UTC) - timedelta(hours=1), "id": miner.id},
        )
    )


def test_a_scheduled_miner_runs_when_its_time_has_come(lake: katiml.Lake) -> None:
    lake.ingest([{"type": "TEXT", "text": str(number)} for number in range(5)])
    miner = lake.miners.create("RANDOM", 2, evaluation_period="P1D")
    assert miner.next_run_at is not None
    assert timedelta(hours=23) < miner.next_run_at - datetime.now(UTC) < timedelta(hours=25)
    look_for_work(lake)
    assert miner.task is None
    due(lake, miner)
    look_for_work(lake)
    assert miner.wait(60).status == "SUCCESS"
    first = miner.task
    assert miner.next_run_at > datetime.now(UTC)
    look_for_work(lake)
    assert miner.task is first
    # Only one of several servers begins a run.
    due(lake, miner)
    assert lake.miners.run_due() == 1
    assert lake.miners.run_due() == 0
    miner.wait(60)


def test_schedules_begin_change_and_end(tmp_path: object) -> None:
    with katiml.connect(f"{tmp_path}/lake") as lake:
        lake.ingest([{"type": "TEXT", "text": "one"}])
        miner = lake.miners.create("RANDOM", 1).run()
        assert miner.next_run_at is None
        picked = miner.picked.ids
        miner.schedule("PT12H")
        soon = miner.next_run_at
        assert soon is not None
        assert miner.picked.ids == picked
        assert lake.miners.get(miner.id).evaluation_period == "PT12H"
        miner.edit(size=1)
        assert miner.next_run_at == soon
        miner.edit(evaluation_period="P1D")
        assert miner.next_run_at > soon
        with pytest.raises(InvalidInput):
            miner.schedule("now and then")
        miner.schedule(None)
        assert miner.next_run_at is None
        due(lake, miner)
        assert lake.miners.run_due() == 0


def test_a_run_that_fails_does_not_end_the_schedule(tmp_path: object) -> None:
    with katiml.connect(f"{tmp_path}/lake") as lake:
        miner = lake.miners.create("RANDOM", 1, evaluation_period="PT1H")
        due(lake, miner)
        assert lake.miners.run_due() == 1
        with pytest.raises(InvalidInput):
            miner.wait(60)
        assert miner.status == "FAILURE"
        assert miner.next_run_at > datetime.now(UTC)
