"""Runs one command and says what it took: ``python -I -S benchmarks/measure.py SECONDS OUTPUT COMMAND…``.

A process of its own and a small one, since Linux counts the memory of whoever forks as the child's own peak. Peak
memory is that of the command and all its descendants together: sampled twenty times a second, and at least what the
kernel says of the largest.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable

_SAMPLE_SECONDS = 0.05
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MEBIBYTE = 1 << 20


def measured(seconds: float, output: str, command: list[str]) -> dict[str, float]:
    """Runs `command` with its output in the files `output`.out and `output`.err; kills it after so many seconds."""
    started = time.monotonic()
    owner = os.getppid()
    pid = os.fork()
    if pid == 0:
        _become(output, command)
    # Whoever asked may be interrupted or die: nothing is left running then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(pid, signal.SIGKILL))
    peak = _watch(pid, lambda: time.monotonic() > started + seconds or os.getppid() != owner)
    _, status, usage = os.wait4(pid, 0)
    ended = time.monotonic()
    largest = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": ended - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": max(peak, largest) / _MEBIBYTE,
    }


def _become(output: str, command: list[str]) -> None:
    """The child's part."""
    try:
        os.setsid()
        for descriptor, name in ((1, f"{output}.out"), (2, f"{output}.err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], command)
    finally:
        os._exit(127)


def _watch(pid: int, over: Callable[[], bool]) -> int:
    """Returns when the process has ended; kills it when its time is `over`.

    Returns the peak of its tree's memory in bytes, 0 where that cannot be read.
    """
    if not hasattr(os, "pidfd_open"):
        return 0
    peak = 0
    process = os.pidfd_open(pid)
    while not select.select([process], [], [], _SAMPLE_SECONDS)[0]:
        peak = max(peak, sum(map(_resident, descendants(pid))))
        if over():
            os.killpg(pid, signal.SIGKILL)
    os.close(process)
    return peak


def descendants(pid: int) -> list[int]:
    """The process, its children, and theirs."""
    found = [pid]
    for parent in found:
        try:
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as children:
                    found += map(int, children.read().split())
        except OSError:
            continue  # it has just ended
    return found


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as pages:
            return int(pages.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


if __name__ == "__main__":
    print(json.dumps(measured(float(sys.argv[1]), sys.argv[2], sys.argv[3:])))
