"""A copy of a SQLite catalog, made before a migration changes it: whole, private, and named for what it is of."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from ingest.errors import DatabaseError
from ingest.system.private_dirs import hand_over

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HINT = (
    "Nothing was migrated. The copy takes as much room as the catalog: free some where the SQLite file is, and see "
    "that the directory can be written by this user; then run again."
)


def keep_copy(file: str, revision: str) -> Path:
    """Copies what is committed, that in the write-ahead log included; the file at the path that is returned is durable.

    The caller holds the write lock, so that what is copied is what will be migrated.

    Raises:
        DatabaseError: there is no room for it, or it cannot be made.
    """
    path = Path(f"{file}.{revision}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z.bak")
    draft = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(draft, _NEW, 0o600)
        try:
            hand_over(descriptor, path.parent)
            with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(draft)) as copy:
                source.backup(copy)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, path)
        _sync_directory(path.parent)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            draft.unlink()
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DatabaseError(f"{path}: no copy of the catalog could be kept: {said}", hint=_HINT) from error
    return path


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some file systems know no such call: the name is durable by itself there, or late
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
