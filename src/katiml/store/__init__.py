"""Where a lake lives: a DuckDB file in a folder, or DuckLake on PostgreSQL and an object store.

Everything above uses `Scope`, one organization's view; `open_store(url)` opens a lake.
"""

from katiml.store.objects import Objects
from katiml.store.scope import Scope, ScopedTransaction
from katiml.store.store import Store, Transaction, open_store

__all__ = ["Objects", "Scope", "ScopedTransaction", "Store", "Transaction", "open_store"]
