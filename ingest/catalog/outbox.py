"""The outbox: which object versions wait for the verification service, who is at work on them, and what came of it.

A dispatcher claims rows for a while (a lease), posts them, and settles them in batches. Two dispatchers never hold one
row, and the rows of one that was killed come back: at once when its process is seen to be gone, else with the lease.
Leases and pauses go by the database's clock, which all hosts share. A settlement is of one version at one address: what
became of object and row while the claim was out is looked at in the transaction that settles it.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.in_line import PUT_IN_LINE, now
from ingest.catalog.sql.driver import Dialect, Statement, Steps, read_time
from ingest.model import SUPERSEDED, Audit, DeliveryState
from ingest.plan.rulings import LONGEST_PAUSE
from ingest.system.failpoints import failpoint
from ingest.system.processes import is_alive

LEASE = timedelta(minutes=2)
"""How long a claim holds unless it is renewed."""
_LEASE_SECONDS = LEASE.total_seconds()
_PENDING = DeliveryState.PENDING.value
_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(1)

_WAITING = f"source_id = ? AND target = ? AND state = '{_PENDING}'"
_ELSEWHERE = f"source_id = ? AND target <> ? AND state = '{_PENDING}'"
_NO_OTHER_IN_HAND = (
    "NOT EXISTS (SELECT 1 FROM deliveries o "
    "WHERE o.source_id = deliveries.source_id AND o.key = deliveries.key "
    "AND o.target = deliveries.target AND o.id <> deliveries.id AND o.claimed_until > {now})"
)
"""One version of an object after the other: the newer one is not to arrive before the older one that is under way.

