"""Whether a process of this machine still runs. Of those in other containers nothing is known, and ids come again."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STARTED = 19
"""Which field of ``/proc/<pid>/stat``, behind the name, has the start: proc(5) counts it as number 22."""


def is_alive(pid: int, *, since: float | None = None) -> bool:
    """Whether there is a process `pid`; with `since`, in seconds since the epoch, whether it ran at that time already.

    True also for a process of another user, which may not be signalled.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    started = None if since is None else _started(pid)
    return started is None or since is None or started <= since


def _started(pid: int) -> float | None:
    """Seconds since the epoch; None where the system does not say."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None  # what is mounted there counts processes in another way
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        seconds_after_boot = int(fields[_STARTED]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - seconds_after_boot)
