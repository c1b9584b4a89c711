"""A broker that goes away, or refuses us, while ``consume`` runs; and topics that are not there, go, or come later."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from ingest.demo.broker import Broker
from ingest.demo.server import free_port
from ingest.errors import ExitCode
from ingest.model import RunReport
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from tests.fixtures.endpoints import ask, until, until_counted
from tests.fixtures.events import eventually, plain, run, settings_for
from tests.fixtures.kafka_listener import PASSWORD, SCRAM, USER, Listener, filled, login, settings_at, standing_before
from tests.fixtures.servers import Bucket


@asynccontextmanager
async def consuming(settings: Settings) -> AsyncIterator[tuple[int, asyncio.Task[RunReport], Stop]]:
    port, stop = free_port(), Stop()
    running = asyncio.create_task(run(settings, stop, until_idle=None, listen=f"127.0.0.1:{port}"))
    try:
        yield port, running, stop
    finally:
        stop.request(signal.SIGTERM)
        await asyncio.wait({running})


async def topics_of(broker: Broker) -> list[str]:
    client = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await client.start()
    try:
        return list(await client.list_topics())
    finally:
        await client.close()


async def send_logged_in(listener: Listener, topic: str, password: str, key: str, bucket: str) -> None:
    known: dict[str, Any] = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": SCRAM}
    known |= {"sasl_plain_username": USER, "sasl_plain_password": password}
    async with AIOKafkaProducer(bootstrap_servers=listener.bootstrap, **known) as producer:
        name, value, _ = plain(key, bucket)
        await producer.send_and_wait(topic, value, name)


async def test_a_new_password_is_read_from_its_file_and_refusals_are_paced(
    inner: Broker, moto: Bucket, topic: str, tmp_path: Path
) -> None:
    listener = Listener(inner.advertised or 0, inner.port, {USER: PASSWORD})
    await filled(listener, inner, moto, topic)
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    files = {"kafka_sasl_password": file}
    settings = await settings_at(listener, moto, topic, tmp_path, secret_files=files, **login())
    async with standing_before(listener), consuming(settings) as (port, running, stop):
        assert await until(port, "/readyz", 200) == "ok\n"
        await until_counted(port, 'ingest_lag_messages{partition="0"} 0.0')
        listener.users = {USER: "another-canary"}
        listener.cut()
        assert "the password is not accepted" in await until(port, "/readyz", 503)
        assert "ingest_lag_messages{" not in (await ask(port, "/metrics"))[1]
        assert (await ask(port, "/healthz"))[0] == 200
        since, before = asyncio.get_running_loop().time(), listener.logins
        await eventually(lambda: listener.logins >= before + 2, running)
        passed = asyncio.get_running_loop().time() - since
        assert listener.logins - before <= 2 + passed  # each pause is longer than the one before

        file.write_text("another-canary")
        await until(port, "/readyz", 200)
        await moto.put({"b.pdf": b"b"})
        await send_logged_in(listener, topic, "another-canary", "b.pdf", moto.name)
        await until_counted(port, "ingest_downloaded_total 2.0")
        stop.request(signal.SIGTERM)
        assert (await running).exit_code == ExitCode.TERMINATED


async def test_a_refusal_that_lasts_ends_the_run(
    inner: Broker, moto: Bucket, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.broker.link.BROKER_PATIENCE", 1.0)
    listener = Listener(inner.advertised or 0, inner.port, {USER: PASSWORD})
    await filled(listener, inner, moto, topic)
    settings = await settings_at(listener, moto, topic, tmp_path, **login())
    async with standing_before(listener), consuming(settings) as (port, running, _):
        await until(port, "/readyz", 200)
        listener.impostor = True
        listener.cut()
        report = await running
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (ExitCode.SOURCE, "broker_refused")
    assert "cannot prove" in report.error.message


async def test_while_the_broker_is_away_it_is_not_ready_and_the_lag_is_not_known(
    inner: Broker, moto: Bucket, topic: str, tmp_path: Path
) -> None:
    listener = Listener(inner.advertised or 0, inner.port)
    await filled(listener, inner, moto, topic)
    settings = await settings_at(listener, moto, topic, tmp_path)
    async with consuming(settings) as (port, running, _):
        async with standing_before(listener):
            await until(port, "/readyz", 200)
            await until_counted(port, 'ingest_lag_messages{partition="0"} 0.0')
        assert "nobody listens there" in await until(port, "/readyz", 503)
        assert "ingest_lag_messages{" not in (await ask(port, "/metrics"))[1]
        async with standing_before(listener):
            assert await until(port, "/readyz", 200) == "ok\n"
            await until_counted(port, 'ingest_lag_messages{partition="0"} 0.0')
            assert not running.done()


async def test_a_topic_that_is_not_there_is_named_and_never_made(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/c.db"
    await shared_broker.create(topic, 1)
    for wrong, said in ((f"{topic}s", f"there is '{topic}'"), ("q" * 30, "no topic"), ("no topic?", "")):
        report = await run(await settings_for(moto, shared_broker, wrong, tmp_path, url))
        assert report.error is not None
        assert (report.exit_code, report.error.code) == (ExitCode.SOURCE, "topic_missing")
        assert repr(wrong) in report.error.message
        assert said in report.error.message
        assert "KAFKA_TOPIC" in report.error.hint
    assert not {f"{topic}s", "q" * 30} & {*await topics_of(shared_broker)}


async def test_a_topic_that_goes_is_waited_for_and_one_that_comes_back_is_followed(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.broker.kafka._METADATA_MS", 500)
    settings = await settings_for(moto, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/c.db")
    await shared_broker.create(topic, 1)
    await moto.put({"a.pdf": b"a"})
    async with consuming(settings) as (port, running, stop):
        await until(port, "/readyz", 200)
        await delete(shared_broker, topic)
        assert f"there is no topic '{topic}'" in await until(port, "/readyz", 503)
        assert topic not in await topics_of(shared_broker)
        await shared_broker.create(topic, 1)
        await shared_broker.send(topic, [plain("a.pdf", moto.name)])
        await until(port, "/readyz", 200)
        await until_counted(port, "ingest_downloaded_total 1.0")
        stop.request(signal.SIGTERM)
        assert (await running).exit_code == ExitCode.TERMINATED


async def test_a_topic_that_stays_away_ends_the_run(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.broker.kafka._METADATA_MS", 500)
    monkeypatch.setattr("ingest.broker.link.BROKER_PATIENCE", 1.0)
    settings = await settings_for(moto, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/c.db")
    await shared_broker.create(topic, 1)
    async with consuming(settings) as (port, running, _):
        await until(port, "/readyz", 200)
        await delete(shared_broker, topic)
        report = await running
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (ExitCode.SOURCE, "topic_missing")


async def delete(broker: Broker, topic: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await client.start()
    try:
        await client.delete_topics([topic])
    finally:
        await client.close()