Only what is pending is claimed. To say so would have SQLite look by the state, at all that waits, and not by the key.
"""
_DUE = (
    f"SELECT id FROM deliveries WHERE {_WAITING} AND next_attempt_at <= {{now}} "
    f"AND (claimed_until IS NULL OR claimed_until <= {{now}}) AND {_NO_OTHER_IN_HAND} ORDER BY "
    "next_attempt_at, id LIMIT ? {skip_locked}"
)
_DUE_UNTRIED_FIRST = _DUE.replace("ORDER BY", "ORDER BY response_status IS NOT NULL, attempts,")
_CLAIM = "UPDATE deliveries SET claimed_by = ?, claimed_until = {later} WHERE id {among}"
_WITH_OBJECT = (
    "SELECT d.id, d.key, d.etag, d.fields, d.attempts, coalesce(o.version, o.etag), "
    "o.state, o.size, o.digest, o.local_path, d.response_status "
    "FROM deliveries d LEFT JOIN objects o ON o.source_id = d.source_id AND o.key = d.key WHERE d.id {among}"
)
_OF_CLAIM = _WITH_OBJECT.replace("{among}", "= ? AND d.claimed_by = ?")
_OURS = (
    f"SELECT id, target FROM deliveries WHERE claimed_by = ? AND state = '{_PENDING}' AND id {{among}} "
    "ORDER BY id {for_update}"
)
_CURRENT = (
    "SELECT d.id, coalesce(o.version, o.etag) FROM deliveries d "
    "JOIN objects o ON o.source_id = d.source_id AND o.key = d.key WHERE d.id {among}"
)
_GIVE_BACK = "UPDATE deliveries SET claimed_by = NULL, claimed_until = NULL WHERE id {among}"
_SETTLE = (
    "UPDATE deliveries SET claimed_by = NULL, claimed_until = NULL, target = ?, state = ?, next_attempt_at = {later}, "
    "response_status = ?, response = ?, last_error = ?, delivered_at = ?, attempts = attempts + ? WHERE id = ?"
)
_MAKE_ROOM = "DELETE FROM deliveries WHERE source_id = ? AND key = ? AND etag = ? AND target = ? AND id <> ?"
_RENEW = "UPDATE deliveries SET claimed_until = {later} WHERE claimed_by = ? AND id {among} RETURNING id"
_HOLDERS = f"SELECT DISTINCT claimed_by FROM deliveries WHERE {_WAITING} AND claimed_by IS NOT NULL"
_FREE = (
    f"UPDATE deliveries SET claimed_by = NULL, claimed_until = NULL WHERE {_WAITING} "
    "AND claimed_by {among} RETURNING id"
)
_NOT_SO_LATE = f"UPDATE deliveries SET next_attempt_at = {{now}} WHERE {_WAITING} AND next_attempt_at > {{later}}"
_NOT_SO_LONG = f"UPDATE deliveries SET claimed_until = {{later}} WHERE {_WAITING} AND claimed_until > {{later}}"
_NEXT_DUE = (
    f"SELECT next_attempt_at, {{now}} FROM deliveries WHERE {_WAITING} AND claimed_by IS NULL "
    f"AND {_NO_OTHER_IN_HAND} ORDER BY next_attempt_at LIMIT 1"
)
_COUNT_ELSEWHERE = (
    "SELECT state, count(*) FROM deliveries WHERE source_id = ? AND target <> ? AND state <> 'delivered' "
    "AND (last_error IS NULL OR last_error <> ?) GROUP BY state"
)
_DELIVERED = "SELECT 1 FROM deliveries WHERE source_id = ? AND target = ? AND state = 'delivered' LIMIT 1"
_SAME_VERSION = "o.source_id = deliveries.source_id AND o.key = deliveries.key AND o.etag = deliveries.etag"
# Of several earlier addresses, the last one speaks for a version, and the others' rows that wait go; what any address
# has taken is nobody's to send again.
_TAKE_OVER = (
    f"UPDATE deliveries SET target = ?, state = '{_PENDING}', attempts = 0, next_attempt_at = {{now}}, "
    "response_status = NULL WHERE source_id = ? AND target <> ? AND state {among} "
    f"AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE {_SAME_VERSION} AND (o.target = ? OR o.state = 'delivered')) "
    f"AND NOT EXISTS (SELECT 1 FROM deliveries o WHERE {_SAME_VERSION} AND o.state {{among}} "
    "AND o.id > deliveries.id) RETURNING id"
)
# What is under way to an earlier address is recorded there.
_DROP_ELSEWHERE = f"DELETE FROM deliveries WHERE {_ELSEWHERE} AND (claimed_until IS NULL OR claimed_until <= {{now}})"
_REOPEN = (
    f"UPDATE deliveries SET state = '{_PENDING}', attempts = 0, next_attempt_at = {{now}} "
    "WHERE source_id = ? AND target = ? AND state {among} RETURNING id"
)
_TOTALS = "SELECT state, count(*) FROM deliveries WHERE source_id = ? GROUP BY state"


class Claimed(NamedTuple):
    """A delivery in our hands, beside what the catalog knows of its object now (None: nothing)."""

    id: int
    key: str
    etag: str
    fields: dict[str, str]
    attempts: int
    object_etag: str | None
    object_state: str | None
    size: int | None
    digest: str | None
    local_path: str | None
    answered: int | None = None
    """The status of the last answer, of this run or an earlier one."""


class Settlement(NamedTuple):
    """What came of a claimed delivery. `pause` of None on a pending one gives it back as it was.

    `blamed` counts the attempt against the object; `pause` is in seconds.
    """

    claimed: Claimed
    state: DeliveryState
    status: int | None = None
    response: str | None = None
    error: str | None = None
    pause: float | None = None
    blamed: bool = False


@dataclass(frozen=True)
class Outbox:
    """The rows of one source for one target, in the hands of one dispatcher.

    Every method raises `DatabaseError` when the database fails; what was not settled then is delivered once more.
    """

    catalog: Catalog
    source_id: int
    target: str
    run_id: int
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{_PROCESS}:{next(_numbers)}")

    async def claim(self, limit: int, *, untried_first: bool = False) -> list[Claimed]:
        """Up to `limit` rows that are due and in nobody's hands, the longest due first."""

        def take(dialect: Dialect) -> Steps[list[Any]]:
            due = yield Statement(_DUE_UNTRIED_FIRST if untried_first else _DUE, (*self._mine, limit))
            if not due:
                return []
            ids = dialect.listed([row[0] for row in due])
            yield Statement(_CLAIM, (self.owner, _LEASE_SECONDS, ids))
            failpoint("outbox.claiming")
            found = {row[0]: row for row in (yield Statement(_WITH_OBJECT, (ids,)))}
            return [found[row[0]] for row in due]

        rows = await self.catalog.driver.write(take)
        failpoint("outbox.claimed")
        return [_as_claimed(row) for row in rows]

    async def look(self, claimed: Claimed) -> Claimed | None:
        """The claim with what the catalog knows of the object now; None when the claim is not ours any more."""
        rows = await self.catalog.driver.fetch(_OF_CLAIM, claimed.id, self.owner)
        return _as_claimed(rows[0]) if rows else None

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Records results in one transaction, with their audit events. Returns what is recorded of those that were
        still ours: a row whose lease went to another dispatcher is that one's to settle.

        What is given up for a newer version is given back where its own is the recorded one again; else the newer one
        gets its place in line. What another dispatcher has readdressed meanwhile is recorded at our address if it was
        delivered there, and given back otherwise.
        """
        if not settlements:
            return []
        at = datetime.now(UTC)
        numbers = [settlement.claimed.id for settlement in settlements]

        def settling(dialect: Dialect) -> Steps[list[Settlement]]:
            ours = yield Statement(_OURS, (self.owner, dialect.listed(numbers)))
            held = {number: target == self.target for number, target in ours}
            taken = [_where_it_was_sent(one, held[one.claimed.id]) for one in settlements if one.claimed.id in held]
            taken = yield from self._supersede(taken, dialect)
            unused = [one.claimed.id for one in taken if _is_given_back(one)]
            if unused:
                yield Statement(_GIVE_BACK, (dialect.listed(unused),))
            astray = [one.claimed for one in taken if not held[one.claimed.id] and not _is_given_back(one)]
            if astray:
                rows = [(self.source_id, one.key, one.etag, self.target, one.id) for one in astray]
                yield Statement(_MAKE_ROOM, rows=rows)
            results = [self._values(one, at, dialect) for one in taken if not _is_given_back(one)]
            if results:
                yield Statement(_SETTLE, rows=results)
            failpoint("outbox.settling")
            yield from audit.append(dialect, self.run_id, self.source_id, at, [*_audits(taken)])
            failpoint("outbox.audited")
            return taken

        settled = await self.catalog.driver.write(settling)
        failpoint("outbox.settled")
        return settled

    def _supersede(self, taken: Sequence[Settlement], dialect: Dialect) -> Steps[list[Settlement]]:
        """What really came of those that are given up for newer versions, which get their places."""
        over = {one.claimed.id: one.claimed for one in taken if one.error == SUPERSEDED}
        if not over:
            return [*taken]
        found = yield Statement(_CURRENT, (dialect.listed([*over]),))
        newer = {number: etag for number, etag in found if etag != over[number].etag}
        if newer:
            due = yield from now()
            places = [(self.source_id, over[number].key, etag, self.target, _PENDING) for number, etag in newer.items()]
            fields = [json.dumps(over[number].fields) for number in newer]
            yield PUT_IN_LINE.of([(*place, said, due, due) for place, said in zip(places, fields, strict=True)])
        again = {number for number, etag in found if number not in newer}
        return [Settlement(one.claimed, DeliveryState.PENDING) if one.claimed.id in again else one for one in taken]

    async def renew(self, ids: Collection[int]) -> set[int]:
        """Holds these claims for another `LEASE`; returns those that are ours still."""
        if not ids:
            return set()

        def hold(dialect: Dialect) -> Steps[set[int]]:
            values = (_LEASE_SECONDS, self.owner, dialect.listed(list(ids)))
            return {row[0] for row in (yield Statement(_RENEW, values))}

        return await self.catalog.driver.write(hold)

    async def take_back(self) -> int:
        """Frees what killed processes of this machine held; returns how many rows.

        What a wrong clock put off, or claimed, waits no longer than the longest pause, or the lease, allows.
        """
        holders = await self.catalog.driver.fetch(_HOLDERS, *self._mine)
        dead = [owner for (owner,) in holders if _is_gone(owner)]

        def free(dialect: Dialect) -> Steps[int]:
            yield Statement(_NOT_SO_LATE, (*self._mine, LONGEST_PAUSE))
            if not holders:
                return 0
            yield Statement(_NOT_SO_LONG, (_LEASE_SECONDS, *self._mine, _LEASE_SECONDS))
            freed = yield Statement(_FREE, (*self._mine, dialect.listed(dead)))
            return len(freed)

        return await self.catalog.driver.write(free)

    async def due_in(self) -> float | None:
        """Seconds until the next row that nobody has in hand is due; None when none waits."""
        rows = await self.catalog.driver.fetch(_NEXT_DUE, *self._mine)
        return max(0.0, (read_time(rows[0][0]) - read_time(rows[0][1])).total_seconds()) if rows else None

    async def has_delivered(self) -> bool:
        """Whether our address ever took anything of this source."""
        return bool(await self.catalog.driver.fetch(_DELIVERED, *self._mine))

    async def elsewhere(self) -> dict[DeliveryState, int]:
        """How many rows for other addresses than ours wait, were rejected, or were given up: nobody delivers them."""
        found = await self.catalog.driver.fetch(_COUNT_ELSEWHERE, *self._mine, SUPERSEDED, leisurely=True)
        return {DeliveryState(state): int(count) for state, count in found}

    async def take_over(self, states: Collection[DeliveryState] = ()) -> int:
        """Readdresses to ours what waits for another address, and what is in one of `states` there, with no attempts
        against it; returns how many rows."""
        wanted = [DeliveryState.PENDING.value, *(state.value for state in states)]

        def readdress(dialect: Dialect) -> Steps[int]:
            listed = dialect.listed(wanted)
            values = (self.target, *self._mine, listed, self.target, listed)
            moved = yield Statement(_TAKE_OVER, values)
            yield Statement(_DROP_ELSEWHERE, self._mine)
            return len(moved)

        return await self.catalog.driver.write(readdress)

    async def reopen(self, states: Collection[DeliveryState]) -> int:
        """Puts rows in these states back in line, with no attempts against them; returns how many."""
        wanted = [state.value for state in states]

        def put_back(dialect: Dialect) -> Steps[int]:
            rows = yield Statement(_REOPEN, (*self._mine, dialect.listed(wanted)))
            return len(rows)

        return await self.catalog.driver.write(put_back)

    def _values(self, settlement: Settlement, at: datetime, dialect: Dialect) -> tuple[Any, ...]:
        delivered = dialect.time(at) if settlement.state is DeliveryState.DELIVERED else None
        said = (settlement.status, settlement.response, settlement.error)
        state, pause = settlement.state.value, settlement.pause or 0.0
        return (self.target, state, pause, *said, delivered, int(settlement.blamed), settlement.claimed.id)

    @property
    def _mine(self) -> tuple[int, str]:
        return self.source_id, self.target


async def totals(catalog: Catalog, source_id: int) -> dict[str, int]:
    """How many deliveries are in which state, over all targets."""
    return dict(await catalog.driver.fetch(_TOTALS, source_id, leisurely=True))


def _as_claimed(row: tuple[Any, ...]) -> Claimed:
    return Claimed._make((*row[:3], json.loads(row[3]), *row[4:]))


def _where_it_was_sent(settlement: Settlement, at_our_address: bool) -> Settlement:
    """Of what was readdressed while it was under way only one thing is settled: that our address has taken it."""
    if at_our_address or settlement.state is DeliveryState.DELIVERED:
        return settlement
    return Settlement(settlement.claimed, DeliveryState.PENDING)


def _is_given_back(settlement: Settlement) -> bool:
    return settlement.state is DeliveryState.PENDING and settlement.pause is None


def _audits(settlements: Sequence[Settlement]) -> list[Audit]:
    said = []
    for one in settlements:
        if one.state is DeliveryState.PENDING:
            continue
        detail: dict[str, object] = {"etag": one.claimed.etag}
        if one.status is not None:
            detail["status"] = one.status
        if one.error is not None:
            detail["error"] = one.error
        what = "undeliverable" if one.state is DeliveryState.DEAD else one.state.value
        said.append(Audit(what, one.claimed.key, detail))
    return said


def _is_gone(owner: str) -> bool:
    """Whether the process that made a claim has ended. Of other machines nothing is known: their lease must run out."""
    host, pid, process, _ = owner.rsplit(":", 3)
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return process != _PROCESS if int(pid) == os.getpid() else not is_alive(int(pid))
