"""Whose a temporary file is: of a run that lives, or of one that is gone, and whose files are swept.

A run names its temporary files by a token, and from the first one to its end it holds a lock on a file of that token.
The lock dies with its process, and everybody who shares the directory sees it. A process id would not do: a container
counts its own, so one that lives elsewhere is not seen, and that of a dead one comes again. It is one lock for a run,
however many its files. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import secrets
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ingest.errors import UnsafePath
from ingest.store.directories import Directories, TakenByFile
from ingest.store.regular import open_regular
from ingest.system.failpoints import failpoint
from ingest.system.processes import is_alive

TEMPORARY, OWNER = ".part", ".owner"
_OURS = re.compile(r"(run-[0-9a-f]{24})(?:-[0-9]+\.part|\.owner)")
_OF_OLDER_VERSIONS = re.compile(r"([0-9]{1,9})-.*\.part")


def sweep_left(data_dir: Path) -> None:
    """Removes what runs that are gone have left in the data directory; what cannot be removed stays, and nothing is
    made."""
    with suppress(OSError, UnsafePath, TakenByFile):  # not there yet, or whoever stages a file meets it again
        directories = Directories(str(data_dir))
        try:
            Owner(directories.at(".ingest/tmp")).sweep()
        finally:
            directories.forget()


@dataclass
class Owner:
    """This run's share of the temporary files in `directory`, a descriptor. Several threads may ask for names."""

    directory: int
    _token: str = ""
    _descriptor: int | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def new_name(self) -> str:
        """A name for one more temporary file. Raises `OSError`."""
        if self._descriptor is None:  # not before it is needed: a disk that is full may still be cleaned up
            with self._starting:
                while self._descriptor is None:
                    self._start()
        return f"{self._token}-{next(self._numbers)}{TEMPORARY}"

    def close(self) -> None:
        """The run is at its end: what it has left behind is nobody's."""
        if self._descriptor is not None:
            self._remove([self._token + OWNER])
            os.close(self._descriptor)
            self._descriptor = None

    def sweep(self) -> int:
        """Removes the temporary files of runs that are gone. Returns how many. Nothing else is touched."""
        files: defaultdict[str, list[str]] = defaultdict(list)
        removed = 0
        for name in os.listdir(self.directory):
            if found := _OURS.fullmatch(name):
                files[found[1]].extend([] if name.endswith(OWNER) else [name])
            elif (found := _OF_OLDER_VERSIONS.fullmatch(name)) and self._is_left(name, int(found[1])):
                removed += self._remove([name])
        return removed + sum(self._sweep(token, names) for token, names in files.items())

    def _start(self) -> None:
        token = f"run-{secrets.token_hex(12)}"
        name = token + OWNER
        descriptor = open_regular(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=self.directory)
        failpoint("staging.announced")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A sweep that came in between has taken it for a dead one's, and removed it: then there is no such name.
            os.stat(name, dir_fd=self.directory, follow_symlinks=False)
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            self._token, self._descriptor = token, descriptor

    def _sweep(self, token: str, names: Sequence[str]) -> int:
        try:
            owner = open_regular(token + OWNER, os.O_RDWR, dir_fd=self.directory)
        except FileNotFoundError:
            return self._remove(names)  # an owner's file stands until its run ends, and goes after the files in a sweep
        except OSError:
            return 0  # not ours after all: a symlink, a pipe
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0  # it lives, or another sweep is at it
        else:
            removed = self._remove(names)
            self._remove([token + OWNER])
            return removed
        finally:
            os.close(owner)

    def _is_left(self, name: str, pid: int) -> bool:
        try:
            written = os.stat(name, dir_fd=self.directory, follow_symlinks=False).st_mtime
        except OSError:
            return False
        return not is_alive(pid, since=written)

    def _remove(self, names: Sequence[str]) -> int:
        removed = 0
        for name in names:
            with suppress(OSError):
                os.unlink(name, dir_fd=self.directory)
                removed += 1
        return removed
