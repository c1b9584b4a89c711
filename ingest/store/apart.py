"""Whether two directories have nothing to do with each other, however they are spelled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ingest.errors import SettingsError


def require_apart(target: Path, data_dir: Path) -> None:
    """
    Raises:
        SettingsError: `target` is `data_dir`, or in it, or above it: a file in it may then be another key's copy.
    """
    one, other = _resolved(target), _resolved(data_dir)
    if one in {other, *other.parents} or other in one.parents or _meet(one, other) or _meet(other, one):
        raise SettingsError(
            f"--to {target} and the data directory {data_dir} are one, or in one another",
            hint="Name a directory outside of it; without --to, copies come back to where they belong.",
        )


def _resolved(path: Path) -> Path:
    # As the system reads it: `..` behind a symlink leads out of where that points to.
    return Path(os.path.realpath(path))


def _meet(low: Path, high: Path) -> bool:
    """Whether `high` is `low` or above it under another name: a second mount, or one that tells no letters' case."""
    wanted = _identity(high)
    return wanted is not None and any(_identity(above) == wanted for above in _with_parents(low))


def _with_parents(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None  # not there yet: what is above it is looked at as well
    return found.st_dev, found.st_ino
