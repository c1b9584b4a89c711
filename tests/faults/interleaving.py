"""One command is stopped at a labelled place, another one runs to its end, the first goes on: as one after the other?

The oracle is serialisability, key by key. A command works in many small transactions, so what it leaves of one key may
be as if it had come first, and of the next as if it had come second; of each key it must be one of the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.worlds import Fact, Facts, World

COMMANDS: dict[str, tuple[str, ...]] = {
    "sync": ("sync",),
    "sync-deliver": ("sync", "--deliver"),
    "backfill": ("backfill", "--since", "2020-01-01"),
    "cleanup": ("cleanup", "--older-than", "30d"),
    "cleanup-trusting": ("cleanup", "--older-than", "30d", "--trust-catalog"),
    "restore": ("restore", "--prefix", ""),
    "repair": ("verify", "--repair"),
    "hold": ("hold", "add", "k-same", "s-moves", "--reason", "audit"),
    "hold-prefix": ("hold", "add", "--prefix", "", "--reason", "audit"),
    "release": ("hold", "remove", "h-held"),
    "deliver": ("deliver",),
    "take-over": ("deliver", "--take-over"),
    "retry": ("deadletters", "retry", "--all"),
    "rename": ("source", "rename", "1", "moved.example.com:9000"),
    "attach": ("source", "attach"),
    "forget": ("source", "forget", "1", "--force"),
}
IN_A_TRANSACTION = frozenset(
    {
        "batch.rows-written", "batch.pages-written", "batch.cursors-written", "cleanup.intent-written",
        "hold.recorded", "hold.marked", "hold.written", "release.deleted", "release.marked", "release.written",
        "outbox.claiming", "outbox.settling", "outbox.audited",
    }
)  # fmt: skip
"""On SQLite nobody else writes while a process stands there, so nobody comes between."""
LOCKED = 11
GAVE_WAY = frozenset({3, 7})
"""How a command may end that found another version recorded meanwhile than it had come for."""
_SEEN_TWICE = frozenset({"downloaded", "changed", "restored", "repaired", "damaged"})
"""What two commands may both have done at the same time, and both say: they took, or looked at, one and the same."""
_VERDICTS = frozenset({"delivered", "rejected"})
_PATIENCE = 5.0
"""Seconds that the second command gets, where it is not known for what it waits; whatever they are, the end is the same."""


class End(NamedTuple):
    """How two commands ended, what they left, and what was there after the next night."""

    codes: tuple[int, int]
    """Of the first and of the second command; the second one's is `LOCKED` where it did not take part."""
    now: Facts
    next_night: Facts
    waited: bool = False
    said: str = ""


def places_of(world: World, command: str) -> list[str]:
    """Every place that the command passes when it runs alone, and the second passage where there are more."""
    world.begin()
    passed = Counter(world.run(*COMMANDS[command]).passed)
    labels = [label for label in passed if not (world.is_sqlite and label in IN_A_TRANSACTION)]
    return [place for label in labels for place in (label, f"{label}:2")[: passed[label]]]


def interleaved(world: World, first: str, place: str, second: str) -> End:
    """The first command stops there, the bucket moves on, the second runs to its end or waits, the first goes on."""
    world.begin()
    stopped = world.start(COMMANDS[first], INGEST_STOP_AT=place)
    is_held = stopped.held()  # not where it passed there fewer times than before: its batches follow the clock
    world.move()
    other = world.start(COMMANDS[second])
    for_rows = place.partition(":")[0] in IN_A_TRANSACTION
    other.until(lambda: other.code is not None or world.waits(other, for_rows=for_rows), _PATIENCE)
    waited = other.code is None
    if is_held:
        stopped.go_on()
    codes = stopped.end(), other.end()
    said = stopped.said + other.said
    return End(codes, world.facts(), _next_night(world), waited, said)


