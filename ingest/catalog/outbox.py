"""The outbox: which object versions wait for the verification service, who is at work on them, and what came of it.

A dispatcher claims rows for a while (a lease), posts them, and settles them in batches. Two dispatchers never hold one
row, and the rows of one that was killed come back: at once when its process is seen to be gone, else with the lease.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, func, or_, select, update

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.engine import within
from ingest.catalog.tables import deliveries, objects
from ingest.crashpoints import here
from ingest.liveness import is_alive
from ingest.model import Audit, DeliveryState

LEASE = timedelta(minutes=2)
"""How long a claim holds unless it is renewed."""
_PENDING = DeliveryState.PENDING.value
_RULED = (DeliveryState.DELIVERED.value, DeliveryState.REJECTED.value)
"""The service has the bytes, and has given its verdict."""
_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(1)


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
        now = datetime.now(UTC)
        free = or_(deliveries.c.claimed_until.is_(None), deliveries.c.claimed_until <= now)
        due = (
            select(deliveries.c.id)
            .where(self._waiting(), deliveries.c.next_attempt_at <= now, free)
            .order_by(
                *([deliveries.c.attempts] if untried_first else []), deliveries.c.next_attempt_at, deliveries.c.id
            )
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self.catalog.writing() as connection:
            ids = list((await connection.execute(due)).scalars())
            if not ids:
                return []
            mine = {"claimed_by": self.owner, "claimed_until": now + LEASE}
            await connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(mine))
            here("outbox.claiming")
            rows = await connection.execute(_with_object().where(deliveries.c.id.in_(ids)))
            found = {row.id: Claimed._make(row) for row in rows}
        here("outbox.claimed")
        return [found[number] for number in ids]

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Records results in one transaction, with their audit events. Returns those that were still ours: a row whose
        lease went to another dispatcher is that one's to settle."""
        if not settlements:
            return []
        now = datetime.now(UTC)
        ids = [settlement.claimed.id for settlement in settlements]
        ours = select(deliveries.c.id).where(
            deliveries.c.id.in_(ids), deliveries.c.claimed_by == self.owner, deliveries.c.state == _PENDING
        )
        async with self.catalog.writing() as connection:
            held = set((await connection.execute(ours.with_for_update())).scalars())
            taken = [settlement for settlement in settlements if settlement.claimed.id in held]
            for given_back in (True, False):
                some = [one for one in taken if _is_given_back(one) is given_back]
                if some:
                    await connection.execute(*_settling(some, now, given_back=given_back))
            here("outbox.settling")
            await within(connection, audit.appending(self.run_id, self.source_id, now, [*_audits(taken)]))
            here("outbox.audited")
        here("outbox.settled")
        return taken

    async def renew(self, ids: Collection[int]) -> None:
        """Holds these claims for another `LEASE`."""
        if not ids:
            return
        mine = and_(deliveries.c.id.in_(list(ids)), deliveries.c.claimed_by == self.owner)
        async with self.catalog.writing() as connection:
            await connection.execute(update(deliveries).where(mine).values(claimed_until=datetime.now(UTC) + LEASE))

    async def take_back(self) -> int:
        """Frees what killed processes of this machine held; returns how many rows."""
        holders = select(deliveries.c.claimed_by).where(self._waiting(), deliveries.c.claimed_by.is_not(None))
        async with self.catalog.reading() as connection:
            dead = [owner for owner in (await connection.execute(holders.distinct())).scalars() if _is_gone(owner)]
        if not dead:
            return 0
        async with self.catalog.writing() as connection:
            freed = await connection.execute(
                update(deliveries)
                .where(self._waiting(), deliveries.c.claimed_by.in_(dead))
                .values(claimed_by=None, claimed_until=None)
            )
            return int(freed.rowcount)

    async def next_due(self) -> datetime | None:
        """When the next row in nobody else's hands is due; None when none waits."""
        unclaimed = and_(self._waiting(), deliveries.c.claimed_by.is_(None))
        async with self.catalog.reading() as connection:
            query = select(func.min(deliveries.c.next_attempt_at)).where(unclaimed)
            found: datetime | None = (await connection.execute(query)).scalar()
        return found

    async def waiting_elsewhere(self) -> int:
        """How many rows wait for another address than ours: nobody delivers them."""
        elsewhere = select(func.count()).where(self._pending_elsewhere())
        async with self.catalog.reading() as connection:
            return int((await connection.execute(elsewhere)).scalar_one())

    async def take_over(self) -> int:
        """Readdresses what waits for another address to ours; returns how many rows."""
        ours = deliveries.alias("ours")
        same_version = (
            ours.c.source_id == deliveries.c.source_id,
            ours.c.key == deliveries.c.key,
            ours.c.etag == deliveries.c.etag,
        )
        stands = exists().where(*same_version, ours.c.target == self.target)
        # Of several earlier addresses, the last one speaks for a version; the others' rows go.
        newer = exists().where(*same_version, ours.c.state == _PENDING, ours.c.id > deliveries.c.id)
        elsewhere = self._pending_elsewhere()
        async with self.catalog.writing() as connection:
            moved = await connection.execute(
                update(deliveries).where(elsewhere, ~stands, ~newer).values(target=self.target)
            )
            await connection.execute(delete(deliveries).where(elsewhere))
            return int(moved.rowcount)

    async def reopen(self, states: Collection[DeliveryState]) -> int:
        """Puts rows in these states back in line, with no attempts against them; returns how many."""
        fresh = {"state": _PENDING, "attempts": 0, "next_attempt_at": datetime.now(UTC)}
        chosen = and_(
            deliveries.c.source_id == self.source_id,
            deliveries.c.target == self.target,
            deliveries.c.state.in_([state.value for state in states]),
        )
        async with self.catalog.writing() as connection:
            return int((await connection.execute(update(deliveries).where(chosen).values(fresh))).rowcount)

    def _pending_elsewhere(self) -> ColumnElement[bool]:
        return and_(
            deliveries.c.source_id == self.source_id,
            deliveries.c.state == _PENDING,
            deliveries.c.target != self.target,
        )

    def _waiting(self) -> ColumnElement[bool]:
        return and_(
            deliveries.c.source_id == self.source_id,
            deliveries.c.state == _PENDING,
            deliveries.c.target == self.target,
        )


