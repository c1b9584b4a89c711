"""Large objects on their way: temporary files written at offsets, which a killed run leaves for the next one.

A file ``large-<digest of directory and key>.part`` has a note beside it that says which object it is and which of its
pieces are written. The note is no proof: what it names is hashed again before the file is published. While a process
works on a file it holds a lock on it, which dies with the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ingest.errors import TooLargeForDisk
from ingest.store import resume_notes
from ingest.store.directories import disk_error
from ingest.store.durability import start_writing
from ingest.store.ranges import Range, feed, md5_of_ranges
from ingest.store.regular import NotRegular, open_regular
from ingest.store.resume_notes import DRAFT, NOTE, Identity, Note
from ingest.store.temporaries import Owner
from ingest.store.writing import write_all
from ingest.system.failpoints import failpoint

PREFIX, DATA = "large-", ".part"
_OWN = re.compile(r"(large-[0-9a-f]{40})\.(?:part|note|draft)")
KEPT_SECONDS = 7 * 86_400
"""How long a partial that nobody came back for is kept."""
_FLAGS = os.O_RDWR | os.O_CREAT


@dataclass
class Partial:
    """One open temporary file. All methods block, and may be called from several threads at once."""

    identity: Identity
    temporary: str
    finished: set[int]
    """Numbers of the pieces that are written."""
    _descriptor: int
    _note: Note | None
    """None for a file that only this process knows."""
    _users: int = 0
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, start: int, chunks: Sequence[bytes | memoryview]) -> None:
        """Raises `DiskError` when the disk does not take it."""
        with self._using() as descriptor:
            try:
                write_all(descriptor, chunks, start)
            except OSError as error:
                raise disk_error(error, self.temporary) from error
        failpoint("partial.written")

    def finish_piece(self, number: int, start: int, end: int) -> None:
        """Notes that a piece is written, from `start` up to `end`."""
        with self._using() as descriptor:
            start_writing(descriptor, start, end)
            self.finished.add(number)
            if self._note is not None:
                self._note.mark(number)
        failpoint("partial.noted")

    def read(self, start: int, end: int, update: Callable[[memoryview], None]) -> None:
        """Hands what is written from `start` up to `end` to `update`, in order. Raises `DiskError`."""
        with self._using() as descriptor:
            try:
                feed(descriptor, (start, end), update)
            except OSError as error:
                raise disk_error(error, self.temporary) from error

    def md5_of(self, ranges: Sequence[Range]) -> list[bytes]:
        """The MD5 of each of these written ranges. Raises `DiskError`."""
        with self._using() as descriptor:
            try:
                return md5_of_ranges(descriptor, ranges)
            except OSError as error:
                raise disk_error(error, self.temporary) from error

    def close(self) -> None:
        """Gives the file free for others; a thread that still writes to it ends first."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._users == 0:
                self._let_go()

    @contextmanager
    def _using(self) -> Iterator[int]:
        # A cancelled task leaves its thread behind: the descriptor must not be given to another file under its hands.
        with self._lock:
            if self._closed:
                raise disk_error(OSError(f"{self.temporary} is closed"), self.temporary)
            self._users += 1
        try:
            yield self._descriptor
        finally:
            with self._lock:
                self._users -= 1
                if self._closed and self._users == 0:
                    self._let_go()

    def _let_go(self) -> None:
        os.close(self._descriptor)
        if self._note is not None:
            self._note.close()


