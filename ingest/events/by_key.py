"""Turns messages into recorded objects: many at once, and those about one key one after the other.

What waits for a key that is at work is settled together, as far as it is of one kind: the bucket says what the object
is now, whatever number of events announced it.

Each key that has events has a queue, and each queue one task at most: `take` appends, `_serve` asks for the bucket's
word and hands what follows to the recorder, `recorded` counts it down, `_leave` tells who asked and puts the queue back
in line where more came meanwhile. So a later event never overtakes an earlier one of its key, and no key waits for
another.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field

from ingest.broker.messages import Event, Parser, Reading
from ingest.catalog.catalog import Catalog
from ingest.engine.record.batch_builder import Announced
from ingest.engine.record.recorder import Recorder
from ingest.errors import IngestError, Poison
from ingest.events.handler import EventHandler, Handled
from ingest.events.in_flight import InFlight
from ingest.model import CatalogRow, Outcome, Status, key_of
from ingest.observe.logs import log
from ingest.plan.event_names import EventKind
from ingest.system.failpoints import failpoint

_KEYS_AT_ONCE = 1_000
_SAID_SECONDS = 60.0
_MOST_NAMES, _MOST_SHOWN = 50, 100


@dataclass
class PassedOver:
    """What messages say that is nothing to carry out: counted, and said now and then."""

    foreign: int = 0
    """Parts of messages that are about other buckets."""
    _said_at: float = float("-inf")
    _unclear: set[str] = field(default_factory=set)

    def note(self, reading: Reading) -> None:
        if reading.foreign:
            self.foreign += len(reading.foreign)
            now = asyncio.get_running_loop().time()
            if now - self._said_at >= _SAID_SECONDS:
                self._said_at = now
                log().info("other_bucket", bucket=reading.foreign[0][:_MOST_SHOWN], passed_over=self.foreign)
        for name in reading.unclear - self._unclear if len(self._unclear) < _MOST_NAMES else ():
            self._unclear.add(name)
            log().info("event_unknown", name=name[:_MOST_SHOWN], message="not known; the bucket is asked")


@dataclass(slots=True, eq=False)
class _KeyQueue:
    """One key: the events that wait, and those that are being settled now."""

    key: str
    waiting: list[tuple[InFlight, Event]] = field(default_factory=list)
    serving: list[tuple[InFlight, Event]] = field(default_factory=list)
    object_keys: set[str] = field(default_factory=set)
    """The keys that `serving` turned out to mean."""
    unrecorded: int = 0
    error: IngestError | None = None


@dataclass
class ByKey:
    """`announced` is the batch builder's: while a key is at work, what its events say."""

    parser: Parser
    handler: EventHandler
    catalog: Catalog
    source_id: int
    recorder: Recorder
    announced: MutableMapping[str, Announced]
    in_flight: int = 0
    """Messages taken and not settled, and their bytes."""
    bytes_in_flight: int = 0
    events: int = 0
    """Events read so far."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    _queues: dict[str, _KeyQueue] = field(default_factory=dict)
    _ready: list[_KeyQueue] = field(default_factory=list)
    _recording: dict[int, tuple[object, _KeyQueue]] = field(default_factory=dict)
    """By the identity of an action that is on its way to the catalog; the action is held, so that it stays unique."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _failed: asyncio.Future[None] | None = None

    def take(self, flights: Sequence[InFlight]) -> None:
        """Starts on messages, in this order. Each is settled in its time; poison at once."""
        for flight in flights:
            self.in_flight += 1
            self.bytes_in_flight += flight.letter.size
            try:
                reading = self.parser.parse(flight.letter.value, flight.letter.headers)
            except Poison as error:
                self._settle(flight, None, error)
                continue
            events = reading.events
            self.passed_over.note(reading)
            if not events:
                self._settle(flight)
                continue
            flight.remaining, flight.key, flight.fault = len(events), events[0].key, reading.fault
            self.events += len(events)
            for event in events:
                queue = self._queues.get(event.key)
                if queue is None:
                    queue = self._queues[event.key] = _KeyQueue(event.key)
                    self._ready.append(queue)
                queue.waiting.append((flight, event))
        self._news.set()

    async def run(self) -> None:
        """Serves what was taken, until cancelled.

        Raises:
            IngestError: the disk or the database failed; nothing more is taken.
        """
        self._failed = asyncio.get_running_loop().create_future()
        starting = asyncio.create_task(self._start_ready())
        try:
            await asyncio.wait({starting, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            (starting if starting.done() else self._failed).result()
        finally:
            for task in (starting, *self._tasks):
                task.cancel()
            await asyncio.gather(starting, *self._tasks, return_exceptions=True)

    def recorded(self, outcome: Outcome) -> None:
        """For the recorder: this outcome is committed."""
        _, queue = self._recording.pop(id(outcome.action))
        queue.unrecorded -= 1
        if outcome.status is Status.FAILED and queue.error is None:
            queue.error = outcome.error
        if queue.unrecorded == 0:
            self._leave(queue)

    async def _start_ready(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._ready:
                await self.recorder.ready()
                queues, self._ready = self._ready[:_KEYS_AT_ONCE], self._ready[_KEYS_AT_ONCE:]
                rows = await self.catalog.rows_for(self.source_id, [queue.key for queue in queues])
                failpoint("events.joined")
                for queue in queues:
                    task = asyncio.create_task(self._serve(queue, rows.get(queue.key)))
                    self._tasks.add(task)
                    task.add_done_callback(self._served)

    async def _serve(self, queue: _KeyQueue, row: CatalogRow | None) -> None:
        queue.serving, queue.waiting = _of_one_kind(queue.waiting)
        event = _last_word([event for _, event in queue.serving])
        handled = await self.handler(event, row)
        queue.error = handled.error
        self._record(queue, handled)

    def _record(self, queue: _KeyQueue, handled: Handled) -> None:
        if not handled.results:
            self._leave(queue)
            return
        queue.unrecorded = len(handled.results)
        said = _announced([event for _, event in queue.serving])
        for result in handled.results:
            action = result.action
            self._recording[id(action)] = (action, queue)
            queue.object_keys.add(key_of(action))
            self.announced[key_of(action)] = said
            self.recorder.add(result)

    def _leave(self, queue: _KeyQueue) -> None:
        """All that was served is durable, or cannot be carried out: whoever asked is told."""
        served, error, queue.serving, queue.error = queue.serving, queue.error, [], None
        for key in queue.object_keys:
            self.announced.pop(key, None)
        queue.object_keys.clear()
        for flight, _ in served:
            if flight.remaining == 1:
                self._land(flight)
            flight.finish(queue.key, error)
        if queue.waiting:
            self._ready.append(queue)
            self._news.set()
        else:
            del self._queues[queue.key]

    def _settle(self, flight: InFlight, key: str | None = None, error: IngestError | None = None) -> None:
        self._land(flight)
        flight.finish(key, error)

    def _land(self, flight: InFlight) -> None:
        self.in_flight -= 1
        self.bytes_in_flight -= flight.letter.size

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self._failed and not self._failed.done():
            self._failed.set_exception(task.exception() or RuntimeError())


def _of_one_kind(
    waiting: list[tuple[InFlight, Event]],
) -> tuple[list[tuple[InFlight, Event]], list[tuple[InFlight, Event]]]:
    """What can be settled by one visit, and what must wait for the next one."""
    first = waiting[0][1]
    alike = ((event.kind, event.other_keys) == (first.kind, first.other_keys) for _, event in waiting)
    end = next((number for number, fits in enumerate(alike) if not fits), len(waiting))
    return waiting[:end], waiting[end:]


def _last_word(events: Sequence[Event]) -> Event:
    """The last one. It names no version where they differ: it may be the late double of an older one."""
    last = events[-1]
    return last if all(event.etag == last.etag for event in events) else last._replace(etag=None)


def _announced(events: Sequence[Event]) -> Announced:
    """What they say, of one key. Of a removal that names no version nothing follows for what is there now."""
    named = frozenset(event.etag for event in events if event.etag is not None)
    whatever = any(event.etag is None and event.kind is not EventKind.REMOVED for event in events)
    return Announced(dict(events[-1].fields), named, whatever)
