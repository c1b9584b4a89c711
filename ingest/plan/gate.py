"""Whether a request that failed met a fault of its own, or one of the source, which all have to wait for.

| a request met | and since then | it is |
|---|---|---|
| "ask less" (503, 429, `SlowDown`) | others were answered, and some refused | to be sent again, at the pace permitted |
| the same, `MOST_ALONE` times | others were answered, and none refused | its own fault |
| a fault (refused, broken, late, 5xx) | others were answered | its own fault |
| either | an outage came to its end | to be sent again, and nothing is charged |
| either | nothing was answered (and it is no first refusal) | not known: the gate closes, and a probe tells |
| a fault | many met one at once, or nobody listens | the source's: the gate closes |

While the gate is closed nothing goes out but probes, one at a time. An answered one opens it. Where the very first is
answered nothing was wrong with the source, unless many had failed at once. Where none is for as long as the patience
lasts, the source is lost, and with it the run; a source that never answered at all gets a few seconds only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import inf

from ingest.errors import (
    AccessDenied,
    ConnectionLost,
    ConnectionRefused,
    ConnectionTimedOut,
    NameNotResolved,
    NoSuchKey,
    ObjectArchived,
    ObjectChanged,
    RangeNotSatisfiable,
    ServerFault,
    SourceError,
    TlsError,
)
from ingest.plan.pace import Pace

FAULTS = (ConnectionLost, ConnectionRefused, ConnectionTimedOut, NameNotResolved, ServerFault, TlsError)
"""What may be the source's fault as well as a request's."""
AT_ONCE = (ConnectionRefused, NameNotResolved, TlsError)
"""What no other request would fare better with."""
ANSWERS = (AccessDenied, NoSuchKey, ObjectArchived, ObjectChanged, RangeNotSatisfiable)
"""Refusals that show a server at work."""

CROWD = 3
"""Requests that fail with nothing answered in between, from which on it is the source."""
MOST_ALONE = 5
"""Times that one request alone is asked to wait, while others are answered, before it is its own fault."""
_MOST_TRIES = 20
_MOST_EXCUSES = 10
"""Outages that one request sits out: it may be what brings the server down."""
START_PATIENCE = 3.0
"""Seconds for a source that never answered: a wrong address is to be told soon."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before the first probe and at most before any, when no pause is asked for."""
_GROWTH = 1.6
LONGEST_HOLD = 60.0
"""Seconds that a `Retry-After` is taken at its word; then a probe asks anew. Less where one proved to be wrong."""
_NEVER = -inf


class RequestKind(Enum):
    """What is asked for: an object's bytes, what it is (HEAD), or a page of the listing. A server may still give one of
    them when it has lost sight of the others."""

    BYTES = "bytes"
    FACTS = "facts"
    NAMES = "names"


class Blame(Enum):
    AGAIN = "again"
    OWN = "own"
    UNKNOWN = "unknown"


@dataclass(slots=True, eq=False)
class Trial:
    """One request whose last try failed, with `error`."""

    kind: RequestKind
    error: SourceError
    key: str | None = None
    busy: bool = False
    failed_at: float = _NEVER
    tries: int = 0
    alone: int = 0
    """Refusals while others fared better."""
    excused: int = 0
    """Outages that it sat out."""
    refusals: int = 0
    """Of all requests, up to its own last one."""


@dataclass(slots=True)
class _Witness:
    """Of one kind: when the latest request was sent that was answered, and which ones failed since anything was."""

    answered: float = _NEVER
    failing: set[Trial] = field(default_factory=set)


