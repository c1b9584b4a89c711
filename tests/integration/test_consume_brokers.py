"""``consume`` and its broker: one that is not there, that refuses, that must be believed, that goes away."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from ingest.catalog.catalog import Catalog
from ingest.demo.broker import Broker, Sent, broker
from ingest.demo.server import free_port
from ingest.demo.verify_service import VerifyService
from ingest.errors import ExitCode
from ingest.model import RunStatus
from ingest.tasks.stop import Stop
from tests.fixtures.catalogs import newest_run
from tests.fixtures.door import door_to
from tests.fixtures.events import eventually, plain, run, settings_for
from tests.fixtures.lines import lines_said
from tests.fixtures.servers import Bucket, Certificates


async def test_a_broker_that_is_not_there_is_a_clear_error(moto: Bucket, tmp_path: Path) -> None:
    nobody = Broker(1, tmp_path / "log")
    settings = await settings_for(moto, nobody, "t", tmp_path, f"sqlite+aiosqlite:///{tmp_path}/c.db")
    report = await run(settings)
    assert report.exit_code == ExitCode.SOURCE
    assert report.error is not None
    assert (report.error.code, "127.0.0.1:1" in report.error.message) == ("broker", True)


async def test_a_stop_while_the_group_gathers_is_obeyed(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/c.db"
    long = timedelta(minutes=3)  # the broker lets the first member wait for half of it
    settings = await settings_for(moto, shared_broker, topic, tmp_path, url, kafka_session_timeout=long)
    await shared_broker.create(topic, 1)
    stop = Stop()
    running = asyncio.create_task(run(settings, stop, until_idle=None))
    async with Catalog.open(url) as catalog:
        await eventually(lambda: newest_run(catalog), running)
    stop.request(signal.SIGTERM)
    assert (await running).exit_code == ExitCode.TERMINATED


async def test_a_broker_that_refuses_the_login_is_a_clear_error(moto: Bucket, tmp_path: Path) -> None:
    strict = Broker(free_port(), tmp_path / "broker.log", authentication=True)
    await strict.start()
    try:
        url = f"sqlite+aiosqlite:///{tmp_path}/c.db"
        login = {"kafka_sasl_username": "ingest", "kafka_sasl_password": SecretStr("canary-of-the-broker")}
        scram = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_mechanism": "SCRAM-SHA-512"}
        settings = await settings_for(moto, strict, "t", tmp_path, url, **login, **scram)
        report = await run(settings)
    finally:
        strict.stop()
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (ExitCode.SOURCE, "broker_refused")
    assert "canary" not in repr(report) + repr(settings)


async def test_a_broker_behind_tls_is_believed_by_its_certificate_alone(
    moto: Bucket, certificates: Certificates, topic: str, tmp_path: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.chain, certificates.key)
    inner = Broker(free_port(), tmp_path / "broker.log", advertised=free_port())
    await inner.start()
    url = f"sqlite+aiosqlite:///{tmp_path}/c.db"
    await moto.put({"a.pdf": b"a"})
    try:
        async with relay(inner.advertised or 0, inner.port, context):
            outer = Broker(inner.advertised or 0, inner.log_file)
            tls = {"kafka_security_protocol": "SSL"}
            stranger = await settings_for(moto, outer, topic, tmp_path, url, **tls)
            refused = await run(stranger)
            trusting = await settings_for(moto, outer, topic, tmp_path, url, kafka_ca_bundle=certificates.ca, **tls)
            await send_over_tls(outer, topic, certificates.ca, plain("a.pdf", moto.name))
            report = await run(trusting)
    finally:
        inner.stop()
    assert refused.exit_code == ExitCode.SOURCE
    assert (report.status, report.counts.downloaded) == (RunStatus.OK, 1)


@asynccontextmanager
async def relay(port: int, target: int, tls: ssl.SSLContext) -> AsyncIterator[None]:
    """Takes TLS at `port`, and speaks plain to `target`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pump(reader, onward[1]), pump(onward[0], writer))

    server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=tls)
    yield
    server.close()


async def send_over_tls(broker: Broker, topic: str, ca: Path, message: Sent) -> None:
    key, value, headers = message
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap,
        security_protocol="SSL",
        ssl_context=ssl.create_default_context(cafile=str(ca)),
    )
    await producer.start()
    await producer.send_and_wait(topic, value, key, headers=list(headers))
    await producer.stop()


async def test_a_broker_that_goes_away_is_waited_for_and_a_stop_is_obeyed(
    moto: Bucket, service: VerifyService, topic: str, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    async with broker(tmp_path / "broker") as own:
        settings = await settings_for(moto, own, topic, tmp_path / "data", url, verify_url=service.url)
        await own.create(topic, 1)
        await moto.put({"a.pdf": b"a", "b.pdf": b"b"})
        await own.send(topic, [plain("a.pdf", moto.name)])
        stop = Stop()
        running = asyncio.create_task(run(settings, stop, until_idle=None))
        await eventually(lambda: service.accepted == ["a.pdf"], running)
        own.stop()
        await own.start()  # it has forgotten everything: topic, group and offsets
        await own.create(topic, 1)
        await own.send(topic, [plain("a.pdf", moto.name), plain("b.pdf", moto.name)])
        await eventually(lambda: service.accepted == ["a.pdf", "b.pdf"], running)
        own.stop()
        stop.request(signal.SIGTERM)
        assert (await running).exit_code == ExitCode.TERMINATED


async def test_a_stop_while_the_bucket_is_away_is_obeyed_at_once(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No grace is waited for: nothing that is under way could still come. The next reader takes it."""
    monkeypatch.setattr("ingest.jobs.consume.DRAIN_SECONDS", 3600.0)
    await moto.put({"k": b"x"})
    await shared_broker.create(topic, 1)
    await shared_broker.send(topic, [plain("k", moto.name)])
    async with door_to(moto.endpoint) as door:
        settings = await settings_for(moto, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/c.db")
        settings = settings.replace(endpoint=door.endpoint)
        await door.shut()
        stop = Stop()
        with lines_said() as lines:
            running = asyncio.create_task(run(settings, stop, until_idle=None))
            await eventually(lambda: "source_away" in [line["event"] for line in lines], running)
            stop.request(signal.SIGTERM)
            report = await running
        assert (report.exit_code, report.counts.failed) == (ExitCode.TERMINATED, 0)
        await door.open()
        assert (await run(settings)).counts.downloaded == 1


async def test_a_key_that_the_server_refuses_is_not_taken_for_a_bucket_that_is_away(
    weed: Bucket, shared_broker: Broker, topic: str, tmp_path: Path
) -> None:
    """With nothing else to carry out, too: it would hold up its partition for ever."""
    await shared_broker.create(topic, 1)
    await shared_broker.send(topic, [plain("../x", weed.name)])
    settings = await settings_for(weed, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/c.db")
    report = await run(settings)
    assert (report.exit_code, report.notes["dead_letters"]) == (ExitCode.PARTIAL, 1)
