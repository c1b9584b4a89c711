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


def own_identity() -> str | None:
    """What tells this process from every other one, whatever any clock says: the boot, the name space of its process
    ids, and when it started since that boot. None where the system does not say."""
    place, started = _place(), _started_ticks(os.getpid())
    return None if place is None or started is None else f"{place}/{started}"


def is_running(pid: int, identity: str) -> bool | None:
    """Whether the process `pid` of that identity runs. None: it is none of this boot and name space, and not seen."""
    place, _, started = identity.rpartition("/")
    if place != _place():
        return None
    ticks = _started_ticks(pid)
    if ticks is None:  # gone, or another user's that is hidden from us
        return None if is_alive(pid) else False
    return str(ticks) == started


def _place() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> float | None:
    """Seconds since the epoch; None where the system does not say."""
    ticks = _started_ticks(pid)
    if ticks is None:
        return None
    seconds_after_boot = ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - seconds_after_boot)


def _started_ticks(pid: int) -> int | None:
    """In ticks since the boot."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None  # what is mounted there counts processes in another way
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[_STARTED])
    except (OSError, ValueError, IndexError):
        return None
