"""One barrier for many files: what was written is on the disk when `sync_all` returns.

On Linux one ``syncfs`` of the file system replaces an fsync of each file and directory; elsewhere each is synced.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable

_FEW = 4
"""Up to so many descriptors are synced one by one, which leaves other programs' dirty pages alone."""


def sync_all(descriptors: Iterable[int], file_system: int) -> None:
    """Makes the files and directories behind `descriptors` durable; `file_system` is any descriptor on the same one.

    Raises:
        OSError: the disk did not take it. What was written since the last barrier must be written again: the kernel
            may have dropped it, and a second fsync would wrongly succeed.
    """
    waiting = list(descriptors)
    if len(waiting) > _FEW and _syncfs is not None:
        if _syncfs(file_system) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return
    for descriptor in waiting:
        os.fsync(descriptor)


def _find_syncfs() -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None


_syncfs = _find_syncfs()
