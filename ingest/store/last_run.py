"""What a data directory has noted of its catalog, so that one which has forgotten some of it is known (`plan.behind`).

``.ingest/last-run`` begins with the number of the newest run that ended here, in 32 bytes: earlier versions read no
more. Behind it stand the last runs, each with how many transactions it was known to have written.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ingest.plan.behind import KEPT_MARKS, Mark, Noted
from ingest.store.regular import open_regular

_NAME = "last-run"
_AHEAD_OF_ALL = 1 << 62
"""The number that says that the catalog is behind: a new one's runs catch up long before its rows do."""
_NUMBER_BYTES = 32
_MOST_BYTES = 8192


def noted(data_dir: Path) -> Noted:
    """What is there; nothing where nobody knows."""
    with suppress(OSError, ValueError):
        descriptor = open_regular(data_dir / ".ingest" / _NAME, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            written = file.read(_MOST_BYTES)
        number = int(written[:_NUMBER_BYTES])
        behind = number >= _AHEAD_OF_ALL
        return Noted(0 if behind else number, _marks(written[_NUMBER_BYTES:]), behind)
    return Noted()


def note_mark(data_dir: Path, mark: Mark) -> None:
    """What this run has written by now is recorded. A hint, as all of these: no run fails for it."""
    before = noted(data_dir)
    _write(data_dir, before._replace(marks=_with(before.marks, mark)))


def note_end(data_dir: Path, mark: Mark, *, whole: bool = False) -> None:
    """The run ended well; a `whole` one has looked at every object, and the catalog is behind no more."""
    before = noted(data_dir)
    newest = mark.run_id if whole else max(before.newest, mark.run_id)
    marks = (mark,) if whole and before.behind else _with(before.marks, mark)
    _write(data_dir, Noted(newest, marks, before.behind and not whole))


def note_behind(data_dir: Path) -> None:
    """The catalog has forgotten something, until a whole sync has ended: what was known of it counts no more."""
    _write(data_dir, Noted(behind=True))


def note_other_catalog(data_dir: Path) -> None:
    """Another catalog has these copies from now on, and counts its own runs."""
    _write(data_dir, Noted())


def _with(marks: tuple[Mark, ...], mark: Mark) -> tuple[Mark, ...]:
    others = [one for one in marks if one.run_id != mark.run_id]
    return tuple(sorted((*others, mark), reverse=True)[:KEPT_MARKS])


def _marks(written: bytes) -> tuple[Mark, ...]:
    with suppress(ValueError, TypeError, AttributeError):
        return tuple(Mark(int(i), datetime.fromisoformat(at), int(n)) for i, at, n in json.loads(written or b"[]"))
    return ()  # another version's


def _write(data_dir: Path, said: Noted) -> None:
    path = data_dir / ".ingest" / _NAME
    draft = path.with_name(f"{_NAME}.{os.getpid()}.new")
    number = _AHEAD_OF_ALL if said.behind else said.newest
    marks = [[mark.run_id, mark.started_at.isoformat(), mark.written] for mark in said.marks]
    try:
        descriptor = open_regular(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{number:<{_NUMBER_BYTES - 1}}\n{json.dumps(marks)}\n")
        os.replace(draft, path)
    except OSError:
        with suppress(OSError):
            draft.unlink()  # a full disk has taken the name, and not what it was to hold
