"""What a run rested on: enough to repeat it and get the same ids."""

from __future__ import annotations

import base64
import binascii
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from katiml.errors import InvalidInput
from katiml.miners.mine import Mined
from katiml.mining.configuration import Configuration
from katiml.store.scope import Scope, ScopedTransaction
from katiml.store.views import Moment, View

_TOLD = ("settings", "version")

__all__ = ["explained", "lake_state", "seen_by"]


def lake_state(reader: Scope | ScopedTransaction) -> str:
    """The changes that the lake consists of now, as text.

    >>> import katiml
    >>> lake = katiml.connect(getfixture("tmp_path"))
    >>> before = lake_state(lake.scope)
    >>> _ = lake.ingest([{"type": "TEXT", "text": "new"}])
    >>> before == lake_state(lake.scope)
    False
    """
    return base64.b64encode(Moment.read(reader).to_bytes()).decode()


def seen_by(scope: Scope, state: str) -> Scope:
    """The lake as it was in that state; raises InvalidInput for a text that is none."""
    try:
        moment = Moment.from_bytes(base64.b64decode(state, validate=True))
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidInput("lake_state is not one that KatiML wrote") from error
    return scope.at(View(moment=moment))


def explained(
    configuration: Configuration, mined: Mined, state: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    """The explanation of a run that began when the lake was in `state`."""
    told = configuration.told()
    facts = {
        name: value
        for name, value in mined.provenance.items()
        if name not in _TOLD and told.get(name) != value
    }
    return {
        "configuration": told,
        **facts,
        "lake_state": state,
        **more,
        "versions": {
            "katiml": version("katiml"),
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "duckdb": version("duckdb"),
        },
    }
