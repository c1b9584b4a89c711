"""``consume`` and a listener that lets clients in as Apache Kafka does: each way in, and each thing in the way by name."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from ingest.broker.access import Access
from ingest.broker.probe import probe
from ingest.demo.broker import Broker
from ingest.errors import BrokerUntrusted, ExitCode
from ingest.model import RunReport, RunStatus
from ingest.testing.connections import listening
from tests.fixtures.events import run, settings_for
from tests.fixtures.kafka_listener import PASSWORD, SCRAM, USER, Listener, filled, login, settings_at, standing_before
from tests.fixtures.servers import Bucket, Certificates


def context_of(certificates: Certificates, clients: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.chain, certificates.key)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


WAYS_IN = [(mechanism, tls) for mechanism in ("PLAIN", "SCRAM-SHA-256", SCRAM, "OAUTHBEARER") for tls in (False, True)]


def trusting(certificates: Certificates, mechanism: str, tls: bool) -> dict[str, Any]:
    known = login("SASL_SSL" if tls else "SASL_PLAINTEXT", mechanism) | {"kafka_sasl_token": SecretStr(PASSWORD)}
    return known | ({"kafka_ca_bundle": certificates.ca} if tls else {})


@pytest.mark.parametrize(("mechanism", "tls"), WAYS_IN)
async def test_each_login_lets_us_in(
    mechanism: str, tls: bool, inner: Broker, moto: Bucket, certificates: Certificates, topic: str, tmp_path: Path
) -> None:
    context = context_of(certificates) if tls else None
    listener = Listener(inner.advertised or 0, inner.port, {USER: PASSWORD}, (mechanism,), context)
    await filled(listener, inner, moto, topic)
    settings = await settings_at(listener, moto, topic, tmp_path, **trusting(certificates, mechanism, tls))
    async with standing_before(listener):
        with ExitStack() as known:
            await probe(Access.of(settings.kafka, known), topic)
    assert (listener.logins, listener.refused) == (1, 0)


@pytest.mark.parametrize(("mechanism", "tls"), [WAYS_IN[0], WAYS_IN[2], WAYS_IN[5], WAYS_IN[7]])
async def test_a_run_that_logs_in(
    mechanism: str, tls: bool, inner: Broker, moto: Bucket, certificates: Certificates, topic: str, tmp_path: Path
) -> None:
    context = context_of(certificates) if tls else None
    listener = Listener(inner.advertised or 0, inner.port, {USER: PASSWORD}, (mechanism,), context)
    await filled(listener, inner, moto, topic)
    async with standing_before(listener):
        known = trusting(certificates, mechanism, tls)
        report = await run(await settings_at(listener, moto, topic, tmp_path, **known))
    assert (report.status, report.error, report.counts.downloaded) == (RunStatus.OK, None, 1)
    assert (listener.logins > 1, listener.refused, listener.asked_to_create) == (True, 0, 0)


async def test_a_certificate_of_ours_lets_us_in(
    inner: Broker, moto: Bucket, certificates: Certificates, topic: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    authority.issue_cert("ingest.example.com").private_key_and_cert_chain_pem.write_to_path(tmp_path / "ours.pem")
    listener = Listener(inner.advertised or 0, inner.port, tls=context_of(certificates, tmp_path / "clients.pem"))
    await filled(listener, inner, moto, topic)
    ours = {"kafka_security_protocol": "SSL", "kafka_ca_bundle": certificates.ca}
    async with standing_before(listener):
        without = await run(await settings_at(listener, moto, topic, tmp_path / "without", **ours))
        shown = ours | {"kafka_client_cert": tmp_path / "ours.pem"}
        report = await run(await settings_at(listener, moto, topic, tmp_path / "with", **shown))
    assert_named(without, "broker_tls", "wants a certificate of ours", "KAFKA_CLIENT_CERT")
    assert (report.status, report.counts.downloaded) == (RunStatus.OK, 1)


def assert_named(report: RunReport, code: str, *words: str) -> None:
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (ExitCode.SOURCE, code), report.error.message
    for word in words:
        assert word in f"{report.error.message} {report.error.hint}"
    assert "canary" not in repr(report)


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "password": ({}, login(password="canary-but-wrong"), ("broker_refused", "'ingest'", SCRAM, "KAFKA_SASL_PASSWORD")),
    "password, PLAIN": (
        {"mechanisms": ("PLAIN",)}, login(mechanism="PLAIN", password="canary-no"), ("broker_refused", "not accepted"),
    ),
    "token": (
        {"mechanisms": ("OAUTHBEARER",)},
        login(mechanism="OAUTHBEARER") | {"kafka_sasl_token": SecretStr("canary-old")},
        ("broker_refused", "token is not accepted", "KAFKA_SASL_TOKEN"),
    ),
    "mechanism": (
        {"mechanisms": ("PLAIN", "SCRAM-SHA-256")}, login(),
        ("broker_refused", f"does not take {SCRAM}", "PLAIN, SCRAM-SHA-256", "KAFKA_SASL_MECHANISM"),
    ),
    "a login that nobody wants": ({"users": {}}, login(), ("broker_refused", "takes no login", "KAFKA_SECURITY_PROTOCOL=PLAINTEXT")),
    "no login": ({}, {}, ("broker_refused", f"wants a login ({SCRAM})", "SASL_PLAINTEXT")),
    "impostor": ({"impostor": True}, login(), ("broker_refused", "cannot prove that it knows the password")),
    "TLS where there is none": (
        {}, login("SASL_SSL"), ("broker_tls", "does not speak TLS", "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT"),
    ),
    "TLS where there is none, no login": (
        {"users": {}}, {"kafka_security_protocol": "SSL"}, ("broker_tls", "does not speak TLS", "=PLAINTEXT"),
    ),
    "no TLS where there is": ({"tls": True}, login(), ("broker_tls", "speaks TLS", "KAFKA_SECURITY_PROTOCOL=SASL_SSL")),
    "authority": ({"tls": True}, login("SASL_SSL"), ("broker_tls", "not trusted", "KAFKA_CA_BUNDLE")),
    "no login, TLS": ({"tls": True}, {"kafka_security_protocol": "SSL", "trusting": True}, ("broker_refused", "wants a login", "SASL_SSL")),
}  # fmt: skip


@pytest.mark.parametrize(("there", "ours", "said"), WRONG.values(), ids=WRONG)
async def test_what_is_wrong_is_named(
    there: dict[str, Any], ours: dict[str, Any], said: tuple[str, ...],
    inner: Broker, moto: Bucket, certificates: Certificates, topic: str, tmp_path: Path,
) -> None:  # fmt: skip
    listener = Listener(inner.advertised or 0, inner.port, {USER: PASSWORD})
    for name, value in there.items():
        setattr(listener, name, context_of(certificates) if name == "tls" else value)
    bundle = {"kafka_ca_bundle": certificates.ca} if ours.get("trusting") else {}
    ours = {name: value for name, value in ours.items() if name != "trusting"} | bundle
    async with standing_before(listener):
        report = await run(await settings_at(listener, moto, topic, tmp_path, **ours))
    assert_named(report, *said)
    assert listener.logins <= 1


async def test_a_certificate_for_another_host_is_named(inner: Broker, moto: Bucket, topic: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("kafka.example.com").configure_cert(context)
    listener = Listener(inner.advertised or 0, inner.port, tls=context)
    ours = {"kafka_security_protocol": "SSL", "kafka_ca_bundle": tmp_path / "ca.pem"}
    async with standing_before(listener):
        report = await run(await settings_at(listener, moto, topic, tmp_path, **ours))
    assert_named(report, "broker_tls", "another host", "advertised.listeners")


async def test_an_advertised_listener_that_nobody_reaches_is_named(
    inner: Broker, moto: Bucket, topic: str, tmp_path: Path
) -> None:
    listener = Listener(inner.advertised or 0, inner.port)
    await filled(listener, inner, moto, topic)  # and now nobody stands at the advertised port
    settings = await settings_for(moto, inner, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/c.db")
    report = await run(settings)
    assert_named(report, "broker", f"sends its clients to 127.0.0.1:{inner.advertised}", "nobody listens")


async def test_what_is_no_broker_is_named(moto: Bucket, topic: str, tmp_path: Path) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    async with listening(web) as port:
        settings = await settings_at(Listener(port, 1), moto, topic, tmp_path)
        assert_named(await run(settings), "broker", "closed without an answer", "Kafka listener")
        several = settings.replace(kafka_bootstrap_servers=f"127.0.0.1:1,nowhere.invalid:9092,127.0.0.1:{port}")
        assert_named(await run(several), "broker", "nobody listens")
        assert_named(await run(settings.replace(kafka_bootstrap_servers="nowhere.invalid")), "broker", "resolved")


async def test_a_broker_that_waits_for_the_rest_of_what_it_cannot_read_is_named(
    inner: Broker, moto: Bucket, topic: str, tmp_path: Path
) -> None:
    """As this one takes the beginning of TLS, and Apache Kafka does not: for the length of a request."""
    settings = await settings_for(
        moto, inner, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/c.db", **login("SASL_SSL")
    )
    with ExitStack() as known, pytest.raises(BrokerUntrusted, match="does not speak TLS"):
        await probe(replace(Access.of(settings.kafka, known), request_seconds=0.5), topic)
    report = await run(settings.replace(kafka_security_protocol="SASL_PLAINTEXT"))
    assert_named(report, "broker_refused", f"names {SCRAM}, and refuses it")


async def test_one_server_of_several_is_enough(inner: Broker, moto: Bucket, topic: str, tmp_path: Path) -> None:
    listener = Listener(inner.advertised or 0, inner.port)
    await filled(listener, inner, moto, topic)
    async with standing_before(listener):
        settings = await settings_at(listener, moto, topic, tmp_path)
        report = await run(settings.replace(kafka_bootstrap_servers=f"127.0.0.1:1,127.0.0.1:{listener.port}"))
    assert (report.status, report.counts.downloaded) == (RunStatus.OK, 1)


async def test_gssapi_without_its_package_is_named(moto: Bucket, topic: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("gssapi") is not None:
        pytest.skip("gssapi is installed")
    ours = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_mechanism": "GSSAPI"}
    report = await run(await settings_at(Listener(1, 1), moto, topic, tmp_path, **ours))
    assert report.error is not None
    assert (report.exit_code, report.error.code, "gssapi" in report.error.hint) == (ExitCode.USAGE, "settings", True)