@dataclass
class Oracle:
    """What two commands leave one after the other, in any order; each order is worked out once, when it is asked for."""

    world: World
    first: str
    second: str
    _known: dict[tuple[str, ...], End] = field(default_factory=dict)

    def _orders(self, codes: tuple[int, int]) -> Iterator[End]:
        """As both ended, each command took part, or only the other one."""
        first, second = self.first, self.second
        yield self._end(first, "move", second)
        turned = self._end("move", second, first)
        yield turned._replace(codes=(turned.codes[1], turned.codes[0]))
        yield self._end("move", first, second)
        if LOCKED in codes:
            alone = first if codes[1] == LOCKED else second
            yield from (self._end(alone, "move"), self._end("move", alone))

    def _end(self, *steps: str) -> End:
        if steps not in self._known:
            self.world.begin()
            codes = []
            for step in steps:
                if step == "move":
                    self.world.move()
                else:
                    codes.append(self.world.run(*COMMANDS[step]).code or 0)
            self._known[steps] = End((codes[0], codes[-1]), self.world.facts(), _next_night(self.world))
        return self._known[steps]

    def faults(self, end: End) -> list[str]:
        """What is as in no order."""
        allowed: list[End] = []
        found: list[str] = []
        for order in self._orders(end.codes):
            allowed.append(order)
            if not (found := [*self._faults(end, allowed)]):
                break
        return found

    def _faults(self, end: End, allowed: Sequence[End]) -> Iterator[str]:
        for which, name in enumerate((self.first, self.second)):
            codes = {one.codes[which] for one in allowed} | GAVE_WAY | {LOCKED}
            if end.codes[which] not in codes:
                yield f"{name} ended with {end.codes[which]}: {end.said}"
        every = {key for one in (end, *allowed) for key in (*one.now, *one.next_night)}
        for key in sorted(every):
            now = [one.now.get(key, Fact()) for one in allowed]
            later = [one.next_night.get(key, Fact()) for one in allowed]
            found_now, found_later = end.now.get(key, Fact()), end.next_night.get(key, Fact())
            if not _is_whole(found_now):
                yield from (f"{key}: {found}" for found in _lost(_ungone(found_now), [_ungone(one) for one in now]))
            yield from (f"{key}: {found}" for found in _told(found_now, [*now, *later]))
            for found in (*_lost(found_later, later), *_told(found_later, [*now, *later])):
                yield f"{key}, after the next night: {found}"
            for delivery in found_later.deliveries:
                outdated = delivery[2] == "dead" and found_later.row[1:2] != delivery[:1]
                if not outdated and not any(delivery in one.deliveries for one in [*now, *later]):
                    yield f"{key}, after the next night: {delivery}, not one of {[one.deliveries for one in later]}"


def _next_night(world: World) -> Facts:
    world.run("sync", "--deliver")
    world.run("deliver")
    return world.facts()


def _is_whole(fact: Fact) -> bool:
    """A copy and its row that tell of one version: if it is not the newest, the next night sees that."""
    return fact.row[:1] == ("present",) and fact.row[-1] == f"md5:{fact.file}"


def _ungone(fact: Fact) -> Fact:
    """What went from the bucket in the middle may be marked as gone a night later."""
    return fact._replace(row=(*fact.row[:3], *fact.row[4:]))


def _lost(fact: Fact, same: Sequence[Fact]) -> Iterator[str]:
    """Row and file are as in no order."""
    if not any((fact.row, fact.file) == (one.row, one.file) for one in same):
        yield f"{fact.row} with a file {fact.file or '(none)'}, not one of {[(one.row, one.file) for one in same]}"


def _told(fact: Fact, ever: Sequence[Fact]) -> Iterator[str]:
    """What was told to the service and to the audit trail. It may come early: the command that goes on has seen what the
    other one did."""
    yield from (f"received as {etag}, and was {digest}" for etag, digest in fact.received if etag != digest)
    yield from _too_many("received", fact.received, [one.received for one in ever])
    yield from _too_many("the audit trail says", fact.trail, [one.trail for one in ever])  # verdicts: just below
    if _unsaid(fact) not in map(_unsaid, ever):
        yield f"verdicts {fact.deliveries}, and the audit trail says {fact.trail}"


def _unsaid(fact: Fact) -> int:
    """How many verdicts are on record and not in the audit trail; fewer than none where a source was forgotten."""
    return sum(one[2] in _VERDICTS for one in fact.deliveries) - sum(what in _VERDICTS for what in fact.trail)


def _too_many(what: str, found: Iterable[object], allowed: Sequence[Iterable[object]]) -> Iterator[str]:
    """What happened more often than it does in any order."""
    most: Mapping[object, int] = {}
    for one in allowed:
        most = Counter(most) | Counter(one)
    for thing, times in (Counter(found) - Counter(most)).items():
        if thing not in _VERDICTS and (thing not in _SEEN_TWICE or times > 1):
            yield f"{what} {thing} {times} times more than in any order"
