"""Whether copies still are what the catalog says, byte for byte. Only reads, and follows no symlink.

Everything here blocks and belongs in a worker thread.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from ingest.errors import UnsafePath
from ingest.store.directories import Directories, TakenByFile
from ingest.store.names import on_disk
from ingest.store.paths import is_place

_CHUNK = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a named pipe must not hold the thread for ever
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}


class Expected(NamedTuple):
    """One copy as its row describes it. `digest` is ``md5:<hex>`` or ``sha256:<hex>``; None checks the size alone."""

    local_path: str
    size: int
    digest: str | None


class Verdict(StrEnum):
    INTACT = "intact"
    MISSING = "missing"
    DAMAGED = "damaged"
    """Its size or its bytes differ."""
    UNSAFE = "unsafe"
    """A symlink stands at its place or on the way there: not followed, and not replaced either. Or it is recorded at no
    place of a copy (`store.paths.is_place`), where nobody looks."""
    UNREADABLE = "unreadable"
    """It is there, and cannot be read: nothing is known of its bytes."""
    STOPPED = "stopped"
    """Not looked at to the end: the run was asked to stop."""


class Finding(NamedTuple):
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True)
class Inspector:
    """Compares copies below ``<data_dir>/<directory>`` with their rows; `stopped` is asked between chunks."""

    data_dir: Path
    directory: str
    stopped: Callable[[], bool] = lambda: False

    def inspect(self, copies: Sequence[Expected]) -> list[Finding]:
        """One finding for each copy, in their order; a fault of one is its own finding."""
        directories = Directories(str(self.data_dir))
        buffer = bytearray(_CHUNK)
        try:
            return [self._inspect(directories, copy, buffer) for copy in copies]
        finally:
            directories.forget()

    def _inspect(self, directories: Directories, copy: Expected, buffer: bytearray) -> Finding:
        directory, _, name = copy.local_path.rpartition("/")
        if not is_place(copy.local_path, self.directory):
            return Finding(Verdict.UNSAFE, "its path leads out of the bucket's directory")
        try:
            descriptor = os.open(on_disk(name), _OPEN, dir_fd=directories.at(directory))
        except TakenByFile:
            return Finding(Verdict.MISSING, "a file stands in its directory's place")
        except UnsafePath:
            return Finding(Verdict.UNSAFE, "a directory above it is a symlink")
        except OSError as error:
            return _of_error(error)
        try:
            return self._compare(descriptor, copy, buffer)
        except OSError as error:
            return _of_error(error)
        finally:
            os.close(descriptor)

    def _compare(self, descriptor: int, copy: Expected, buffer: bytearray) -> Finding:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return Finding(Verdict.MISSING, "no regular file stands at its place")
        if found.st_size != copy.size:
            return Finding(Verdict.DAMAGED, f"{found.st_size} of {copy.size} bytes")
        if copy.digest is None:
            return Finding(Verdict.INTACT)
        algorithm, _, digest = copy.digest.partition(":")
        hasher = hashlib.new(algorithm, usedforsecurity=False)
        view = memoryview(buffer)
        while count := os.readv(descriptor, [buffer]):
            if self.stopped():
                return Finding(Verdict.STOPPED)
            hasher.update(view[:count])
        if hasher.hexdigest() != digest:
            return Finding(Verdict.DAMAGED, "its bytes are not those that were downloaded")
        return Finding(Verdict.INTACT)


def _of_error(error: OSError) -> Finding:
    if error.errno == errno.ELOOP:
        return Finding(Verdict.UNSAFE, "a symlink stands at its place")
    kind = Verdict.MISSING if error.errno in _ABSENT else Verdict.UNREADABLE
    return Finding(kind, os.strerror(error.errno) if error.errno else str(error))
