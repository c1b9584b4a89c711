"""The mark in a data directory, and the one outside of it that outlives a missing mount. All of it blocks.

The outer one is in the user's state directory (``$XDG_STATE_HOME/ingest``), or, where that cannot be or lies in the
data directory itself, beside the data directory. It is of this path on this host, and of the directory above: where
that was made anew while its mount is there, nothing is missed. Neither mark is needed to read a copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ingest.errors import DiskError, LockedError, UnsafePath
from ingest.plan.identity import DirectoryMark
from ingest.store.directories import disk_error
from ingest.store.durability import sync_directory, sync_file
from ingest.store.regular import NotRegular, open_regular
from ingest.system.failpoints import failpoint
from ingest.system.private_dirs import hand_over, make_directories

OWN, NAME = ".ingest", "identity"
TURN_SECONDS = 10.0
"""To read or write a mark takes a moment: whoever has the lock for so long hangs."""
_PAUSE = 0.01
_MOST_BYTES = 1 << 16
_ABOUT = (
    "ingest compares this with the data directory at each start, so that a disk that is not mounted is not taken for a "
    "new beginning. See `ingest source attach`."
)


def new_id() -> str:
    """32 hex digits, drawn at random."""
    return secrets.token_hex(16)


def read_inside(data_dir: Path) -> DirectoryMark | None:
    """The directory's own mark; None where there is none.

    Raises:
        DiskError: there is something in its place that is no mark, or it cannot be read.
    """
    path = data_dir / OWN / NAME
    try:
        return _mark_of(_load(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except NotRegular as error:
        raise UnsafePath(f"{path} is not a regular file, and is left alone") from error
    except OSError as error:
        raise disk_error(error, str(path)) from error
    except (ValueError, TypeError, KeyError) as error:
        raise DiskError(
            f"{path} is not as ingest wrote it",
            hint="Bring it back from a backup, or remove it and say `ingest source attach`; the copies are untouched.",
        ) from error


def read_outside(data_dir: Path) -> DirectoryMark | None:
    """The outer mark of this path. One that cannot be read, or is of another place, says nothing."""
    for place in _places(data_dir):
        with suppress(OSError, ValueError, TypeError, KeyError):
            written = _load(place)
            if _Surroundings(*(str(written[name]) for name in _Surroundings._fields)).still_hold(data_dir):
                return _mark_of(written)
    return None


def write_inside(data_dir: Path, mark: DirectoryMark) -> None:
    """Raises `DiskError`."""
    try:
        make_directories(data_dir / OWN)
        _write(data_dir / OWN / NAME, {**mark._asdict()})
    except OSError as error:
        raise disk_error(error, str(data_dir / OWN / NAME)) from error
    failpoint("identity.inside-written")


def write_outside(data_dir: Path, mark: DirectoryMark) -> Path | None:
    """Where it was written: one place, and no other has one afterwards. None: no place takes it."""
    written = None
    for place in _places(data_dir):
        if written is not None:
            with suppress(OSError):
                place.unlink()
            continue
        try:
            make_directories(place.parent)
            _write(place, {**mark._asdict(), **_Surroundings.of(data_dir)._asdict(), "about": _ABOUT})
        except OSError:
            continue
        written = place
    failpoint("identity.outside-written")
    return written


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """One process at a time gives a data directory its mark; others wait for the moment that takes.

    Raises:
        DiskError: the directory cannot be made or written. UnsafePath: something else stands in the lock's place.
        LockedError: another process has the lock, and hangs.
    """
    path = data_dir / OWN / "locks" / "identity.lock"
    try:
        make_directories(path.parent)
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise disk_error(error, str(path)) from error
    try:
        with suppress(OSError):  # a file system without locks: two first runs at once are the rarer trouble
            _take_turn(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take_turn(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + TURN_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                said = f"another process has had {path} for {TURN_SECONDS:.0f} s"
                raise LockedError(said, hint="If it hangs, end it, and run again.") from None
            time.sleep(_PAUSE)
        else:
            return


def inode_of(data_dir: Path) -> str:
    """The number of the directory's own folder: it stays when the directory is renamed, and a copy has another."""
    try:
        return str(os.stat(data_dir / OWN).st_ino)
    except OSError:
        return ""


def is_there(path: str, directory: str) -> bool:
    """Whether the data directory with this id lies at `path`."""
    with suppress(DiskError):
        found = read_inside(Path(path))
        return found is not None and found.directory == directory
    return False


def describe(data_dir: Path) -> str:
    """What is at the data directory's path that has no mark, in words."""
    try:
        with os.scandir(data_dir) as entries:
            return "it is empty" if next(entries, None) is None else "what is there is not it"
    except FileNotFoundError:
        return "it does not exist"
    except OSError as error:
        return os.strerror(error.errno or 0)


def holds_anything(data_dir: Path, directory: str) -> bool:
    """Whether there is a file or directory below a source's own."""
    try:
        with os.scandir(data_dir / directory) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


class _Surroundings(NamedTuple):
    """What an outer mark counts with: as long as it is so, the data directory is missed where it is not."""

    data_dir: str
    host: str
    mount: str
    """The top of the file system that the data directory lies on."""
    above: str
    """The number of the directory above the data directory."""

    @classmethod
    def of(cls, data_dir: Path) -> _Surroundings:
        top = data_dir
        device = os.stat(data_dir).st_dev
        while top != top.parent and os.stat(top.parent).st_dev == device:
            top = top.parent
        return cls(str(data_dir), socket.gethostname(), str(top), str(os.stat(data_dir.parent).st_ino))

    def still_hold(self, data_dir: Path) -> bool:
        if (self.data_dir, self.host) != (str(data_dir), socket.gethostname()):
            return False
        if not os.path.ismount(self.mount):
            return True  # what lies below it is not to be seen
        try:
            return str(os.stat(data_dir.parent).st_ino) == self.above
        except OSError:
            return False


def _places(data_dir: Path) -> list[Path]:
    """Where an outer mark may be, the best place first."""
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "ingest"
    kept = state / f"{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:32]}.json"
    beside = data_dir.parent / f".{data_dir.name}.ingest"
    return [kept, beside] if state.is_absolute() and data_dir not in kept.parents else [beside]


def _load(path: Path) -> dict[str, object]:
    descriptor = open_regular(path, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        written = json.loads(file.read(_MOST_BYTES))
    if not isinstance(written, dict):
        raise ValueError(f"{path} holds something else")
    return written


def _mark_of(written: dict[str, object]) -> DirectoryMark:
    values = [written[name] for name in DirectoryMark._fields]
    if not all(isinstance(value, str) for value in values):
        raise ValueError("no mark of ours")
    return DirectoryMark(*map(str, values))


def _write(path: Path, document: dict[str, object]) -> None:
    """Whole and durable, or not at all."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(descriptor, "wb") as file:
            hand_over(descriptor, path.parent)
            file.write(json.dumps(document, indent=1).encode() + b"\n")
            file.flush()
            sync_file(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_directory(parent)
    finally:
        os.close(parent)
