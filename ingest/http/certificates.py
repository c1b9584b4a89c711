"""A server's certificate, fetched for a person to compare and to pin."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from ingest.http.route import Route
from ingest.settings.trust import Trust

_SECONDS = 10.0


class ServerCertificate(NamedTuple):
    """What a server showed, for people to compare and for S3_CA_BUNDLE."""

    pem: str
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    sha256: str


async def fetch_certificate(host: str, port: int, trust: Trust) -> ServerCertificate:
    """The certificate that the server shows, whoever vouches for it: for a person to compare, then pin.

    Of `trust`, only our own certificate counts.

    Raises:
        SourceError: no connection, or no TLS.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    route = Route.to("https", host, port, replace(trust, checked=False))
    shown = (await route.dialer(_SECONDS).connect(_Look)).certificate
    certificate = x509.load_der_x509_certificate(shown)
    return ServerCertificate(
        pem=ssl.DER_cert_to_PEM_cert(shown),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


class _Look(asyncio.Protocol):
    """Takes the certificate as soon as TLS stands, and hangs up."""

    certificate = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        transport.close()
