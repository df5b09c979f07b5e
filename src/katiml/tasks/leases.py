"""Whose work something is, and whether that process is gone: for uploads and tasks alike.

Who works on a row of the lake writes its name there and lets the row's `updated_at` beat. Another
process takes the row over when that process is dead, or its heart was silent for too long.
"""

from __future__ import annotations

import os
import socket

from katiml.store.scope import Scope

__all__ = ["HEARTBEAT_SECONDS", "SILENT_SECONDS", "is_abandoned", "is_own", "worker_name"]

HEARTBEAT_SECONDS = 15.0
# Another machine's work is taken over when it has been silent for this long.
SILENT_SECONDS = 120.0


def worker_name() -> str:
    """This process, as other processes can recognise it.

    >>> is_own(worker_name()), is_own("elsewhere:1"), is_own(None)
    (True, False, False)
    """
    return f"{socket.gethostname()}:{os.getpid()}"


def is_own(worker: str | None) -> bool:
    """Whether the name is this process's."""
    return worker == worker_name()


def is_abandoned(scope: Scope, table: str, row_id: str, worker: str | None) -> bool:
    """Whether the process of that name, at work on a row of `table`, is gone.

    This process's own name never is.
    """
    host, _, process = (worker or ":0").rpartition(":")
    if host == socket.gethostname():
        if int(process) == os.getpid():
            return False
        if not _is_alive(int(process)):
            return True
    # The same number may by now be another process: only a worker's heart beats.
    silent = scope.query(
        f"SELECT date_diff('second', updated_at, now()) AS seconds FROM {{{table}}} "
        "WHERE id = $id::UUID",
        {"id": row_id},
    ).to_pylist()
    return bool(silent) and silent[0]["seconds"] > SILENT_SECONDS


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
