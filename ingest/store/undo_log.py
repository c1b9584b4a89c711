"""The copies that a batch replaces or brings back: until the new rows are committed, a kill can be undone.

What is replaced gets a second name (a hard link: no byte is copied) in a directory of our own, and an intent says which
is which. It also names the places of pruned copies, where nothing stands that could be kept.
All of that is durable before the first rename: an intent that is missing or torn has seen none. Whoever holds the lock
of the copies (`store.locks`) and finds an intent knows that the holder before did not come to its end. Where a file
system has no hard links nothing is kept, and `verify --repair` mends what a kill leaves.

Everything here blocks, and belongs in a worker thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ingest.errors import NotesForeign, UnsafePath
from ingest.store.directories import Directories, TakenByFile, disk_error
from ingest.store.durability import sync_directory, sync_file
from ingest.store.names import on_disk
from ingest.store.paths import require_place
from ingest.store.writing import write_all
from ingest.system.failpoints import failpoint
from ingest.system.private_dirs import hand_over

_INTENT = "intent"
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a named pipe must not hold the thread for ever
_CHUNK = 1 << 20


class Replaced(NamedTuple):
    """A copy of `key` at `local_path` (relative to the data directory), in the place of which another one goes. It may
    have been pruned before."""

    key: str
    local_path: str


@dataclass(frozen=True)
class UndoLog:
    """The kept copies of one bucket. All but `is_left` need the lock of the copies, and raise `DiskError`."""

    data_dir: Path
    directory: str
    """The bucket's own."""

    def is_left(self) -> bool:
        """Whether a batch is under way, or was left by a process that was killed."""
        return os.path.lexists(self.data_dir / ".ingest" / "replaced" / self.directory / _INTENT)

    def keep(self, copies: Sequence[Replaced]) -> None:
        """Keeps these bytes, durably, until `drop`. A copy that is not there needs nothing."""
        with self._opened(create=True) as (directories, place):
            intent = os.open(_INTENT, _WRITE, 0o640, dir_fd=place)
            try:
                hand_over(intent, place)
                failpoint("batch.replaced-intended")
                write_all(intent, [json.dumps(copies).encode()])
                sync_file(intent)
            finally:
                os.close(intent)
            for number, copy in enumerate(copies):
                with suppress(OSError, TakenByFile, UnsafePath):  # then it is not kept; a rename there meets it again
                    require_place(copy.local_path, self.directory)
                    _link(directories, copy.local_path, place, str(number))
                failpoint("batch.replaced-linked")
            sync_directory(place)
        failpoint("batch.replaced-kept")

    def drop(self) -> None:
        """The new rows are committed, or nothing was replaced: the kept bytes go, and the intent at the end."""
        with self._opened() as (_, place):
            for name in os.listdir(place):
                if name != _INTENT:
                    os.unlink(name, dir_fd=place)
                    failpoint("batch.replaced-dropped")
            with suppress(FileNotFoundError):
                os.unlink(_INTENT, dir_fd=place)
        failpoint("batch.replaced-ended")

    def left(self) -> list[Replaced]:
        """What a killed batch replaced, or was about to.

        Raises:
            NotesForeign: a version wrote it that notes more than this one can undo.
        """
        with self._opened() as (_, place):
            try:
                intent = os.open(_INTENT, _READ, dir_fd=place)
            except FileNotFoundError:
                return []
            with os.fdopen(intent, "rb") as file:
                written = file.read()
        try:
            said = json.loads(written)
        except ValueError:
            return []  # torn: see above
        if not (isinstance(said, list) and all(map(_is_copy, said))):
            raise NotesForeign(f"{self.data_dir}/.ingest/replaced/{self.directory}/{_INTENT} is another version's")
        return [Replaced(*copy) for copy in said]

    def undo(self, recorded: Mapping[Replaced, str | None]) -> list[Replaced]:
        """Puts back the kept bytes that are still what the catalog says of the copy, and takes away what stands where
        it says that a copy was pruned; returns which. Then `drop`.

        `recorded` has the digests of the copies that are present, ``md5:<hex>`` or ``sha256:<hex>``, and None for those
        that are pruned.
        """
        failpoint("undo.begun")
        back: list[Replaced] = []
        with self._opened() as (directories, place):
            touched: set[str] = set()
            for number, copy in enumerate(self.left()):
                if copy not in recorded:
                    continue
                digest = recorded[copy]
                if digest is None:
                    if _take_away(directories, copy.local_path):
                        back.append(copy)
                    failpoint("undo.taken-away")
                    continue
                if not _has_digest(place, str(number), digest):
                    continue
                with suppress(FileNotFoundError, IsADirectoryError, TakenByFile, UnsafePath):  # not ours any more
                    require_place(copy.local_path, self.directory)
                    _put_back(directories, copy.local_path, place, str(number))
                    touched.add(copy.local_path.rpartition("/")[0])
                    back.append(copy)
                failpoint("undo.put-back")
            for directory in sorted(touched):
                sync_directory(directories.at(directory))
        failpoint("undo.done")
        return back

    @contextmanager
    def _opened(self, *, create: bool = False) -> Iterator[tuple[Directories, int]]:
        """Descriptors to walk by, and one of the directory of the kept copies."""
        directories = Directories(str(self.data_dir))
        try:
            place = os.dup(self._place(directories, create=create))
            try:
                yield directories, place
            finally:
                os.close(place)
        except OSError as error:
            raise disk_error(error, str(self.data_dir)) from error
        except TakenByFile as error:
            raise UnsafePath(f"{self.data_dir}: a file stands where the tool needs a directory") from error
        finally:
            directories.forget()

    def _place(self, directories: Directories, *, create: bool) -> int:
        path = f".ingest/replaced/{self.directory}"
        try:
            return directories.at(path)
        except FileNotFoundError:
            if not create:
                raise
        directories.at(path, create=True)
        for parent in (".ingest/replaced", ".ingest"):  # an intent that nobody finds is none
            sync_directory(directories.at(parent))
        return directories.at(path)


