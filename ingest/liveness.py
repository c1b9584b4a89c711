"""Whether a process of this machine still runs: what its runs and temporary files are judged by."""

from __future__ import annotations

import os


def is_alive(pid: int) -> bool:
    """True also for a process of another user, which may not be signalled."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
