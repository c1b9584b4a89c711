"""What a run may go on with that another one has left: its window, and the parts of its plan.

| the run before | then |
|---|---|
| wanted something else (prefixes, globs, window) | it counts for nothing |
| only showed what it would do | it counts for nothing |
| ended well | there is nothing to go on with |
| had made no plan yet | whatever was before it counts |
| anything else | what is not done of its plan is listed, each part from its cursor on, under its window |

A window that was told as a duration (``400d``) moves on with the clock: told in the same words again it is the same
one, with the bounds that it had, unless it has moved by more than a week.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ingest.model import RunStatus, Shard

MOST_MOVED = timedelta(days=7)
"""How far a bound that was told as a duration may have moved since."""
_SELECTS = ("prefix", "include", "exclude", "filter")
_BOUNDS = ("since", "until")

Told = Mapping[str, Any]
"""The arguments of a run, as its row has them (see `SyncOptions.record`)."""
Window = tuple[datetime | None, datetime | None]


class Cursor(NamedTuple):
    """A planned shard, the last key of it that is recorded, and whether that is all of it."""

    shard: Shard
    reached: str
    done: bool


class Earlier(NamedTuple):
    """A run of the same command and source."""

    id: int
    status: str
    told: Told


def window_of(told: Told) -> Window:
    """From when on, and until when: None is no bound."""
    since, until = told.get("window") or (None, None)
    return since and datetime.fromisoformat(since), until and datetime.fromisoformat(until)


def goes_on(told: Told, now: Told) -> bool:
    """Whether a run that was told `now` does what one that was told `told` has begun."""
    if told.get("dry_run") or any((told.get(name) or None) != (now.get(name) or None) for name in _SELECTS):
        return False
    bounds = zip(_BOUNDS, window_of(told), window_of(now), strict=True)
    return all(
        then == this or (told.get(name) == now.get(name) is not None and _is_near(then, this))
        for name, then, this in bounds
    )


def _is_near(then: datetime | None, now: datetime | None) -> bool:
    return then is not None and now is not None and abs(now - then) <= MOST_MOVED


def newest_to_go_on(runs: Sequence[Earlier], now: Told, planned: Mapping[int, bool]) -> Earlier | None:
    """Of `runs`, the newest first, the one to go on with; `planned` says which of them have made a plan."""
    for run in runs:
        if goes_on(run.told, now):
            if run.status == RunStatus.OK:
                return None
            if planned.get(run.id):
                return run
    return None


def taken_over(cursors: Sequence[Cursor]) -> list[Cursor]:
    """The plan of the run that goes on: each part that is not done begins behind what is recorded of it."""
    plan = []
    for shard, reached, done in cursors:
        empty = shard.end is not None and reached >= shard.end
        plan.append(Cursor(shard if done or empty else shard._replace(start_after=reached), reached, done or empty))
    return plan
