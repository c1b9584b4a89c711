"""The topic that names objects, read through aiokafka; and the topic for what was given up.

Whatever aiokafka raises becomes a `BrokerError`. A broker that is away for a while is no error once we were connected:
aiokafka asks again and again, and its complaints become log lines, each kind at most twice a minute.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from ingest.broker.messages import UNREADABLE, Letter
from ingest.errors import BrokerError, DeadLetterRefused, SettingsError
from ingest.observe.logs import log

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    from ingest.broker.link import Link
    from ingest.settings.kafka import KafkaSettings

CONNECT_SECONDS = 20.0
_GRACE_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
"""For a commit, and for leaving: neither is waited for long, since both can be made up for."""
_UNJOINED_SECONDS = 0.5
"""For leaving a group that still gathers: the broker answers nothing before it has."""
_QUIET_SECONDS = 30.0
_METADATA_MS = 30_000
"""How often the broker is asked for the topic's partitions when nothing seems wrong."""

_FETCHED_BYTES = 16 << 20
"""Of one answer of a broker, which lie in memory until they are asked for."""
_SINGLY_SECONDS = 0.5
_LARGEST_LETTER = 64 << 20
"""Bytes up to which a dead letter is sent as it came, if the broker takes it."""

Moved = Callable[[Sequence[int]], Awaitable[None]]
"""Is told which partitions were taken away, or given."""


