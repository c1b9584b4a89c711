"""Locks on files beside the data, which die with their holder: one run of a kind at a time, one writer of copies."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ingest.errors import DiskError, LockedError
from ingest.store.directories import disk_error
from ingest.store.regular import open_regular
from ingest.system.private_dirs import make_directories

_UNWRITTEN = -1
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""As NFS without its lock service answers, SMB with ``nobrl``, and some file systems in user space."""


@contextmanager
def file_lock(path: Path, command: str) -> Iterator[None]:
    """Holds ``flock`` on `path` (created if need be).

    Raises:
        LockedError: another process holds it; the message says which. DiskError: the file cannot be made.
        UnsafePath: something else stands in its place.
    """
    descriptor = _open(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"another run holds {path.name}: {_holder(descriptor)}") from error
        except OSError as error:
            raise _lock_error(error, path) from error
        holder = {"pid": os.getpid(), "command": command, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        with suppress(OSError):  # a lock is one also where the disk is too full for a name: cleanup needs it then
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@dataclass
class CopiesLock:
    """Held from the moment files move until their rows say so, by one holder at a time. It counts its holders.

    Where the disk is too full for the count the file is empty, and everybody takes it that somebody else was there.

    Raises:
        DiskError: the file cannot be made. UnsafePath: something else stands in its place.
    """

    path: Path
    shared: bool = False
    """Whether somebody else has held it since this was made: what was read of the catalog before may be out of date."""
    _seen: int = 0

    def __post_init__(self) -> None:
        self._descriptor = _open(self.path)
        if self.take():
            self.shared = False
            self.give_back()
        else:
            self.shared = True

    def take(self) -> bool:
        """Whether it is ours now; never waits. Raises `DiskError`."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise _lock_error(error, self.path) from error
        holders, _ = self._written()
        self.shared = self.shared or holders != self._seen
        self._seen = self._count(holders + 1)
        return True

    def holder(self) -> int:
        """The process that held it last."""
        return self._written()[1]

    def give_back(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._descriptor)

    def _count(self, holders: int) -> int:
        """What the file says afterwards, or a number that it never says."""
        try:
            os.pwrite(self._descriptor, b"%20d %20d\n" % (holders, os.getpid()), 0)
        except OSError:
            try:
                os.ftruncate(self._descriptor, 0)
            except OSError as error:
                raise disk_error(error, str(self.path)) from error
            return _UNWRITTEN
        return holders

    def _written(self) -> tuple[int, int]:
        try:
            holders, pid = os.pread(self._descriptor, 64, 0).split()
            return int(holders), int(pid)
        except ValueError:
            return 0, 0  # new, or not ours


def _lock_error(error: OSError, path: Path) -> DiskError:
    found = disk_error(error, str(path))
    if error.errno in _NO_LOCKS:
        found.hint = "The file system passes on no flock, which runs need to know of one another: mount it with locks."
    return found


def _open(path: Path) -> int:
    try:
        make_directories(path.parent)
        return open_regular(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise disk_error(error, str(path)) from error


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"`ingest {holder['command']}`, pid {holder['pid']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "its holder is just starting"