@dataclass
class Partials:
    """The partials of one bucket in the directory `directory`, a descriptor. `own` is what tells its keys from those of
    others: the name of the directory of its copies."""

    directory: int
    own: str
    owner: Owner
    _open: dict[str, Partial] = field(default_factory=dict)

    def open(self, identity: Identity, pieces: int, *, resumable: bool) -> Partial:
        """A file for this object of so many pieces: what an earlier run left of it, or an empty one.

        `resumable` is false where the final check proves nothing: then nothing is taken over, and nothing left.

        Raises:
            TooLargeForDisk: less is free than it needs. DiskError: it cannot be made.
        """
        try:
            self._require_room(identity)
            return self._open_one(identity, pieces, resumable=resumable)
        except OSError as error:
            raise disk_error(error, identity.key) from error

    def release(self, temporary: str, *, remove: bool = False) -> None:
        """The file has got its final name, or is given up: then `remove` it. Other temporary files are let be."""
        partial = self._open.pop(temporary, None)
        if partial is None:
            return
        if remove:
            self._unlink(temporary)
        if temporary.startswith(PREFIX):
            self._unlink(temporary.removesuffix(DATA) + NOTE)
        partial.close()

    def leave(self, partial: Partial) -> None:
        """Leaves the file to whoever goes on with it."""
        if partial.temporary.startswith(PREFIX):
            self._open.pop(partial.temporary, None)
            partial.close()
        else:
            self.release(partial.temporary, remove=True)

    def close(self) -> None:
        for partial in tuple(self._open.values()):
            partial.close()
        self._open.clear()

    def sweep(self, *, all_done: bool) -> int:
        """Removes what no run will go on with: what is too old or has no note, or, when `all_done`, everything that no
        living process holds. Returns how many files."""
        names = {match[0]: match[1] for match in map(_OWN.fullmatch, os.listdir(self.directory)) if match}
        useless = [stem for stem in set(names.values()) if self._is_useless(stem, all_done=all_done)]
        return sum(self._remove_unlocked(stem) for stem in useless)

    def _require_room(self, identity: Identity) -> None:
        """An object that cannot fit would end the run for all others, when the disk is full of it."""
        disk, kept = os.fstatvfs(self.directory), 0
        with suppress(OSError):
            begun = os.stat(self._name(identity.key) + DATA, dir_fd=self.directory, follow_symlinks=False)
            kept = begun.st_blocks * 512
        free = disk.f_bavail * disk.f_frsize
        if disk.f_blocks and identity.size > free + kept:  # some file systems say nothing of their size
            raise TooLargeForDisk(f"{identity.key!r}: it has {identity.size} bytes, and {free} are free")

    def _open_one(self, identity: Identity, pieces: int, *, resumable: bool) -> Partial:
        name = self._name(identity.key)
        descriptor = None
        if resumable:
            with suppress(NotRegular):  # not ours, and left alone
                descriptor = self._lock(name + DATA)
        if descriptor is None:
            return self._open_private(identity)
        note = resume_notes.read(self.directory, name)
        finished = note[1] if note is not None and note[0] == identity else set()
        # Never longer than what is written: a disk without holes in its files would fill them.
        os.ftruncate(descriptor, min(identity.size, os.fstat(descriptor).st_size) if finished else 0)
        partial = Partial(identity, name + DATA, finished, descriptor, self._new_note(name, identity, finished, pieces))
        self._open[partial.temporary] = partial
        return partial

    def _new_note(self, name: str, identity: Identity, finished: set[int], pieces: int) -> Note | None:
        with suppress(OSError):  # without one, the next run fetches everything again
            return Note.create(self.directory, name, identity, resume_notes.marks_of(finished, pieces))
        return None

    def _remove_unlocked(self, stem: str) -> bool:
        try:
            descriptor = self._lock(stem + DATA)
        except OSError:
            return False  # not ours after all: a symlink, a directory, a pipe
        if descriptor is None:
            return False
        try:
            for ending in (NOTE, DRAFT, DATA):
                self._unlink(stem + ending)
        finally:
            os.close(descriptor)
        return True

    def _name(self, key: str) -> str:
        digest = hashlib.sha256(f"{self.own}\0{key}".encode("utf-8", "surrogateescape"))
        return PREFIX + digest.hexdigest()[:40]

    def _lock(self, name: str) -> int | None:
        """A locked descriptor of the file; None while another one works on it."""
        while True:
            descriptor = open_regular(name, _FLAGS, dir_fd=self.directory)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_ino == os.stat(name, dir_fd=self.directory, follow_symlinks=False).st_ino:
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass  # between opening and locking, its owner published it: what is locked now is a copy in its place
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _open_private(self, identity: Identity) -> Partial:
        name = self.owner.new_name()
        descriptor = open_regular(name, _FLAGS | os.O_EXCL, dir_fd=self.directory)
        partial = self._open[name] = Partial(identity, name, set(), descriptor, None)
        return partial

    def _is_useless(self, stem: str, *, all_done: bool) -> bool:
        note = resume_notes.read(self.directory, stem)
        if note is None or not note[1] or self._age(stem + NOTE) > KEPT_SECONDS:
            return True
        return all_done and note[0].bucket == self.own

    def _age(self, name: str) -> float:
        try:
            return time.time() - os.stat(name, dir_fd=self.directory, follow_symlinks=False).st_mtime
        except OSError:
            return 0.0

    def _unlink(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name, dir_fd=self.directory)
