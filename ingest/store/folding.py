"""Whether a disk takes two names for one, and which names are taken there.

FAT, exFAT, NTFS, SMB and macOS fold names, each by a table of its own: letters of two cases, compositions of one
letter, or endings in dots and spaces lead to one file. What a disk does is asked once, when the store is opened. Where
it folds, whoever places a copy asks which rows have a place there already; elsewhere nothing is asked.

Everything here blocks, and belongs in a worker thread.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ingest.store.directories import OPEN, Directories, TakenByFile, disk_error
from ingest.store.names import of_disk, on_disk
from ingest.store.paths import folded
from ingest.store.regular import open_regular
from ingest.store.scratch import private_database
from ingest.system.private_dirs import hand_over

PROBES = "%~probe"
"""A directory below the bucket's own for the moment of the question; no key has such a path."""
_TABLE = "CREATE TABLE places (folded TEXT, path TEXT, digest TEXT, PRIMARY KEY (folded, path)) WITHOUT ROWID"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class Traits(NamedTuple):
    """What a disk makes of names."""

    folds: bool
    """Different names may lead to one file."""
    short_names: bool
    """Files have a second, short name (``PROGRA~1``)."""
    keeps_spelling: bool = True
    """Names are listed as they were made."""


def traits_of(directory: int) -> Traits:
    """Asks the file system of this directory, a descriptor; one directory may fold, and the one above not (ext4).

    Where the question cannot be asked, it is taken to fold: that costs time, and no copy.
    """
    with suppress(OSError):
        probes = _probes(directory)
        try:
            return _ask(probes)
        finally:
            with suppress(OSError):
                for name in os.listdir(probes):
                    os.unlink(name, dir_fd=probes)
                os.rmdir(PROBES, dir_fd=directory)
            os.close(probes)
    return Traits(folds=True, short_names=False, keeps_spelling=False)


def _probes(directory: int) -> int:
    with suppress(FileExistsError):  # left by a kill, or another run asks as well
        os.mkdir(PROBES, 0o700, dir_fd=directory)
    probes = os.open(PROBES, OPEN, dir_fd=directory)
    with suppress(OSError):  # whoever stages a file meets it again
        hand_over(probes, directory)
    return probes


def _ask(probes: int) -> Traits:
    stem = f"Probe-{secrets.token_hex(4)}-"
    name = stem + "\u00e9"
    others = (name.swapcase(), stem + "e\u0301", name + ".", name + " ", f"{stem}\u200d\u00e9")
    os.close(open_regular(on_disk(name), _CREATE, 0o600, dir_fd=probes))
    found = any(_is_there(other, probes) for other in others)
    short = _is_there(f"{name[:6]}~1", probes)
    # Another run may have swept ours away in between: then it is not known.
    spelled = name in map(of_disk, os.listdir(probes))
    return Traits(folds=found or not _is_there(name, probes), short_names=short, keeps_spelling=spelled)


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(on_disk(name), dir_fd=directory, follow_symlinks=False)
    except OSError:  # not there, or no name at all
        return False
    return True


class Place(NamedTuple):
    """Where a present copy lies, relative to the data directory, and its digest as the catalog has it."""

    path: str
    digest: str | None


@dataclass
class TakenPlaces:
    """The places of the present copies, by what a disk may take their paths for. Threads may share it.

    They lie on disk where they are many: memory stays flat.
    """

    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._connection = private_database(_TABLE)

    def add(self, places: Iterable[Place]) -> None:
        rows = [(folded(path), path, digest) for path, digest in places]
        with self._lock:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", rows)
            self._connection.execute("COMMIT")

    def claim(self, path: str) -> bool:
        """Adds it, and returns True, unless another path folds alike."""
        with self._lock:
            if self._alike(path):
                return False
            self._connection.execute("INSERT OR IGNORE INTO places VALUES (?, ?, NULL)", (folded(path), path))
            return True

    def drop(self, path: str) -> None:
        with self._lock:
            self._connection.execute("DELETE FROM places WHERE folded = ? AND path = ?", (folded(path), path))

    def has(self, path: str) -> bool:
        """Whether a present copy lies at this very path."""
        with self._lock:
            query = "SELECT 1 FROM places WHERE folded = ? AND path = ?"
            return self._connection.execute(query, (folded(path), path)).fetchone() is not None

    def alike(self, path: str) -> list[Place]:
        """The places with another path that folds alike."""
        with self._lock:
            return self._alike(path)

    def knows(self, path: str) -> bool:
        """Whether any present copy lies where this path may lead."""
        return self.has(path) or bool(self.alike(path))

    def close(self) -> None:
        self._connection.close()

    def _alike(self, path: str) -> list[Place]:
        query = "SELECT path, digest FROM places WHERE folded = ? AND path <> ?"
        return [Place(*row) for row in self._connection.execute(query, (folded(path), path))]


def opened(data_dir: Path, directory: str) -> TakenPlaces | None:
    """As `FileStore.taken`, for who only reads: None on a disk that takes no two names for one, or where no copy is.

    Raises:
        DiskError: the bucket's directory cannot be opened.
    """
    directories = Directories(str(data_dir))
    try:
        return TakenPlaces() if traits_of(directories.at(directory)).folds else None
    except (FileNotFoundError, TakenByFile):
        return None
    except OSError as error:
        raise disk_error(error, directory) from error
    finally:
        directories.forget()


def shared(data_dir: Path, taken: TakenPlaces | None, local_paths: Collection[str]) -> dict[str, list[Place]]:
    """Those of these present copies that other keys have in the same file, and the places of the others: so it was left
    by versions that did not ask what the disk folds.

    Raises:
        DiskError: a directory cannot be read.
    """
    if taken is None:
        return {}
    directories = Directories(str(data_dir))
    try:
        found = {path: sharing(directories, taken, path) for path in local_paths}
    finally:
        directories.forget()
    return {path: others for path, others in found.items() if others}


def sharing(directories: Directories, taken: TakenPlaces, path: str) -> list[Place]:
    """The places of other keys' present copies whose paths lead to the same file as `path`, or would.

    Raises:
        DiskError: a directory cannot be read.
    """
    alike = taken.alike(path)
    if not alike or not taken.has(path):  # no copy of ours yet: which of them stands there does not matter
        return alike
    try:
        return [place for place in alike if _are_one(directories, path, place.path)]
    except OSError as error:
        raise disk_error(error, path) from error


def is_listed_so(directories: Directories, path: str) -> bool:
    """Whether the disk lists each name of an existing `path` as it is written: if not, another name made the file."""
    parent = ""
    for name in path.split("/"):
        if name not in map(of_disk, os.listdir(directories.at(parent))):
            return False
        parent = f"{parent}/{name}" if parent else name
    return True


def _are_one(directories: Directories, path: str, other: str) -> bool:
    """Whether two paths that fold alike lead to one file: where both names are listed beside each other they do not."""
    parent = ""
    for own, their in zip(path.split("/"), other.split("/"), strict=True):
        if own != their:
            try:
                names = set(map(of_disk, os.listdir(directories.at(parent))))
            except (FileNotFoundError, TakenByFile):
                return True  # nothing is there: whoever comes first takes it for both
            if {own, their} <= names:
                return False
        parent = f"{parent}/{own}" if parent else own
    return True
