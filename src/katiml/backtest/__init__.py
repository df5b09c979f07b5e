"""Which strategy would have saved labels: labelling rounds simulated on labelled data.

`backtest` takes arrays; `katiml.backtest.labelled.read_labelled` gets them from a lake.
"""

from __future__ import annotations

from katiml.backtest.models import MODELS
from katiml.backtest.result import Backtest
from katiml.backtest.simulate import backtest

__all__ = ["MODELS", "Backtest", "backtest"]
