"""Follows the topic: each message's object is fetched, recorded and put in line for delivery; then its offset moves."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from ingest.broker.kafka import Topic, join
from ingest.catalog import overview
from ingest.catalog.deadletters import AT_ONCE, BYTES_AT_ONCE, LetterRow
from ingest.engine.options import ConsumeOptions
from ingest.engine.run import Run, execute
from ingest.errors import MessagesDied, MessagesLost
from ingest.events.dead_letter_topic import DeadLetterTopic, left
from ingest.events.in_flight import InFlight
from ingest.events.partitions import Partitions
from ingest.events.processor import Processor, processing
from ingest.events.retry_queue import RetryQueue, as_letter
from ingest.figures import Figures
from ingest.jobs.deliver import Dispatcher, dispatching
from ingest.model import LetterState, RunReport
from ingest.observe.endpoints import Endpoints, serving
from ingest.observe.metrics import COUNTERS, Snapshot
from ingest.observe.notify import Notifier
from ingest.observe.progress import Progress
from ingest.settings import Settings
from ingest.tasks.stop import NOTHING_LEFT, Stop

MOST_IN_FLIGHT = 4_000
MOST_BYTES_IN_FLIGHT = 64 << 20
"""Messages under way, and their bytes; then no more are read until half of them are done."""
DRAIN_SECONDS = 20.0
"""What is under way gets so long when the run is asked to stop; the rest is left to the next reader."""
PUBLISH_SECONDS = 3.0
"""So long the topic of dead letters gets for what is under way to it, unless it takes nothing anyway."""
_POLL_MESSAGES, _POLL_SECONDS = 500, 0.2
_COMMIT_SECONDS = 1.0
_LETTERS_SECONDS = 1.0
"""How often kept letters are looked for whose time has come."""
_STALLED_SECONDS = 60.0


@dataclass(slots=True)
class ConsumeFigures(Figures):
    messages: int
    events: int
    foreign: int
    """Events of other buckets."""
    waiting: int
    dead_letters: int
    lost: int
    """Messages that the broker removed unread."""
    unpublished: int
    """Dead letters that their topic lacks."""


@dataclass
class Consumer:
    """One member of the group at work."""

    run: Run
    options: ConsumeOptions
    processor: Processor
    partitions: Partitions
    topic: Topic
    dead_letter_topic: DeadLetterTopic
    dispatcher: Dispatcher | None
    notifier: Notifier
    messages: int = 0
    lag: dict[int, int] = field(default_factory=dict)
    _held: bool = False
    _usual_size: int = 1 << 10
    """Bytes of a message, by those that came last."""
    _turned_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    _letters_at: float = 0.0

    async def follow(self) -> None:
        """Reads until asked to stop or, with `until_idle`, until there was nothing to do for so long.

        Raises:
            IngestError: the broker refuses us; the disk failed, or the database for too long.
        """
        ending = Stop()
        endless = (
            self._read(),
            self._commit_often(),
            self.processor.failed(),
            self.topic.watch(),
            self.dead_letter_topic.run(),
        )
        tasks = [asyncio.create_task(work) for work in endless]
        publishing = tasks[-1]
        if self.dispatcher is not None:
            tasks.append(asyncio.create_task(self.dispatcher.run(ending, until_empty=False)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            self.notifier.send("STOPPING=1")
            await self.processor.settle(grace=DRAIN_SECONDS)
            await self.dead_letter_topic.end(publishing, PUBLISH_SECONDS)
        finally:
            for task in tasks[: len(endless)]:
                task.cancel()
            await asyncio.gather(*tasks[: len(endless)], return_exceptions=True)
            ending.request(NOTHING_LEFT)
            await asyncio.shield(self._wind_down(tasks[len(endless) :]))

    async def _wind_down(self, delivering: list[asyncio.Task[None]]) -> None:
        try:
            await self.processor.close()
        finally:
            stands = self.run.continuity.stands
            await (self.partitions.commit() if stands is None else self.partitions.set_back(stands))
            await asyncio.gather(*delivering)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        busy_at = loop.time()
        while not self.run.stop.requested:
            self._turned_at = loop.time()
            self.notifier.alive()
            capacity = MOST_IN_FLIGHT - self.processor.in_flight
            self._held = self._must_wait(capacity)
            self.topic.hold(self._held)
            letters = await self.topic.poll(self._most(capacity), _POLL_SECONDS)
            self.messages += len(letters)
            if letters:
                self._usual_size = 1 + sum(letter.size for letter in letters) // len(letters)
            self.processor.by_key.take(self.partitions.flights(letters))
            if not self._held:
                await self._try_letters(capacity)
            if self.options.until_idle is not None:
                if letters or await self._is_busy():
                    busy_at = loop.time()
                if loop.time() - busy_at >= self.options.until_idle.total_seconds():
                    return
            await asyncio.sleep(0)  # a poll that finds messages in memory does not let others run

    def _most(self, capacity: int) -> int:
        """How many messages to ask for: what is under way, in number and, as far as can be told before, in bytes."""
        bytes_left = MOST_BYTES_IN_FLIGHT - self.processor.bytes_in_flight
        return max(1, min(capacity, _POLL_MESSAGES, bytes_left // self._usual_size))

    def _must_wait(self, capacity: int) -> bool:
        if self.dispatcher is not None and self.dispatcher.paused:
            return True
        part = 2 if self._held else 1
        if self.processor.bytes_in_flight >= MOST_BYTES_IN_FLIGHT // part:
            return True
        return capacity < (MOST_IN_FLIGHT // 2 if self._held else 1)

    async def _try_letters(self, capacity: int) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._letters_at:
            return
        self._letters_at = now + _LETTERS_SECONDS
        most_bytes = MOST_BYTES_IN_FLIGHT - self.processor.bytes_in_flight
        rows = await self.processor.retry_queue.due(max(1, min(capacity, AT_ONCE)), min(most_bytes, BYTES_AT_ONCE))
        self.processor.by_key.take([InFlight(as_letter(row), partial(self._tried, row)) for row in rows])

    def _tried(self, row: LetterRow, flight: InFlight) -> None:
        self.processor.retry_queue.tried(row, flight)

    async def _is_busy(self) -> bool:
        """Whether something is under way, or will be soon."""
        wait_out, catalog, source_id = self.processor.outage.wait_out, self.run.catalog, self.run.source.id
        if (
            self.processor.busy
            or self.dead_letter_topic.busy
            or (await wait_out(partial(overview.letters, catalog, source_id)))[LetterState.WAITING]
        ):
            return True
        return self.dispatcher is not None and await wait_out(self.dispatcher.is_busy)

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_SECONDS)
            await self.partitions.commit()
            self.lag = await self.partitions.lag()

    def trouble(self) -> str:
        """What is wrong with the process itself; empty when it moves."""
        stalled = asyncio.get_running_loop().time() - self._turned_at
        return f"nothing was asked of the broker for {stalled:.0f} s" if stalled > _STALLED_SECONDS else ""

    def unready(self) -> str:
        """Why messages are not carried out now; empty when they are."""
        if self.run.stop.requested:
            return "stopping"
        if self.dispatcher is not None and self.dispatcher.paused:
            return "paused: the verification service is down"
        return self.topic.trouble or self.processor.trouble

    def snapshot(self) -> Snapshot:
        """The figures of now."""
        counts, retry_queue = self.run.counts, self.processor.retry_queue
        counters = {
            "messages": self.messages,
            "foreign": self.processor.by_key.passed_over.foreign,
            "downloaded": counts.downloaded,
            "downloaded_bytes": counts.bytes,
            "failed": counts.failed,
            "gone": counts.gone,
            "waiting": retry_queue.parked,
            "dead_letters": retry_queue.died,
            "lost": retry_queue.lost,
            "delivered": counts.delivered,
            "rejected": counts.rejected,
            "undeliverable": counts.dead,
        }
        paused = self.dispatcher is not None and self.dispatcher.paused
        lag = {} if self.topic.trouble else self.lag
        return Snapshot(lag, self.processor.by_key.in_flight, paused, counters)


@dataclass
class Health:
    """What is told over HTTP: from the first moment on, though the group may let its members wait."""

    run: Run
    consumer: Consumer | None = None
    """None until we are a member."""

    def trouble(self) -> str:
        return self.consumer.trouble() if self.consumer is not None else ""

    def unready(self) -> str:
        return self.consumer.unready() if self.consumer is not None else "joining the group"

    def snapshot(self) -> Snapshot:
        if self.consumer is not None:
            return self.consumer.snapshot()
        return Snapshot({}, 0, False, dict.fromkeys(COUNTERS, 0))


async def consume(
    settings: Settings,
    options: ConsumeOptions | None = None,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Follows KAFKA_TOPIC as a member of KAFKA_GROUP_ID; delivers where VERIFY_URL is set.

    Raises:
        SettingsError: KAFKA_BOOTSTRAP_SERVERS or KAFKA_TOPIC is not set.
    """
    settings.required("kafka_bootstrap_servers")
    topic, options = settings.required("kafka_topic"), options or ConsumeOptions()

    async def work(run: Run) -> None:
        retry_queue = await _follow(run, options)
        run.stop.raise_if_requested()
        if retry_queue.lost:
            raise MessagesLost(f"{retry_queue.lost} messages were removed by the broker before they were read")
        if retry_queue.died:
            raise MessagesDied(f"{retry_queue.died} messages were given up")

    arguments: dict[str, object] = {"topic": topic, "group": settings.kafka_group_id}
    return await execute("consume", settings, arguments, work, lock=None, progress=progress, stop=stop)


