"""Whether the broker lets us in now: aiokafka asks again and again, dozens of times a second, and never says why.

While the broker refuses us, one question after another is asked with growing pauses, with the secrets of that moment,
and nobody else knocks. What is wrong has a name meanwhile, and is an error of the run when it has lasted for a minute.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from ingest.errors import BrokerError, BrokerRefused, TopicMissing
from ingest.observe.logs import log

BROKER_PATIENCE = 60.0
"""Seconds that a refusal, or a topic that is not there, is taken for something that passes."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_TURN_SECONDS = 5.0
_SETTLED_SECONDS = 1.0


@dataclass
class Link:
    """What all connections to the broker share. `probe` raises a `BrokerError` that names what is wrong."""

    probe: Callable[[], Awaitable[None]]
    login: Callable[[], Mapping[str, Any]]
    """What to log in with now."""
    patience: float
    trouble: str = ""
    """Why nothing can be read now; empty when it can."""
    is_leaving: bool = False
    _doubt: asyncio.Event = field(default_factory=asyncio.Event)
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._open.set()

    def doubt(self) -> None:
        """Something went wrong on a connection: it is asked what."""
        self._doubt.set()

    async def admits(self) -> bool:
        """Whether to knock at all. Waits for a while before it says no, unless we are leaving."""
        if self.is_leaving:
            return self._open.is_set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_TURN_SECONDS):
                await self._open.wait()
        return self._open.is_set()

    async def watch(self) -> NoReturn:
        """Names what is wrong whenever there is a doubt, until cancelled.

        Raises:
            BrokerError: the broker has refused us, or had no such topic, for as long as `patience`.
        """
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            await self._clear_up()
            await asyncio.sleep(_SETTLED_SECONDS)

    async def _clear_up(self) -> None:
        now, since, pause = asyncio.get_running_loop().time, None, _FIRST_PAUSE
        while True:
            try:
                await self.probe()
            except BrokerError as error:
                since = (since or now()) if isinstance(error, BrokerRefused | TopicMissing) else None
                if since is not None and now() - since >= self.patience:
                    raise
                self._note(error)
            else:
                if self.trouble:
                    log().info("broker_back")
                self.trouble = ""
                self._open.set()
                return
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
            pause = min(_LONGEST_PAUSE, 2 * pause)

    def _note(self, error: BrokerError) -> None:
        if isinstance(error, BrokerRefused):
            self._open.clear()
        else:
            self._open.set()
        said = f"the broker: {error.message}"
        if said != self.trouble:
            self.trouble = said
            log().error("broker_trouble", error=error.code, message=error.message, hint=error.hint)


class LinkedClient(AIOKafkaClient):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's client, which knocks only where `link` admits it, and asks for topics without making them."""

    link: Link
    topics_required: Collection[str]
    """Their absence is trouble."""

    @classmethod
    def take(cls, client: AIOKafkaClient, link: Link, *, topics: Collection[str] = ()) -> None:
        """Makes a client of aiokafka's one of these: consumers and producers make theirs themselves, and take none."""
        client.__class__ = cls
        client.link, client.topics_required = link, topics

    async def bootstrap(self) -> None:
        try:
            await super().bootstrap()
        except (KafkaError, OSError):
            raise
        except Exception as error:  # of a login, anything: the one of several servers that was not probed
            raise KafkaConnectionError(f"no login: {error}") from error

    async def _get_conn(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        known = self._conns.get((node_id, group))
        if known is not None and known.connected():
            return known
        if not await self.link.admits():
            return None
        for name, secret in self.link.login().items():
            setattr(self, f"_{name}", secret)
        try:
            found = await super()._get_conn(node_id, group=group, no_hint=no_hint)
        except Exception:  # noqa: BLE001 - of a login, anything; it would end aiokafka's tasks, and the probe names it
            found = None
        if found is None:
            self.link.doubt()
        return found

    def _on_connection_closed(self, conn: Any, reason: Any) -> None:
        super()._on_connection_closed(conn, reason)
        if reason not in (CloseReason.SHUTDOWN, CloseReason.IDLE_DROP):
            self.link.doubt()

    async def _metadata_update(self, cluster_metadata: Any, topics: Collection[str]) -> bool:
        request = MetadataRequest(list(topics) if topics else None, allow_auto_topic_creation=not self.topics_required)
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        nodes += [node for node, group in self._conns if node == "bootstrap" and group == ConnectionGroup.DEFAULT]
        for node in random.sample(nodes, len(nodes)):
            try:
                conn = await self._get_conn(node)
                found = await conn.send(request) if conn is not None else None
            except (KafkaError, TimeoutError):
                self.link.doubt()
                continue
            if found is None or not found.brokers:
                continue
            cluster_metadata.update_metadata(found)
            if any(self.cluster.partitions_for_topic(topic) is None for topic in self.topics_required):
                self.link.doubt()
            return True
        cluster_metadata.failed_update(None)
        return False
