"""Which certificates are trusted, what is wrong with one that is not, and how to fetch one for pinning."""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ingest.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    CertificateUntrusted,
    CertificateWrongHost,
    ConnectionLost,
    NotTls,
    SettingsError,
    SourceError,
    TlsError,
)

if TYPE_CHECKING:
    from ingest.settings import Settings

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
_EXPIRED, _NOT_YET_VALID, _WRONG_HOST, _WRONG_ADDRESS = 10, 9, 62, 64  # OpenSSL, X509_V_ERR_*


class ServerCertificate(NamedTuple):
    """What a server showed, for people to compare and for S3_CA_BUNDLE."""

    pem: str
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    sha256: str


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """The context for the endpoint; None without TLS. Host names are checked unless S3_VERIFY_SSL is false.

    Raises:
        SettingsError: S3_CA_BUNDLE holds no certificate.
    """
    if not settings.secure:
        return None
    if not settings.verify_ssl:
        return unchecked_context()
    if settings.ca_bundle is None:
        return ssl.create_default_context()
    try:
        # A bundle of ours is trusted alone: pinning means that no public authority can vouch for someone else.
        context = ssl.create_default_context(cafile=str(settings.ca_bundle))
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"S3_CA_BUNDLE: {settings.ca_bundle} holds no usable PEM certificate") from error
    # Whatever the bundle names is trusted, also a server's own certificate without its authority's; and self-signed
    # ones seldom carry all the extensions that Python 3.13 began to insist on.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def unchecked_context() -> ssl.SSLContext:
    """TLS that any certificate satisfies."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def tls_error(error: ssl.SSLError, server: str) -> SourceError:
    """What is wrong, in the terms of the error tree."""
    code = getattr(error, "verify_code", 0)
    reason = getattr(error, "verify_message", "") or error.reason or str(error)
    if code == _EXPIRED:
        return CertificateExpired(f"{server}: the server's certificate has expired")
    if code == _NOT_YET_VALID:
        return CertificateNotYetValid(f"{server}: the server's certificate is not valid yet")
    if code in (_WRONG_HOST, _WRONG_ADDRESS):
        return CertificateWrongHost(f"{server}: the server's certificate is for another host ({reason})")
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateUntrusted(f"{server}: the server's certificate is not trusted ({reason})")
    if error.reason in _NOT_TLS:
        return NotTls(f"{server} does not speak TLS on this port")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ConnectionLost(f"{server} closed the connection while TLS was negotiated")
    return TlsError(f"{server}: TLS failed ({reason})")


async def fetch_certificate(host: str, port: int) -> ServerCertificate:
    """The certificate that the server shows, whoever vouches for it: for a person to compare, then pin.

    Raises:
        SourceError: no connection, or no TLS.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    from ingest.source.dial import Dialer  # it explains its errors by this module
    from ingest.source.proxy import proxy_for

    dialer = Dialer(host, port, tls=unchecked_context(), proxy=proxy_for("https", host, port))
    shown = (await dialer.connect(_Look)).certificate
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