@dataclass
class Topic:
    """A consumer group's member. Partitions are numbers; offsets are committed by hand only."""

    name: str
    dead_letters: str
    _link: Link
    _consumer: AIOKafkaConsumer
    _producer: AIOKafkaProducer
    _committing: asyncio.Future[None] | None = None

    @property
    def trouble(self) -> str:
        """Why nothing can be read now; empty when it can."""
        return self._link.trouble

    async def watch(self) -> NoReturn:
        """Keeps `trouble` true, until cancelled.

        Raises:
            BrokerError: the broker has refused us, or had no such topic, for a minute.
        """
        await self._link.watch()

    @property
    def assigned(self) -> list[int]:
        return sorted(part.partition for part in self._consumer.assignment())

    async def poll(self, most: int, seconds: float) -> list[Letter]:
        """Up to `most` messages, in the order of their partitions; none after `seconds`.

        Raises:
            BrokerError: the broker refuses us.
        """
        try:
            return await self._fetch(most, seconds)
        except UnicodeDecodeError:
            return await self._poll_singly()

    async def _fetch(self, most: int, seconds: float, *parts: Any) -> list[Letter]:
        with _translated(self.name), suppress(TimeoutError):
            # During a rebalance aiokafka waits for its end, however long that takes.
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                found = await self._consumer.getmany(*parts, timeout_ms=round(seconds * 1000), max_records=most)
                return [
                    Letter(one.topic, one.partition, one.offset, one.key, one.value, tuple(one.headers))
                    for records in found.values()
                    for one in records
                ]
        return []

    async def _poll_singly(self) -> list[Letter]:
        """One message of each partition. A header's name that is not UTF-8 makes aiokafka fail without saying where:
        that message is stepped over, and a letter of its place is all that there is of it."""
        letters = []
        for part in sorted(self._consumer.assignment() - self._consumer.paused()):
            try:
                letters += await self._fetch(1, _SINGLY_SECONDS, part)
            except UnicodeDecodeError:
                letters += await self._step_over(part)
        return letters

    async def _step_over(self, part: Any) -> list[Letter]:
        with _translated(self.name), suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                offset = await self._consumer.position(part)
                self._consumer.seek(part, offset + 1)
                why = (UNREADABLE, b"the name of a header is not UTF-8; the message is on the topic")
                return [Letter(part.topic, part.partition, offset, None, None, (why,))]
        return []

    def hold(self, held: bool) -> None:
        """Stops, or resumes, the flow of messages; the membership goes on."""
        paused, parts = self._consumer.paused(), self._consumer.assignment()
        if held and parts - paused:
            self._consumer.pause(*(parts - paused))
        elif not held and paused & parts:
            self._consumer.resume(*(paused & parts))

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Commits where to go on, by partition.

        Raises:
            BrokerError: not taken, since the broker is away or the partitions are another member's by now.
        """
        with _translated(self.name):
            if self._committing is not None and not self._committing.done():
                raise TimeoutError("the commit before has no answer yet")
            wanted = {self._part(number): position for number, position in positions.items()}
            self._committing = committing = asyncio.ensure_future(self._consumer.commit(wanted))
            committing.add_done_callback(_heard)
            # Not cancelled: aiokafka's own task inside would go on, and nobody would hear of its failure.
            await asyncio.wait({committing}, timeout=_ANSWER_SECONDS)
            if not committing.done():
                raise TimeoutError
            committing.result()

    def give_up_commit(self) -> None:
        """One that has no answer yet is not waited for any more."""
        if self._committing is not None:
            self._committing.cancel()

    async def give_up_on(self, letter: Letter, reason: str) -> None:
        """Writes a message as it came to the topic of dead letters, with the reason in its headers; without its bytes
        where they are too large for that topic.

        Raises:
            DeadLetterRefused: the topic does not exist, or takes nothing from us. BrokerError: the broker is away.
        """
        from aiokafka import errors

        origin = f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
        told = [("ingest_reason", reason.encode()), ("ingest_origin", origin)]
        with _translated(self.dead_letters), _refusals(self.dead_letters):
            try:
                # aiokafka sends nothing that has neither key nor value, though it may well receive it.
                value = b"" if letter.key is None and letter.value is None else letter.value
                headers = [*letter.headers, *told]
                await self._producer.send_and_wait(self.dead_letters, value, letter.key, headers=headers)
            except (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError):
                told.append(("ingest_left_out", b"the message is too large for this topic"))
                await self._producer.send_and_wait(self.dead_letters, b"", headers=told)

    def lag(self, positions: Mapping[int, int]) -> dict[int, int]:
        """For each partition: messages between the position given and the newest known to the broker; none while there
        is trouble, for what is known is old by then."""
        if self.trouble:
            return {}
        newest = {number: self._consumer.highwater(self._part(number)) for number in self.assigned}
        return {number: max(0, high - positions.get(number, 0)) for number, high in newest.items() if high is not None}

    async def committed(self, partition: int) -> int | None:
        """The group's position; None where it has none."""
        with _translated(self.name):
            found: int | None = await self._consumer.committed(self._part(partition))
            return found

    async def oldest(self, partitions: Sequence[int]) -> dict[int, int]:
        """By partition: the offset of the oldest message that the broker still has.

        Raises:
            BrokerError: it does not say.
        """
        with _translated(self.name):
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await self._consumer.beginning_offsets([self._part(number) for number in partitions])
            return {part.partition: offset for part, offset in found.items()}

    @property
    def partitions(self) -> int:
        """How many the topic has, as far as is known; 0: nothing is."""
        return len(self._consumer.partitions_for_topic(self.name) or ())

    def _part(self, number: int) -> Any:
        from aiokafka import TopicPartition

        return TopicPartition(self.name, number)


def _heard(done: asyncio.Future[None]) -> None:
    """Whoever asked may have gone: a failure is no surprise of the event loop's then."""
    if not done.cancelled():
        done.exception()


