"""Takes deliveries from the outbox, posts them several at once, and settles what came of them in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field

from ingest.catalog.catalog import Catalog, Source
from ingest.catalog.outbox import LEASE, Claimed, Outbox, Settlement
from ingest.delivery.service import Answer, Service, Submission, WrongBytes
from ingest.engine.record.copies import Copies
from ingest.engine.record.patient import MOVED
from ingest.errors import (
    DatabaseError,
    DiskError,
    IngestError,
    LockedError,
    NoSuchKey,
    ObjectArchived,
)
from ingest.model import SUPERSEDED, Counts, DeliveryState, LocalCopy, State
from ingest.observe.logs import log
from ingest.outbox.judge import Judge, given_up
from ingest.plan.breaker import Breaker, Circuit
from ingest.plan.rulings import Ruling
from ingest.store.files import FileStore
from ingest.system.failpoints import failpoint
from ingest.tasks.stop import Stop

IN_HAND = 256
"""Rows claimed at once; more are claimed when half of them are settled."""
SETTLE_BATCH, SETTLE_SECONDS = 64, 0.05
"""Results that are settled at once, and the seconds that fewer wait for more."""
POLL_SECONDS = 5.0
"""After which an idle dispatcher looks for what other processes put in line."""
SOON = 30.0
"""Seconds without any progress after which a run that drains leaves the rest to the next one."""
GRACE = 5.0
"""Seconds that requests under way get when the run is asked to stop."""
_RENEW_SECONDS = LEASE.total_seconds() / 3
_BUSY_SECONDS = 1.0
_DATABASE_PAUSE = 2.0
_AGAIN_SECONDS = 1.0
"""After which a copy is looked at again that another process was changing."""

SingleRefetch = Callable[[str, str], Awaitable[LocalCopy]]
"""Brings this version of a key back into the store. Raises `IngestError` when it cannot."""


@dataclass
class Dispatcher:
    """Delivers to one service from one source's outbox; `counts` gets what becomes of it.

    `recall` brings back a copy that is missing or damaged; without it such a delivery is given up.
    `limit` bounds how many deliveries are concluded; `patience` is in seconds.
    """

    catalog: Catalog
    source: Source
    store: FileStore
    copies: Copies
    service: Service
    run_id: int
    recall: SingleRefetch | None = None
    counts: Counts = field(default_factory=Counts)
    limit: int | None = None
    patience: float = SOON
    breaker: Breaker = field(default_factory=Breaker)
    in_flight: int = 0
    """Requests under way."""
    on_concluded: Callable[[Settlement], None] | None = None
    """Sees each delivery that is delivered, rejected or given up, once that is recorded."""
    superseded: int = 0
    """Of the dead: a newer version stands in line itself."""

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.catalog, self.source.id, self.service.target, self.run_id)
        self.postponed: set[int] = set()
        """Rows that failed in this run, and wait for another attempt."""
        self.judge = Judge(self.service.shown, self.breaker)
        self._is_known = False
        """Whether the judge was told of what this address took before."""
        self._in_hand: dict[int, Claimed] = {}
        self._queue: asyncio.Queue[Claimed] = asyncio.Queue()
        self._results: list[Settlement] = []
        self._news, self._full = asyncio.Event(), asyncio.Event()
        self._look_at = self._progress_at = self._renew_at = 0.0
        self._held_until = 0.0
        """Until then all that is in hand is ours."""
        self._woken = False
        self._came_short = True
        """The last claim found less than it asked for."""
        self._defect: BaseException | None = None
        self._doubt = asyncio.Lock()
        """Held by the one worker that looks again at a copy."""

    @property
    def paused(self) -> bool:
        """Whether the circuit is open: nothing but a probe now and then is sent."""
        return self.breaker.circuit is not Circuit.CLOSED

    @property
    def trouble(self) -> IngestError | None:
        """Why the circuit opened, until a delivery succeeds again."""
        return self.judge.trouble

    @property
    def concluded(self) -> int:
        return self.counts.delivered + self.counts.rejected + self.counts.dead

    def wake(self) -> None:
        """New rows are in line: looks at once."""
        self._woken = True
        self._news.set()
        self._full.set()

    async def run(self, stop: Stop, until_empty: bool) -> None:
        """Delivers until asked to stop or, with `until_empty`, until nothing is left that is due soon.

        Raises:
            DatabaseError: with `until_empty`; otherwise the database is waited for, unless it is another one by now.
            What was not settled then is delivered once more, when its lease has run out.
        """
        workers = [asyncio.create_task(self._work()) for _ in range(self.service.connections)]
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self.wake())
        self._progress_at = self._now()
        try:
            while not stop.requested:
                try:
                    if not await self._turn(until_empty):
                        break
                except MOVED:
                    raise
                except DatabaseError as error:
                    if until_empty:
                        raise
                    log().error("outbox_failed", error=error.code, message=error.message)
                    await asyncio.wait({stopping}, timeout=_DATABASE_PAUSE)
        finally:
            stopping.cancel()
            await asyncio.shield(self._wind_down(workers))

    async def _turn(self, until_empty: bool) -> bool:
        """Settles, claims, and waits for something to happen; False when nothing will."""
        self._news.clear()
        self._full.clear()
        await self._settle()
        if self._defect is not None:
            raise self._defect
        if not self._is_known:
            self.judge.verdicts.ever, self._is_known = await self.outbox.has_delivered(), True
        if self._now() >= self._renew_at:
            now = self._now()
            ours = await self.outbox.renew(self._in_hand)
            self._renew_at, self._held_until = now + _RENEW_SECONDS, now + LEASE.total_seconds()
            for number in self._in_hand.keys() - ours:
                self._in_hand.pop(number)
            if self._came_short:  # with much in line the search would cost, and there is enough to do
                await self.outbox.take_back()
        await self._claim()
        if 0 < len(self._in_hand) <= len(self.judge.verdicts.held):  # nothing else is left to try
            self._results += self.judge.end_row()
            await self._settle()
        if not self._in_hand:
            due = await self._next_due()
            if until_empty and (due is None or due > self._progress_at + self.patience or self._capacity() <= 0):
                return False
            until = self.breaker.wait(self._now()) if self.paused else POLL_SECONDS
            self._look_at = min(self._now() + until, due if due is not None else float("inf"))
        idle = min(_RENEW_SECONDS, max(0.0, self._look_at - self._now()))
        await _wait(self._news, _BUSY_SECONDS if self._in_hand else idle)
        if self._in_hand:
            await _wait(self._full, SETTLE_SECONDS)
        return True

    def _capacity(self) -> int:
        left = IN_HAND if self.limit is None else self.limit - self.concluded
        return min(IN_HAND, left) - len(self._in_hand)

    async def _claim(self) -> None:
        now, capacity = self._now(), self._capacity()
        if (now < self._look_at and not self._woken) or self.breaker.wait(now) > 0:
            return
        if self.paused:
            capacity = 0 if self._in_hand else min(capacity, 1)
        elif len(self._in_hand) > IN_HAND // 2:
            return
        if capacity <= 0:
            return
        self._woken = False  # before the question: what comes while it is answered counts
        # What failed before may be at fault itself: it makes a poor probe.
        claimed = await self.outbox.claim(capacity, untried_first=self.paused)
        self._came_short = len(claimed) < capacity
        if self._came_short:
            self._look_at = now + POLL_SECONDS
        if not claimed and self.paused:
            self.breaker.nothing_to_probe_with()
        for one in claimed:
            self._in_hand[one.id] = one
            self._queue.put_nowait(one)

    async def _next_due(self) -> float | None:
        """When there is something to do again, by the loop's clock; None when nothing waits."""
        due = await self.outbox.due_in()
        now = self._now()
        return None if due is None else now + max(due, self.breaker.wait(now))

    async def is_busy(self) -> bool:
        """Whether something is under way, or will be within `patience`.

        Raises:
            DatabaseError: it cannot be told.
        """
        due = None if self._in_hand else await self._next_due()
        return bool(self._in_hand) or (due is not None and due <= self._now() + self.patience)

    async def _settle(self) -> None:
        results = self._results[:]
        if not results:
            return
        for settlement in await self.outbox.settle(results):
            self._count(settlement)
        del self._results[: len(results)]
        for settlement in results:
            self._in_hand.pop(settlement.claimed.id, None)

    def _count(self, settlement: Settlement) -> None:
        number = settlement.claimed.id
        self.postponed.discard(number)
        if settlement.state is DeliveryState.PENDING:
            if settlement.pause is not None:
                self.postponed.add(number)
            return
        self.judge.forget(number)
        self._progress_at = self._now()
        if self.on_concluded is not None:
            self.on_concluded(settlement)
        match settlement.state:
            case DeliveryState.DELIVERED:
                log().debug("delivered", key=settlement.claimed.key, status=settlement.status)
                self.counts.delivered += 1
            case DeliveryState.REJECTED:
                self.counts.rejected += 1
            case _:
                self.counts.dead += 1
                self.superseded += settlement.error == SUPERSEDED

    async def _work(self) -> None:
        while True:
            claimed = await self._queue.get()
            self.in_flight += 1
            try:
                settlements = await self._deliver(claimed)
            except Exception as defect:  # noqa: BLE001 - it ends the run, with what was finished recorded
                self._defect = defect
                settlements = [Settlement(claimed, DeliveryState.PENDING)]
            finally:
                self.in_flight -= 1
            self._results += settlements
            self._news.set()
            if len(self._results) >= SETTLE_BATCH or self._queue.qsize() + self.in_flight == 0:
                self._full.set()

    async def _deliver(self, claimed: Claimed) -> list[Settlement]:
        """What came of it: of this very version, or nothing."""
        if self._in_hand.get(claimed.id) is not claimed or self._now() >= self._held_until:
            # Another's by now, should this process have stood still.
            return [Settlement(claimed, DeliveryState.PENDING)]
        if claimed.object_etag != claimed.etag:
            return [_outdated(claimed)]
        try:
            with self._opened(claimed) as descriptor:
                return await self._post(claimed, descriptor)
        except (OSError, DiskError, WrongBytes):
            pass  # its file may have changed since the claim
        try:
            return await self._look_again(claimed) or await self._bring_back(claimed)
        except (LockedError, DatabaseError) as error:
            log().info("delivery_postponed", key=claimed.key, message=error.message)
            said = f"{error.code}: {error.message}"
            return [Settlement(claimed, DeliveryState.PENDING, error=said, pause=_AGAIN_SECONDS)]

    async def _look_again(self, claimed: Claimed) -> list[Settlement]:
        """With nobody between a file and its row, the file is what the row says, or damaged: then nothing comes of it.

        Raises:
            LockedError: somebody is. DatabaseError: the row cannot be read.
        """
        try:
            with ExitStack() as stack:
                async with self._doubt, self.copies.still():
                    now = await self.outbox.look(claimed)
                    if now is None:
                        return [Settlement(claimed, DeliveryState.PENDING)]
                    if now.object_etag != now.etag:
                        return [_outdated(now)]
                    descriptor = stack.enter_context(self._opened(now))
                return await self._post(now, descriptor)
        except (OSError, DiskError, WrongBytes) as error:
            log().warning("copy_unusable", key=claimed.key, message=str(error))
            return []

    async def _bring_back(self, claimed: Claimed) -> list[Settlement]:
        if self.recall is None:
            return [given_up(claimed, "its copy is missing or damaged")]
        said = "its copy does not stay what it is"
        try:
            await self.recall(claimed.key, claimed.etag)
            if settlements := await self._look_again(claimed):
                return settlements
        except (NoSuchKey, ObjectArchived) as error:
            said = f"its copy is missing or damaged, and cannot be brought back: {error.message}"
            return [given_up(claimed, said)]
        except (LockedError, DatabaseError):
            raise
        except IngestError as error:
            said = f"{error.code}: {error.message}"
        now = await self.outbox.look(claimed)
        if now is not None and now.object_etag != now.etag:
            return [_outdated(now)]
        return [self.judge.again(claimed, Answer(Ruling.FAULT), said)]

    def _opened(self, claimed: Claimed) -> AbstractContextManager[int]:
        if claimed.object_state != State.PRESENT or claimed.local_path is None or claimed.size is None:
            raise FileNotFoundError("there is no local copy")
        failpoint("delivery.opening")
        return self.store.open_copy(claimed.local_path)

    async def _post(self, claimed: Claimed, descriptor: int) -> list[Settlement]:
        if not self.breaker.may_start(self._now()):
            return [Settlement(claimed, DeliveryState.PENDING)]
        failpoint("delivery.opened")
        size, sent = claimed.size or 0, self._now()
        try:
            submission = Submission(claimed.key, claimed.etag, size, claimed.digest, claimed.fields)
            answer = await self.service.post(submission, descriptor)
        except BaseException:
            self.breaker.unused()
            raise
        failpoint("delivery.answered")
        return self.judge.settle(claimed, answer, sent)

    async def _wind_down(self, workers: list[asyncio.Task[None]]) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
        deadline = self._now() + GRACE
        while self.in_flight and self._now() < deadline:
            self._news.clear()
            await _wait(self._news, deadline - self._now())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._results += self.judge.end_row()
        settled = {settlement.claimed.id for settlement in self._results}
        left = [claimed for number, claimed in self._in_hand.items() if number not in settled]
        self._results += [Settlement(claimed, DeliveryState.PENDING) for claimed in left]
        await self._settle()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _outdated(claimed: Claimed) -> Settlement:
    if claimed.object_etag is None:
        return given_up(claimed, "not in the catalog")
    log().info("delivery_superseded", key=claimed.key, etag=claimed.etag)
    return Settlement(claimed, DeliveryState.DEAD, error=SUPERSEDED)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
