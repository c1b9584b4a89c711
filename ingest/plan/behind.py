"""Whether a catalog is behind what a data directory has seen of it: a backup was put back, or a server forgot its last.

| noted in the data directory | in the catalog | the catalog is |
|---|---|---|
| an earlier finding, and no whole sync since | whatever it is | behind |
| a run of a number | a new run gets no higher one | behind |
| a run and its counter | the run, its counter at least there | as it was |
| the same | the run, its counter further back | behind |
| the same | runs before it, and not that one | behind |
| the same | no run so old: they are trimmed after a time | as it was |
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

KEPT_MARKS = 8
"""Of the newest runs, since those of older ones can be forgotten only together with them."""


class Mark(NamedTuple):
    """What is known to be recorded: this run, begun at that time, had written so many transactions."""

    run_id: int
    started_at: datetime
    written: int


class Noted(NamedTuple):
    """What a data directory has noted of its catalog. `newest` is the number of the newest run that ended here."""

    newest: int = 0
    marks: tuple[Mark, ...] = ()
    behind: bool = False
    """It was found to be behind, and no whole sync has made up for that yet."""


class Standing(NamedTuple):
    """What a catalog says of the runs that were asked for: those it has, and the number of the first it has at all."""

    marks: Sequence[Mark] = ()
    first: int = 0


def is_behind(noted: Noted, begun: int, found: Standing) -> bool:
    """Whether the catalog, in which a run of the number `begun` has just started, has forgotten something."""
    if noted.behind or begun <= noted.newest:
        return True
    known = {(mark.run_id, mark.started_at): mark.written for mark in found.marks}
    lost = (mark for mark in noted.marks if known.get((mark.run_id, mark.started_at), -1) < mark.written)
    return any(mark.run_id >= found.first for mark in lost)