async def _follow(run: Run, options: ConsumeOptions) -> RetryQueue:
    """Returns what counted the messages that were not carried out."""
    notifier, health = Notifier(), Health(run)
    async with AsyncExitStack() as stack:
        if options.listen:
            endpoints = Endpoints(health.trouble, health.unready, health.snapshot)
            await stack.enter_async_context(serving(options.listen, endpoints))
        processor = await stack.enter_async_context(
            processing(run, transfers=options.transfers, patience=options.patience)
        )
        dispatcher = None
        if run.settings.verify_url:
            dispatcher = await stack.enter_async_context(dispatching(run, processor.store))
            processor.on_recorded = dispatcher.wake
        partitions = Partitions(processor.retry_queue)
        joining = stack.enter_async_context(join(run.settings.kafka, partitions.revoked, partitions.assigned))
        topic = await run.stop.during(joining)
        partitions.topic, partitions.run = topic, run.continuity
        dead_letter_topic = DeadLetterTopic(
            run.catalog, run.source.id, processor.outage, topic.give_up_on, partitions.place
        )
        processor.retry_queue.on_dead = dead_letter_topic.wake
        consumer = Consumer(run, options, processor, partitions, topic, dead_letter_topic, dispatcher, notifier)
        health.consumer = consumer
        notifier.send("READY=1")
        try:
            await consumer.follow()
        finally:
            retry_queue = processor.retry_queue
            run.report.figures = ConsumeFigures(
                messages=consumer.messages,
                events=processor.by_key.events,
                foreign=processor.by_key.passed_over.foreign,
                waiting=retry_queue.parked,
                dead_letters=retry_queue.died,
                lost=retry_queue.lost,
                unpublished=await left(run.catalog, run.source.id),
            )
        if dispatcher is not None and dispatcher.trouble is not None and not run.stop.requested:
            raise dispatcher.trouble
        return retry_queue
