"""Asks the broker for the topic as a client would, and names whatever is in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from ingest.broker.access import Access, Place
from ingest.broker.faults import forbidden, named
from ingest.errors import BrokerError, BrokerRefused, TopicMissing

_MOST_SHOWN = 3
_MOST_LEADERS = 16


async def probe(access: Access, topic: str) -> None:
    """Returns where a consumer could read the topic: login, topic and the brokers that hold it are there.

    Raises:
        BrokerError: why it could not.
    """
    faults: list[BrokerError] = []
    for place in access.places:
        try:
            conn = await _dial(access, place)
        except BrokerError as error:
            faults.append(error)
            continue
        try:
            found = await _describe(conn, access, place, [topic])
            leaders = await _leaders(conn, access, place, topic, found)
        except BrokerError as error:
            faults.append(error)
            continue
        finally:
            conn.close()
        await _reach(access, place, leaders)
        return
    raise next((fault for fault in faults if isinstance(fault, BrokerRefused | TopicMissing)), faults[0])


async def _dial(access: Access, place: Place) -> AIOKafkaConnection:
    try:
        return await create_conn(place.host, place.port, **access.arguments())
    except BrokerError:
        raise
    except Exception as error:  # anything is raised for a broken, or a hostile, login
        raise await named(error, place, access) from error


async def _describe(conn: AIOKafkaConnection, access: Access, place: Place, topics: Sequence[str] | None) -> Any:
    """What the broker knows of topics; asking makes none."""
    request = MetadataRequest(list(topics) if topics is not None else None, allow_auto_topic_creation=False)
    try:
        return await conn.send(request)
    except (errors.KafkaError, OSError) as error:
        raise await named(error, place, access) from error


async def _leaders(conn: AIOKafkaConnection, access: Access, place: Place, topic: str, found: Any) -> set[Place]:
    """Where the topic's partitions are to be read.

    Raises:
        BrokerError: nowhere.
    """
    brokers = {node: Place(host, port) for node, host, port, *_ in found.brokers}
    for code, name, *_, partitions in found.topics:
        kind = errors.for_code(code)
        if name != topic or kind is errors.NoError:
            leaders = {brokers[part[2]] for part in partitions if part[2] in brokers}
            if name == topic and not leaders:
                raise BrokerError(f"the topic {topic!r} has no leader now, at any broker that {place} knows")
            if name == topic:
                return leaders
        elif kind is errors.TopicAuthorizationFailedError:
            raise forbidden(kind(topic))
        elif kind is errors.InvalidTopicError:
            raise TopicMissing(f"{topic!r} can be no topic's name")
        elif kind is not errors.UnknownTopicOrPartitionError:
            raise BrokerError(f"{place}: {topic}: {kind.__name__}")
    raise TopicMissing(f"there is no topic {topic!r} at {place}{await _alike(conn, access, place, topic)}")


async def _alike(conn: AIOKafkaConnection, access: Access, place: Place, topic: str) -> str:
    everything = await _describe(conn, access, place, None)
    names = [name for _, name, *_ in everything.topics if not name.startswith("__")]
    alike = get_close_matches(topic, names, _MOST_SHOWN, 0.6)
    return f"; there is {', '.join(map(repr, alike))}" if alike else ""


async def _reach(access: Access, through: Place, leaders: set[Place]) -> None:
    """Every broker that holds a part of the topic has to answer under the address that it is advertised by."""

    async def one(place: Place) -> None:
        try:
            (await _dial(access, place)).close()
        except BrokerError as error:
            said = f"the broker at {through} sends its clients to {place} (advertised.listeners)"
            hint = (
                "Have advertised.listeners name an address that this machine reaches and the certificate names; "
                "or make it known here (DNS, firewall)."
            )
            raise type(error)(f"{said}: {error.message}", hint=hint) from error

    elsewhere = sorted(leaders - {through})[:_MOST_LEADERS]
    found = await asyncio.gather(*map(one, elsewhere), return_exceptions=True)
    for fault in found:
        if isinstance(fault, BaseException):
            raise fault
