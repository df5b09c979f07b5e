"""How much this process may do at once: `KATIML_TASK_WORKERS`, `KATIML_TASK_MEMORY`."""

from __future__ import annotations

import os
import re

from katiml.errors import InvalidInput, TooLarge
from katiml.store.engine import default_memory_limit

__all__ = ["bytes_of", "check_memory", "memory_limit", "shown_bytes", "workers"]

_WORKERS = 2
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*\Z", re.IGNORECASE)


def workers() -> int:
    """How many tasks run at once; raises InvalidInput for a wrong `KATIML_TASK_WORKERS`."""
    text = os.environ.get("KATIML_TASK_WORKERS", "").strip() or str(_WORKERS)
    if not text.isdecimal() or not 1 <= int(text) <= 1_000:
        raise InvalidInput(f"KATIML_TASK_WORKERS is {text!r}", hint="it is a number from 1 to 1000")
    return int(text)


def memory_limit() -> int:
    """How many bytes the tasks of this process may take together, by default half of the machine's.

    Raises InvalidInput for a wrong `KATIML_TASK_MEMORY`.
    """
    text = os.environ.get("KATIML_TASK_MEMORY", "").strip()
    try:
        return bytes_of(text or default_memory_limit())
    except ValueError:
        raise InvalidInput(
            f"KATIML_TASK_MEMORY={text!r} is not an amount of memory",
            hint="write it like 4GB or 800MB",
        ) from None


def check_memory(needed: int, what: str) -> None:
    """Raises TooLarge where `what` could never run here."""
    limit = memory_limit()
    if needed > limit:
        raise TooLarge(
            f"{what} takes about {shown_bytes(needed)} of memory, more than the "
            f"{shown_bytes(limit)} that tasks may take here",
            hint="select fewer datapoints (limit, filters), or raise KATIML_TASK_MEMORY",
        )


def bytes_of(text: str) -> int:
    """An amount of memory as people write it, in bytes; raises ValueError.

    >>> bytes_of("4GB"), bytes_of("1.5 MiB")
    (4000000000, 1572864)
    """
    found = _AMOUNT.match(text)
    if found is None:
        raise ValueError(text)
    number, unit, binary = found.groups()
    power = " KMGT".index(unit.upper() or " ")
    return int(float(number) * (1024 if binary else 1000) ** power)


def shown_bytes(number: float) -> str:
    """Bytes as people read them.

    >>> shown_bytes(512), shown_bytes(2_500_000)
    ('512 bytes', '2.5 MB')
    """
    if number < 1000:
        return f"{int(number)} bytes"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 1000:
            return f"{number:.3g} {unit}"
    return f"{number / 1000:,.3g} TB"
