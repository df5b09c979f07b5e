"""Miners on a lake: kept, run in the background or at once, scheduled, explained."""

from __future__ import annotations

from katiml.miners.estimate import Estimate
from katiml.mining.miner import Miner
from katiml.mining.miners import Miners, mine
from katiml.mining.picked import Picked

__all__ = ["Estimate", "Miner", "Miners", "Picked", "mine"]
