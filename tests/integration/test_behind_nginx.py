"""Behind a real reverse proxy: one that asks who we are, and one that alters what was signed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme

from ingest import errors
from ingest.delivery.service import Service, Submission
from ingest.errors import ExitCode, IngestError
from tests.fixtures.clients import CLIENTS, Client, answering, settings
from tests.fixtures.nginx import needs_nginx, nginx
from tests.fixtures.servers import Bucket

pytestmark = needs_nginx
TOLD = {name: client for name, client in CLIENTS.items() if name != "clock"}
"""Those that say what is wrong."""


@pytest.mark.parametrize("client", TOLD.values(), ids=TOLD)
@pytest.mark.parametrize("shown", ["ours", "others", None])
async def test_it_asks_who_we_are(client: Client, shown: str | None, tmp_path: Path) -> None:
    """nginx lets the handshake succeed, and answers 400 with a page of its own."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name, issuer, identity in (
        ("server", ca, "127.0.0.1"),
        ("ours", ca, "ingest@example.com"),
        ("others", trustme.CA(), "mallory@example.com"),
    ):
        issuer.issue_cert(identity).private_key_and_cert_chain_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    async with answering() as server:
        directives = (
            f"ssl_certificate {tmp_path}/server.pem; ssl_certificate_key {tmp_path}/server.pem;"
            f"ssl_client_certificate {tmp_path}/ca.pem; ssl_verify_client on;"
            f"location / {{ proxy_pass http://127.0.0.1:{server.port}; proxy_set_header Host $http_host; }}"
        )
        async with nginx(tmp_path, directives, tls=True) as port:
            told = settings(
                f"https://127.0.0.1:{port}",
                ca_bundle=tmp_path / "ca.pem",
                client_cert=tmp_path / f"{shown}.pem" if shown else None,
            )
            if shown == "ours":
                await client(told)
                assert server.heads
                return
            with pytest.raises((errors.ClientCertificateRefused, errors.EndpointUntrusted)) as raised:
                await client(told)
    error = raised.value
    assert isinstance(error, IngestError)
    assert error.exit_code is ExitCode.SOURCE
    assert "CLIENT_CERT" in error.hint
    assert not error.retryable
    assert server.heads == []


@pytest.mark.parametrize("client", [CLIENTS["bucket"], CLIENTS["control plane"]], ids=["bucket", "control plane"])
async def test_it_alters_the_host_that_was_signed(client: Client, weed: Bucket, tmp_path: Path) -> None:
    values = {"bucket": weed.name, "access_key": "", "secret_key": ""}
    plain = weed.settings(tmp_path / "data")
    assert plain.access_key is not None
    assert plain.secret_key is not None
    values |= {"access_key": plain.access_key.get_secret_value(), "secret_key": plain.secret_key.get_secret_value()}
    pass_on = f"proxy_pass {weed.endpoint};"
    async with nginx(tmp_path, f"location / {{ {pass_on} }}") as port:
        with pytest.raises(errors.SignatureMismatch) as raised:
            await client(settings(f"http://127.0.0.1:{port}", **values))
        assert "proxy_set_header Host $http_host;" in raised.value.hint
    kept = f"location / {{ {pass_on} proxy_set_header Host $http_host; }}"
    async with nginx(tmp_path, kept) as port:
        await client(settings(f"http://127.0.0.1:{port}", **values))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_it_refuses_a_copy_before_it_has_read_it(tls: bool, tmp_path: Path) -> None:
    """Its verdict is kept, whether or not all was sent, and the next copy gets one of its own."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    certificate = f"ssl_certificate {tmp_path}/server.pem; ssl_certificate_key {tmp_path}/server.pem;" if tls else ""
    copy = tmp_path / "copy"
    copy.write_bytes(bytes(8 << 20))
    async with answering() as server:
        pass_on = f"location / {{ proxy_pass http://127.0.0.1:{server.port}; }}"
        async with nginx(tmp_path, f"{certificate} client_max_body_size 100k; {pass_on}", tls=tls) as port:
            told = settings(f"http{'s' if tls else ''}://127.0.0.1:{port}", ca_bundle=tmp_path / "ca.pem")
            async with Service(told.service, told.source, connections=1) as service:
                for size, expected in ((8 << 20, 413), (50_000, 200), (8 << 20, 413), (50_000, 200)):
                    os.truncate(copy, size)
                    descriptor = os.open(copy, os.O_RDONLY)
                    answer = await service.post(Submission("large.bin", "e", size, None, {}), descriptor)
                    os.close(descriptor)
                    assert (answer.status, answer.error) == (expected, None)
