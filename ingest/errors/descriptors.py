"""Too many open files, or no memory: both may strike anywhere, also where Python imports or a library opens a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from ingest.errors.base import IngestError, OutOfMemory
from ingest.errors.local import TooManyFiles

_CODES = frozenset({errno.EMFILE, errno.ENFILE})
_NO_THREAD = "can't start new thread"
"""What `threading` says of it, which has no class of its own."""
_FEW = 8
"""Descriptors that whoever opens a database may want at once."""


def too_many_files(error: BaseException) -> TooManyFiles | None:
    """What `error` comes down to if the cause was that; None for any other."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _CODES:
            return TooManyFiles(f"{cause.strerror}{f': {cause.filename}' if cause.filename else ''}")
        # What the loader of shared libraries says has no number.
        if isinstance(cause, ImportError) and os.strerror(errno.EMFILE) in str(cause):
            return TooManyFiles(str(cause))
    return None


def exhausted(error: BaseException) -> TooManyFiles | OutOfMemory | None:
    """As `too_many_files`, and where there was no memory left, or no thread to be had."""
    for cause in _chain(error):
        if isinstance(cause, MemoryError):
            return OutOfMemory("there is no memory left for what has to be done")
        if isinstance(cause, RuntimeError) and str(cause) == _NO_THREAD:
            return OutOfMemory(f"the system gives this process no further thread ({_NO_THREAD})")
    return too_many_files(error)


def descriptors_left() -> bool:
    """Whether some can still be opened: for libraries that do not say why they could not."""
    taken: list[int] = []
    try:
        taken.extend(os.dup(2) for _ in range(_FEW))
    except OSError as error:
        return error.errno not in _CODES
    finally:
        for descriptor in taken:
            os.close(descriptor)
    return True


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, up to one that has a name and a code already."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen and not isinstance(found, IngestError):
        yield found
        seen.add(id(found))
        found = found.__cause__ or found.__context__
