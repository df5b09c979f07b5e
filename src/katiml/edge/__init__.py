"""Mining on a device, over a stream, before anything is uploaded. NumPy is all it needs.

`Miner` chooses: it takes records as the lake does and says of each whether it is kept. `load` reads
one with thresholds and a reference from a lake, as `katiml edge export` wrote it. `Spool` keeps
records on the disk until they are uploaded.
"""

from __future__ import annotations

from katiml.edge.miner import STRATEGIES, Miner, load
from katiml.edge.send import Sent, Uploaded
from katiml.edge.spool import Spool

__all__ = ["STRATEGIES", "Miner", "Sent", "Spool", "Uploaded", "load"]
