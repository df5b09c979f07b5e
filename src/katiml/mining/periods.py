"""ISO 8601 durations, after which a miner runs again."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from katiml.errors import InvalidInput

__all__ = ["Period", "parse_period"]

_DURATION = re.compile(
    r"P(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?\Z"
)
_SHORTEST = timedelta(minutes=1)
_LONGEST_YEARS = 100
_HINT = "an ISO 8601 duration of a minute or more, such as PT30M, PT12H, P1D, P1W or P1M"


@dataclass(frozen=True)
class Period:
    """How long to wait: months of the calendar, then a length of time."""

    months: int
    rest: timedelta

    def after(self, moment: datetime) -> datetime:
        """The moment one period later; the 31st becomes the last day of a shorter month.

        >>> parse_period("P1M").after(datetime(2024, 1, 31)).isoformat()
        '2024-02-29T00:00:00'
        """
        if self.months:
            years, month = divmod(moment.month - 1 + self.months, 12)
            year = moment.year + years
            day = min(moment.day, calendar.monthrange(year, month + 1)[1])
            moment = moment.replace(year=year, month=month + 1, day=day)
        return moment + self.rest

    def next(self, due: datetime, now: datetime) -> datetime:
        """The first moment after `now` that is a whole number of periods after `due`.

        What was missed meanwhile is not made up for.

        >>> parse_period("PT1H").next(datetime(2024, 1, 1, 8), datetime(2024, 1, 1, 10, 30)).hour
        11
        """
        if not self.months and due <= now:
            due += self.rest * ((now - due) // self.rest)
        while due <= now:
            due = self.after(due)
        return due


def parse_period(text: str) -> Period:
    """Read a duration; raises InvalidInput.

    >>> parse_period("P1DT12H")
    Period(months=0, rest=datetime.timedelta(days=1, seconds=43200))
    """
    found = _DURATION.match(text.strip()) if isinstance(text, str) and len(text) < 100 else None
    if found is None:
        raise InvalidInput(f"evaluation_period is {text!r:.100}", hint=_HINT)
    number = {name: int(value or 0) for name, value in found.groupdict().items()}
    months = 12 * number.pop("years") + number.pop("months")
    try:
        rest = timedelta(**number)
    except OverflowError:
        rest = timedelta.max
    if months > 12 * _LONGEST_YEARS or rest > timedelta(days=366 * _LONGEST_YEARS):
        raise InvalidInput(f"evaluation_period is {text!r:.100}, over a century", hint=_HINT)
    if not months and rest < _SHORTEST:
        raise InvalidInput(f"evaluation_period is {text!r:.100}, under a minute", hint=_HINT)
    return Period(months, rest)
