"""Certificates: the trusted one is accepted, and each way to be wrong is named before a signed byte is sent."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from ingest import errors
from ingest.demo.server import serve
from ingest.http.certificates import fetch_certificate
from ingest.http.timeouts import Timeouts
from ingest.settings import Settings
from ingest.settings.trust import Trust
from ingest.source.bucket import Bucket
from ingest.testing.raw_server import RawServer, Visit, raw_server
from tests.fixtures import servers
from tests.fixtures.greeter import greeter
from tests.fixtures.pools import loop_policy

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


async def one_page(visit: Visit) -> None:
    await visit.answer(b"<ListBucketResult/>")


@asynccontextmanager
async def tls_server(certificate: trustme.LeafCert) -> AsyncIterator[RawServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    async with raw_server(one_page, tls=context) as server:
        yield server


def settings(port: int, *, host: str = "localhost", **overrides: object) -> Settings:
    values: dict[str, object] = {
        "endpoint": f"{host}:{port}",
        "bucket": "statements",
        "access_key": "key",
        "secret_key": "canary-secret",
        "secure": True,
    }
    return Settings.model_validate(values | overrides)


async def list_once(found: Settings) -> bytes:
    async with Bucket.open(found.source, connections=1, timeouts=Timeouts(connect=5)) as bucket:
        return (await bucket.list_page()).body


@pytest.mark.parametrize(
    ("host", "issue", "error"),
    [
        ("localhost", lambda ca: ca.issue_cert("localhost"), None),
        ("127.0.0.1", lambda ca: ca.issue_cert("127.0.0.1"), None),
        ("localhost", lambda ca: trustme.CA().issue_cert("localhost"), errors.CertificateUntrusted),
        ("localhost", lambda ca: ca.issue_cert("elsewhere.example.com"), errors.CertificateWrongHost),
        ("127.0.0.1", lambda ca: ca.issue_cert("localhost", "127.0.0.2"), errors.CertificateWrongHost),
        (
            "localhost",
            lambda ca: ca.issue_cert("localhost", not_before=NOW - 2 * DAY, not_after=NOW - DAY),
            errors.CertificateExpired,
        ),
        (
            "localhost",
            lambda ca: ca.issue_cert("localhost", not_before=NOW + DAY, not_after=NOW + 2 * DAY),
            errors.CertificateNotYetValid,
        ),
    ],
    ids=["good name", "good address", "untrusted", "wrong name", "wrong address", "expired", "not yet valid"],
)
async def test_certificates(
    ca: trustme.CA,
    ca_file: Path,
    host: str,
    issue: Callable[[trustme.CA], trustme.LeafCert],
    error: type[errors.TlsError] | None,
) -> None:
    async with tls_server(issue(ca)) as server:
        if error is None:
            assert await list_once(settings(server.port, host=host, ca_bundle=ca_file)) == b"<ListBucketResult/>"
            return
        with pytest.raises(error) as raised:
            await list_once(settings(server.port, host=host, ca_bundle=ca_file))
        assert type(raised.value) is error
        assert f"{host}:{server.port}" in raised.value.message
        assert not raised.value.retryable
        assert server.heads == []  # nothing signed was sent
        # Without the check, and only then, the same server is accepted.
        unchecked = settings(server.port, host=host, verify_ssl=False)
        assert await list_once(unchecked) == b"<ListBucketResult/>"


async def test_the_systems_authorities_do_not_trust_ours(ca: trustme.CA) -> None:
    async with tls_server(ca.issue_cert("localhost")) as server:
        with pytest.raises(errors.CertificateUntrusted, match="not trusted"):
            await list_once(settings(server.port))


async def test_a_certificate_that_was_fetched_can_be_pinned(ca: trustme.CA, tmp_path: Path) -> None:
    """What `check --save-ca` writes is enough as S3_CA_BUNDLE, also without the authority behind it; and the pin holds
    against another certificate of the same authority."""
    async with tls_server(ca.issue_cert("localhost", common_name="minio")) as server:
        certificate = await fetch_certificate("localhost", server.port, Trust("S3"))
        pinned = tmp_path / "pinned.pem"
        pinned.write_text(certificate.pem)
        assert await list_once(settings(server.port, ca_bundle=pinned)) == b"<ListBucketResult/>"
    assert "CN=minio" in certificate.subject
    assert "trustme" in certificate.issuer
    assert certificate.not_before < NOW + DAY < certificate.not_after + DAY
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.pem)).hexdigest()
    assert certificate.sha256.replace(":", "").lower() == digest
    async with tls_server(ca.issue_cert("localhost")) as server:
        with pytest.raises(errors.CertificateUntrusted):
            await list_once(settings(server.port, ca_bundle=pinned))


async def test_fetching_says_what_is_wrong() -> None:
    async with greeter(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        with pytest.raises(errors.NotTls):
            await fetch_certificate("127.0.0.1", port, Trust("S3"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(errors.ConnectionRefused):
            await fetch_certificate("127.0.0.1", closed.getsockname()[1], Trust("S3"))


async def test_tls_and_plain_http_do_not_mix(weed_tls: servers.Bucket, weed: servers.Bucket, tmp_path: Path) -> None:
    """A real server's answers to the wrong protocol, both ways round."""
    tls_port = weed_tls.endpoint.rpartition(":")[2]
    plain = weed_tls.settings(tmp_path, endpoint=f"http://127.0.0.1:{tls_port}", ca_bundle=None)
    with pytest.raises(errors.NotTls):
        await list_once(plain)
    plain_port = weed.endpoint.rpartition(":")[2]
    over_tls = weed_tls.settings(tmp_path, endpoint=f"https://127.0.0.1:{plain_port}")
    with pytest.raises(errors.NotTls):
        await list_once(over_tls)


async def test_a_real_server_with_tls(weed_tls: servers.Bucket, tmp_path: Path) -> None:
    await weed_tls.put({"loans/1.pdf": b"statement"})
    async with Bucket.open(weed_tls.settings(tmp_path).source, connections=4) as bucket:
        head = await bucket.head("loans/1.pdf")
        assert (await bucket.get("loans/1.pdf", etag=head.etag, max_body=100)).body == b"statement"


def test_a_bundle_without_certificates_names_its_setting(tmp_path: Path) -> None:
    bundle = tmp_path / "empty.pem"
    bundle.write_text("nothing here")
    with pytest.raises(errors.SettingsError, match="S3_CA_BUNDLE"):
        settings(443, ca_bundle=bundle)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_bodies_go_straight_to_their_place_over_tls(
    tmp_path: Path, certificates: servers.Certificates, loop: str
) -> None:
    body = bytes(range(256)) * 12_345

    async def fetch() -> None:
        async with serve(tmp_path / "weed", "tls", certificate=(certificates.chain, certificates.key)) as server:
            real = servers.Bucket(f"https://127.0.0.1:{server.tls_port}", "tls", certificates.ca)
            await real.put({"large": body})
            async with Bucket.open(real.settings(tmp_path).source, connections=4) as bucket:
                etag = (await bucket.head("large")).etag
                whole, piece = bytearray(len(body)), bytearray(1_000_000)
                await bucket.get_into("large", etag=etag, into=memoryview(whole))
                await bucket.get_range("large", etag=etag, first=123, into=memoryview(piece))
                assert whole == body
                assert piece == body[123:1_000_123]

    with asyncio.Runner(loop_factory=loop_policy(loop).new_event_loop) as runner:
        runner.run(fetch())
