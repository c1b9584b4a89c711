"""One run of a kind at a time: a lock on a file beside the data, which dies with its holder."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ingest.errors import LockedError
from ingest.private import make_directories
from ingest.store.directories import disk_error


@contextmanager
def file_lock(path: Path, command: str) -> Iterator[None]:
    """Holds ``flock`` on `path` (created if need be).

    Raises:
        LockedError: another process holds it; the message says which. DiskError: the file cannot be made.
    """
    try:
        make_directories(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise disk_error(error, str(path)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"another run holds {path.name}: {_holder(descriptor)}") from error
        os.ftruncate(descriptor, 0)
        holder = {"pid": os.getpid(), "command": command, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"`ingest {holder['command']}`, pid {holder['pid']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "its holder is just starting"