@dataclass(slots=True)
class Gate:
    """`patience` and times in seconds, of one monotonic clock that the caller reads."""

    patience: float
    pace: Pace = field(default_factory=Pace)
    closed: RequestKind | None = None
    """What failed; None while the gate is open."""
    lost: bool = False
    probes: int = 0
    """Failed ones, of the outage that goes on."""
    proved: bool = False
    """The source has answered something."""
    closed_at: float = _NEVER
    _crowded: bool = False
    _pause: float = FIRST_PAUSE
    _held_until: float = _NEVER
    _doubts: int = 0
    """Pauses asked for that nothing but the one request needed."""
    _outage_ended: float = _NEVER
    _crowd_ended: float = _NEVER
    _refusals: int = 0
    _dry: int = 0
    """Cuts of the pace with nothing answered in between."""
    _witnesses: dict[RequestKind, _Witness] = field(default_factory=lambda: {kind: _Witness() for kind in RequestKind})

    # What the source does.

    def answered(self, kind: RequestKind, sent_at: float) -> None:
        """A request was answered, with what it asked for or with a refusal that is none of ours."""
        self.proved = True
        self._dry = 0
        witness = self._witnesses[kind]
        witness.answered = max(witness.answered, sent_at)
        if witness.failing:
            witness.failing.clear()
        self.pace.answered(sent_at)

    def refused(self, trial: Trial, sent_at: float, now: float, retry_after: float | None) -> bool:
        """The server asked for fewer requests, or a pause. Returns whether that is news."""
        self._note(trial, now, busy=True)
        self._refusals += 1
        trial.refusals = self._refusals
        pause = min(retry_after or 0.0, self.longest_hold)
        if pause and not trial.alone:
            self._held_until = max(self._held_until, now + pause)
        news = self.pace.refused(sent_at, now, pause)
        self._dry += news
        return news

    def failed(self, trial: Trial, now: float) -> None:
        """A request met one of `FAULTS`."""
        self._note(trial, now, busy=False)
        failing = self._witnesses[trial.kind].failing
        failing.add(trial)
        if isinstance(trial.error, AT_ONCE) or len(failing) >= CROWD:
            self.close(trial.kind, now)

    def _note(self, trial: Trial, now: float, *, busy: bool) -> None:
        trial.busy, trial.failed_at = busy, now
        trial.tries += 1

    # What follows.

    def shut(self, now: float) -> bool:
        """Whether a request has to ask for its turn."""
        return self.closed is not None or self.lost or not self.pace.free or now < self._held_until

    def wait(self, now: float) -> float:
        """Seconds until the next request may start; infinite while the gate is closed."""
        if self.closed is not None:
            return inf
        return max(0.0, self._held_until - now, self.pace.wait(now))

    def judge(self, trial: Trial) -> Blame:
        """What is to become of a request that failed, when its turn has come again."""
        if trial.tries >= _MOST_TRIES:
            return Blame.OWN
        outage, crowd = self._outage_ended >= trial.failed_at, self._crowd_ended >= trial.failed_at
        if trial.excused < _MOST_EXCUSES if outage else crowd and not trial.excused:
            trial.excused += 1
            return Blame.AGAIN
        answered = self._witnesses[trial.kind].answered >= trial.failed_at
        if not trial.busy:
            return Blame.OWN if answered else Blame.UNKNOWN
        if answered:
            return self._judge_refused(trial)
        return Blame.AGAIN if self._dry < 2 and trial.tries < 2 else Blame.UNKNOWN

    def _judge_refused(self, trial: Trial) -> Blame:
        if self._refusals == trial.refusals:
            trial.alone += 1
            self._doubts += trial.alone == 1 and self._held_until >= trial.failed_at
        return Blame.OWN if trial.alone >= MOST_ALONE else Blame.AGAIN

    @property
    def longest_hold(self) -> float:
        """Seconds that a pause asked for is obeyed, at most."""
        return min(LONGEST_HOLD, self.patience) / (1 << self._doubts)

    # The outage.

    def close(self, kind: RequestKind, now: float) -> None:
        if self.closed is None:
            self.closed, self.closed_at, self.probes = kind, now, 0
            self._crowded = len(self._witnesses[kind].failing) >= CROWD
            self._pause = FIRST_PAUSE

    def next_probe(self, now: float, chance: float) -> float:
        """Seconds until the next probe; each waits longer. `chance` from 0 to 1 spreads those of many machines."""
        pause, self._pause = self._pause * (0.5 + chance), min(LONGEST_PAUSE, self._pause * _GROWTH)
        return min(max(pause, self._held_until - now), max(0.0, self.left(now)))

    def left(self, now: float) -> float:
        """Seconds of patience left."""
        whole = self.patience if self.proved or self.patience == inf else min(START_PATIENCE, self.patience)
        return self.closed_at + whole - now

    def probe_failed(self, now: float, retry_after: float | None = None) -> None:
        self.probes += 1
        if retry_after:
            self._held_until = max(self._held_until, now + min(retry_after, self.longest_hold))
        self.lost = self.lost or self.left(now) <= 0

    def probe_answered(self, sent_at: float, now: float) -> None:
        """The gate opens."""
        kind, self.closed = self.closed or RequestKind.NAMES, None
        if self.probes:
            self._outage_ended = now
        elif self._crowded:
            self._crowd_ended = now
        self.answered(kind, sent_at)