def undelivered() -> ColumnElement[bool]:
    """Whether the service has not ruled on the object of a row of `objects`, in the version that is recorded: its copy
    must stay, also when it was given up. For any query on `objects`."""
    waiting = exists().where(
        deliveries.c.source_id == objects.c.source_id,
        deliveries.c.key == objects.c.key,
        deliveries.c.etag == objects.c.etag,
        deliveries.c.state.not_in(_RULED),
    )
    return waiting.correlate(objects)


async def totals(catalog: Catalog, source_id: int) -> dict[str, int]:
    """How many deliveries are in which state, over all targets."""
    query = (
        select(deliveries.c.state, func.count()).where(deliveries.c.source_id == source_id).group_by(deliveries.c.state)
    )
    async with catalog.reading() as connection:
        return {state: count for state, count in await connection.execute(query)}


async def of_key(catalog: Catalog, source_id: int, key: str) -> list[dict[str, Any]]:
    """The deliveries of one key, oldest first, with what the service said."""
    query = select(deliveries).where(deliveries.c.source_id == source_id, deliveries.c.key == key)
    async with catalog.reading() as connection:
        return [dict(row._mapping) for row in await connection.execute(query.order_by(deliveries.c.id))]


def _with_object() -> Any:
    same = and_(objects.c.source_id == deliveries.c.source_id, objects.c.key == deliveries.c.key)
    return select(
        deliveries.c.id,
        deliveries.c.key,
        deliveries.c.etag,
        deliveries.c.fields,
        deliveries.c.attempts,
        objects.c.etag,
        objects.c.state,
        objects.c.size,
        objects.c.digest,
        objects.c.local_path,
    ).select_from(deliveries.outerjoin(objects, same))


def _is_given_back(settlement: Settlement) -> bool:
    return settlement.state is DeliveryState.PENDING and settlement.pause is None


def _settling(
    settlements: Sequence[Settlement], now: datetime, *, given_back: bool
) -> tuple[Any, list[dict[str, Any]]]:
    changes: dict[str, Any] = {"claimed_by": None, "claimed_until": None}
    if not given_back:
        names = ("state", "next_attempt_at", "response_status", "response", "last_error", "delivered_at")
        changes |= {name: bindparam(f"new_{name}") for name in names}
        changes["attempts"] = deliveries.c.attempts + bindparam("one")
    rows = [{"wanted": one.claimed.id} | ({} if given_back else _values(one, now)) for one in settlements]
    return update(deliveries).where(deliveries.c.id == bindparam("wanted")).values(changes), rows


def _values(settlement: Settlement, now: datetime) -> dict[str, Any]:
    done = settlement.state is DeliveryState.DELIVERED
    return {
        "new_state": settlement.state.value,
        "new_next_attempt_at": now + timedelta(seconds=settlement.pause or 0.0),
        "new_response_status": settlement.status,
        "new_response": settlement.response,
        "new_last_error": settlement.error,
        "new_delivered_at": now if done else None,
        "one": int(settlement.blamed),
    }


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
