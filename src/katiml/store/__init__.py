"""Where a lake lives: a DuckDB file in a folder, or DuckLake on PostgreSQL and an object store.

Everything above uses `Scope`, one organization's view; `open_store(url)` opens a lake.
"""

from katiml.store.objects import Objects
from katiml.store.scope import Scope, ScopedTransaction
from katiml.store.store import Store, Transaction, open_store
from katiml.store.views import Moment, View

__all__ = [
    "Moment",
    "Objects",
    "Scope",
    "ScopedTransaction",
    "Store",
    "Transaction",
    "View",
    "open_store",
]