@asynccontextmanager
async def join(settings: KafkaSettings, revoked: Moved, assigned: Moved) -> AsyncIterator[Topic]:
    """Joins the consumer group and waits for its partitions; leaves it at the end.

    Raises:
        BrokerError: nobody answers at KAFKA_BOOTSTRAP_SERVERS, we are refused, or there is no such topic.
        SettingsError: not installed.
    """
    _require_aiokafka()
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    from ingest.broker.access import Access
    from ingest.broker.link import BROKER_PATIENCE, Link, LinkedClient
    from ingest.broker.probe import probe

    topic, session = settings.topic, settings.session_timeout.total_seconds()
    with ExitStack() as known:
        access = Access.of(settings, known)
        await probe(access, topic)
        common = {"bootstrap_servers": list(map(str, access.places)), "metadata_max_age_ms": _METADATA_MS}
        common |= access.arguments()
        consumer = AIOKafkaConsumer(
            group_id=settings.group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=round(session * 1000),
            heartbeat_interval_ms=round(session * 1000 / 6),
            fetch_max_wait_ms=100,
            fetch_max_bytes=_FETCHED_BYTES,
            **common,
        )
        producer = AIOKafkaProducer(acks="all", max_request_size=_LARGEST_LETTER, **common)
        link = Link(partial(probe, access, topic), access.login if access.logs_in else dict, BROKER_PATIENCE)
        LinkedClient.take(consumer._client, link, topics=[topic])
        LinkedClient.take(producer.client, link)
        consumer.subscribe([topic], listener=_listener(revoked, assigned))
        patience = _UNJOINED_SECONDS
        try:
            with _translated(settings.servers):
                await asyncio.wait_for(producer.start(), CONNECT_SECONDS)
                await asyncio.wait_for(consumer.start(), 3 * CONNECT_SECONDS)
            patience = _ANSWER_SECONDS
            joined = Topic(topic, settings.dead_letter_topic, link, consumer, producer)
            try:
                yield joined
            finally:
                joined.give_up_commit()
        finally:
            link.is_leaving = True
            patience = _UNJOINED_SECONDS if link.trouble else patience
            for member, client in ((consumer, consumer._client), (producer, producer.client)):
                await _leave(member, client, patience)


async def _leave(member: Any, client: Any, patience: float) -> None:
    """Closes a member. Leaving is a courtesy, its faults are nobody's: the session ends by itself."""
    leaving = asyncio.ensure_future(member.stop())
    # Not awaited itself: aiokafka lets the cancellation of its own tasks escape as ours.
    await asyncio.wait({leaving}, timeout=patience)
    if not leaving.done():
        leaving.cancel()
        await asyncio.wait({leaving})
        sending = getattr(getattr(member, "_sender", None), "sender_task", None)
        if sending is not None:  # it would go on, and send what nobody waits for any more
            sending.cancel()
            await asyncio.wait({sending})
        await client.close()  # what `stop` has not come to


def _require_aiokafka() -> None:
    try:
        import aiokafka  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise SettingsError("reading events needs aiokafka", hint="pip install 'ingest[kafka]'") from error
    _route_logs()


def _listener(revoked: Moved, assigned: Moved) -> Any:
    from aiokafka import ConsumerRebalanceListener

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
        async def on_partitions_revoked(self, parts: Sequence[Any]) -> None:
            await revoked([part.partition for part in parts])

        async def on_partitions_assigned(self, parts: Sequence[Any]) -> None:
            await assigned([part.partition for part in parts])

    return Listener()


@contextmanager
def _translated(what: str) -> Iterator[None]:
    from aiokafka import errors

    from ingest.broker.faults import FORBIDDEN, forbidden

    try:
        yield
    except FORBIDDEN as error:
        raise forbidden(error) from error
    except (errors.KafkaError, ssl.SSLError, OSError) as error:
        # A time-out of asyncio is an OSError as well, and says nothing.
        raise BrokerError(f"{what}: {str(error).splitlines()[0] if str(error) else 'no answer in time'}") from error


@contextmanager
def _refusals(topic: str) -> Iterator[None]:
    """What waiting for the broker does not change."""
    from aiokafka import errors

    final = (
        errors.UnknownTopicOrPartitionError,
        errors.InvalidTopicError,
        errors.PolicyViolationError,
        errors.TopicAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.MessageSizeTooLargeError,
        errors.RecordListTooLargeError,
    )
    try:
        yield
    except final as error:
        raise DeadLetterRefused(f"{topic}: {type(error).__name__}") from error


class _Complaints(logging.Handler):
    """aiokafka's warnings as our log lines; one that repeats itself is not repeated."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._said.get(str(record.msg), -_QUIET_SECONDS) >= _QUIET_SECONDS:
            self._said[str(record.msg)] = now
            log().warning("kafka", message=record.getMessage())


def _route_logs() -> None:
    logger = logging.getLogger("aiokafka")
    if not any(isinstance(handler, _Complaints) for handler in logger.handlers):
        logger.addHandler(_Complaints())
        logger.setLevel(logging.WARNING)
        logger.propagate = False