def _is_copy(said: object) -> bool:
    return isinstance(said, list) and len(said) == len(Replaced._fields) and all(isinstance(one, str) for one in said)


def _link(directories: Directories, path: str, place: int, name: str) -> None:
    directory, _, own = path.rpartition("/")
    parent = directories.at(directory)
    try:
        os.link(on_disk(own), name, src_dir_fd=parent, dst_dir_fd=place, follow_symlinks=False)
    except FileExistsError:  # left by a power cut, without its intent
        os.unlink(name, dir_fd=place)
        os.link(on_disk(own), name, src_dir_fd=parent, dst_dir_fd=place, follow_symlinks=False)


def _put_back(directories: Directories, path: str, place: int, name: str) -> None:
    directory, _, own = path.rpartition("/")
    # Where both are names of one file already, a rename leaves both: `drop` removes ours.
    os.replace(name, on_disk(own), src_dir_fd=place, dst_dir_fd=directories.at(directory))


def _take_away(directories: Directories, path: str) -> bool:
    """Whether there was a file. Its end is durable before that of the intent."""
    directory, _, own = path.rpartition("/")
    try:
        parent = directories.at(directory)
        if not stat.S_ISREG(os.stat(on_disk(own), dir_fd=parent, follow_symlinks=False).st_mode):
            return False  # not ours
        os.unlink(on_disk(own), dir_fd=parent)
        sync_directory(parent)
    except (FileNotFoundError, TakenByFile, UnsafePath):
        return False
    directories.remove_empty(directory)
    return True


def _has_digest(place: int, name: str, digest: str) -> bool:
    algorithm, _, expected = digest.partition(":")
    try:
        descriptor = os.open(name, _READ, dir_fd=place)
    except OSError:
        return False  # not kept, or put back already
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest() == expected
