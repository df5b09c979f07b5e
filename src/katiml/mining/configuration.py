"""What a miner is told, as the names that HTTP, SDK, command line and lake share."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from katiml.errors import InvalidInput
from katiml.miners.mine import Request
from katiml.miners.registry import get_strategy, strategy_class
from katiml.miners.strategy import checked_size
from katiml.mining.members import MEMBERS, Members
from katiml.mining.periods import parse_period
from katiml.tasks.state import as_plain
from katiml.vectors.select import Select

__all__ = ["Configuration", "select_of"]

_FIELDS = ("embeddings", "grad_embeddings", "logits")
_SELECT = ("filters", "limit", "order_by", "desc")
_MAX_TEXT = 1_000
_MAX_SEED = 2**63 - 1
_PLAIN = ("model_name", "embeddings_field", "seed", "device", "skip_caching")
_NAMES = (
    "display_name",
    "strategy",
    "size",
    "select",
    "select_reference",
    "evaluation_period",
    *_PLAIN,
)


@dataclass(frozen=True)
class Configuration:
    """A request, the name a person gave it, and how often it is to be repeated.

    >>> told = {"strategy": "RANDOM", "size": 3, "select": {"filters": []}, "seed": 7}
    >>> configuration = Configuration.of(told)
    >>> configuration.display_name, configuration.request.seed
    ('RANDOM 3', 7)
    """

    request: Request
    display_name: str
    evaluation_period: str | None = None
    # The datasets whose members `select` and `select_reference` are about.
    members: Members = Members()  # noqa: RUF009 - frozen
    reference_members: Members = Members()  # noqa: RUF009

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Configuration:
        """Read and check it; raises InvalidInput and InvalidFilter, saying what would be right.

        Names besides the common ones (`strategy`, `size`, `select` …) are parameters of the
        strategy.
        """
        told = as_plain(told)
        strategy = strategy_class(told.get("strategy", ""))
        settings = {name: value for name, value in told.items() if name not in _NAMES}
        _refuse_unknown(strategy.name, settings, [own.name for own in strategy.parameters])
        chosen = get_strategy(strategy.name, **settings)
        reference = select_of(told.get("select_reference"), "select_reference")
        members = Members.of(told.get("select"), "select")
        reference_members = Members.of(told.get("select_reference"), "select_reference")
        if reference == Select() and reference_members == Members():
            # Clients send empty filters where they have no reference: everything is none.
            reference = None
        if reference is None and "reference" in strategy.needs:
            raise InvalidInput(
                f"{strategy.name} needs a reference to compare with",
                hint="give select_reference (in the library reference_filters): which datapoints"
                " are labelled already, or are to be looked like",
            )
        request = Request(
            strategy.name,
            checked_size(told.get("size")),
            select=select_of(told.get("select"), "select") or Select(),
            reference=reference,
            model_name=_model_name(told.get("model_name")),
            embeddings_field=_one_of(
                "embeddings_field", told.get("embeddings_field"), _FIELDS, _FIELDS[0]
            ),
            settings=chosen.settings,
            seed=_seed(told.get("seed")),
            device=_text("device", told.get("device")) or "cpu",
            skip_caching=_flag("skip_caching", told.get("skip_caching")),
        )
        period = _text("evaluation_period", told.get("evaluation_period"))
        if period is not None:
            parse_period(period)
        name = _text("display_name", told.get("display_name"))
        shown = name or f"{strategy.name} {request.size}"
        return cls(request, shown, period, members, reference_members)

    def told(self) -> dict[str, Any]:
        """All of it under the common names, as plain JSON."""
        request = self.request
        return {
            "display_name": self.display_name,
            "strategy": request.strategy,
            "size": request.size,
            **{name: getattr(request, name) for name in _PLAIN},
            "select": {**_select(request.select), **self.members.told()},
            "select_reference": (
                None
                if request.reference is None
                else {**_select(request.reference), **self.reference_members.told()}
            ),
            "evaluation_period": self.evaluation_period,
            **request.settings,
        }

    @classmethod
    def edited(cls, before: Mapping[str, Any], told: Mapping[str, Any]) -> Configuration:
        """What was told before, with other values; what is not named stays, inside `select` too.
        Null is the default.

        With another strategy, the parameters of the one before are forgotten.
        """
        after = dict(before)
        if told.get("strategy", before["strategy"]) != before["strategy"]:
            after = {name: value for name, value in before.items() if name in _NAMES}
            if before["display_name"] == f"{before['strategy']} {before['size']}":
                del after["display_name"]
        for name, value in told.items():
            merged = name in ("select", "select_reference") and isinstance(value, Mapping)
            after[name] = {**(before[name] or {}), **value} if merged else value
        return cls.of(after)


def select_of(told: Any, name: str = "select") -> Select | None:
    """A selection as `{filters, limit, order_by, desc}`; raises InvalidFilter and InvalidInput.

    What it says of datasets is left to `Members`.
    """
    if told is None:
        return None
    if not isinstance(told, Mapping):
        raise InvalidInput(f"{name} is {told!r:.100}", hint=f"an object of {', '.join(_SELECT)}")
    for unknown in told.keys() - {*_SELECT, *MEMBERS}:
        its = ", ".join([*_SELECT, *MEMBERS])
        raise InvalidInput(f"{name} has no {unknown!r:.100}", hint=f"it has {its}")
    given = {key: told[key] for key in _SELECT if told.get(key) not in (None, [])}
    select = Select(**given)
    select.chosen()
    return select


def _select(select: Select) -> dict[str, Any]:
    told = {name: getattr(select, name) for name in _SELECT}
    return {"filters": [], **{name: value for name, value in told.items() if value is not None}}


def _refuse_unknown(strategy: str, settings: Mapping[str, Any], known: list[str]) -> None:
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, [*_NAMES, *known], n=1)
            its = ", ".join(known) or "none"
            raise InvalidInput(
                f"{name!r:.100} is unknown to a miner of the strategy {strategy}",
                hint=(f"did you mean {near[0]}? " if near else "")
                + f"parameters of {strategy}: {its}; common to all: {', '.join(_NAMES)}",
            )


def _text(name: str, value: Any) -> str | None:
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
        raise InvalidInput(
            f"{name} is {value!r:.100}", hint=f"a text of at most {_MAX_TEXT} characters"
        )
    return value


def _one_of(name: str, value: Any, known: tuple[str, ...], default: str) -> str:
    if value is None:
        return default
    if value not in known:
        raise InvalidInput(f"{name} is {value!r:.100}", hint=f"one of {', '.join(known)}")
    return str(value)


def _model_name(value: Any) -> str | list[str] | None:
    if isinstance(value, list):
        names = [_text("model_name", name) for name in value]
        return [name for name in names if name is not None]
    return _text("model_name", value)


def _seed(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SEED:
        raise InvalidInput(f"seed is {value!r:.100}", hint="a whole number, 0 or more")
    return value


def _flag(name: str, value: Any) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is {value!r:.100}", hint="true or false")
    return value
