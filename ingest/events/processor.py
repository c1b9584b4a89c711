"""Everything that carries out messages, wherever they come from: the topic, or the letters that were kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import inf

from ingest.broker.messages import Parser
from ingest.engine.record.batch_builder import Announced
from ingest.engine.record.patient import Outage, PatientCatalog
from ingest.engine.record.recorder import Recorder
from ingest.engine.run import Run
from ingest.engine.transfer.session import SessionOptions, transferring, without_leftovers
from ingest.events.by_key import ByKey
from ingest.events.handler import EventHandler
from ingest.events.retry_queue import RetryQueue
from ingest.model import CatalogRow, Outcome
from ingest.plan.patience import MESSAGE_PATIENCE
from ingest.source.paths import normalise_key
from ingest.source.peek import PeekingBucket
from ingest.store.files import FileStore
from ingest.tasks.turns import Turns

_FLUSH_SECONDS, _LOOK_SECONDS = 5.0, 0.02
_GATHER_SECONDS = 0.1
"""That what is downloaded waits for more to be recorded with it: somebody waits for each event."""


@dataclass
class Processor:
    """Open and at work until `close`."""

    store: FileStore
    recorder: Recorder
    by_key: ByKey
    retry_queue: RetryQueue
    outage: Outage
    on_recorded: Callable[[], None] | None = None
    """Called for each outcome that is committed."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def trouble(self) -> str:
        """What everything waits for now; empty: nothing."""
        waiting = self.recorder.copies.waiting if self.recorder.copies is not None else ""
        return self.outage.trouble or waiting or self.by_key.handler.away

    @property
    def in_flight(self) -> int:
        """Messages and letters that are not settled."""
        return self.by_key.in_flight + self.retry_queue.under_way

    @property
    def bytes_in_flight(self) -> int:
        return self.by_key.bytes_in_flight + self.retry_queue.bytes_under_way

    @property
    def busy(self) -> bool:
        """Whether a message is not settled, or a letter not written."""
        return self.in_flight > 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self.by_key.run()), asyncio.create_task(self.retry_queue.run())]

    async def failed(self) -> None:
        """Returns never.

        Raises:
            IngestError: what ended the work: the disk, or a database that was away for too long.
        """
        recording = asyncio.create_task(self.recorder.failed())
        try:
            done, _ = await asyncio.wait([recording, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            recording.cancel()
        if self.recorder.failure is not None:
            raise self.recorder.failure
        for task in done:
            task.result()

    async def settle(self, *, grace: float) -> None:
        """Waits until nothing is under way. Asked to stop, for so many seconds at most, and not while everything waits
        for the bucket or another process: then nothing could still come.

        Raises:
            IngestError: as `failed`.
        """
        failing = asyncio.create_task(self.failed())
        deadline, stop = inf, self.outage.stop
        try:
            while self.busy and not failing.done():
                if stop.requested:
                    deadline = min(deadline, asyncio.get_running_loop().time() + grace)
                    if self.by_key.handler.away or asyncio.get_running_loop().time() >= deadline:
                        break
                await asyncio.wait({failing}, timeout=_LOOK_SECONDS)
            if failing.done():
                failing.result()
        finally:
            failing.cancel()
            await asyncio.gather(failing, return_exceptions=True)

    async def close(self) -> None:
        """Abandons what is under way, and records what was finished. Again: nothing.

        Raises:
            IngestError: it could not be recorded.
        """
        if not self._tasks:
            return
        (taking, writing), self._tasks = self._tasks, []
        await _end(taking)
        try:
            await self.recorder.close()
        finally:
            deadline = asyncio.get_running_loop().time() + _FLUSH_SECONDS
            while self.retry_queue.under_way and not writing.done() and asyncio.get_running_loop().time() < deadline:
                await asyncio.wait({writing}, timeout=_LOOK_SECONDS)
            await _end(writing)
            self.retry_queue.close()


@asynccontextmanager
async def processing(
    run: Run, *, transfers: int | None = None, patience: timedelta = MESSAGE_PATIENCE, endless: bool = True
) -> AsyncIterator[Processor]:
    """Opens what messages need, and closes it. Where it is `endless`, so is the patience with a bucket that is away."""
    settings, outage, announced = run.settings, Outage(run.stop), dict[str, Announced]()
    run = replace(run, catalog=PatientCatalog.over(run.catalog, outage))
    how = SessionOptions(
        transfers=transfers,
        deliver_to=settings.verify_url,
        announced=announced,
        patience=inf if endless else None,
        interval=_GATHER_SECONDS,
    )

    async def look_up(key: str) -> CatalogRow | None:
        return (await run.catalog.rows_for(run.source.id, [key])).get(key)

    def committed(outcome: Outcome) -> None:
        by_key.recorded(outcome)
        if processor.on_recorded is not None:
            processor.on_recorded()

    async with AsyncExitStack() as stack:
        store = stack.enter_context(without_leftovers(FileStore(settings.data_dir, run.source.directory)))
        session = await stack.enter_async_context(transferring(run, PeekingBucket, store, how, committed))
        concurrency, waits = session.pool.concurrency, inf if endless else settings.patience.total_seconds()
        turns = Turns(lambda: concurrency.current)
        handler = EventHandler(session.bucket, session.fetch, session.transfer, turns, look_up, patience=waits)
        parser = Parser(run.source.bucket, normalise_key, settings.endpoint)
        by_key = ByKey(parser, handler, run.catalog, run.source.id, session.recorder, announced)
        retry_queue = RetryQueue(run.catalog, run.source.id, outage, patience=patience)
        processor = Processor(store, session.recorder, by_key, retry_queue, outage)
        processor.start()
        try:
            yield processor
        finally:
            await asyncio.shield(processor.close())


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(BaseException):
        await task
