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
    NotTls,
    SettingsError,
    SourceError,
    TlsError,
)

if TYPE_CHECKING:
    from ingest.settings import Settings

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
    try:
        # A bundle of ours is trusted alone: pinning means that no public authority can vouch for someone else.
        context = ssl.create_default_context(cafile=str(settings.ca_bundle) if settings.ca_bundle else None)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"S3_CA_BUNDLE: {settings.ca_bundle} holds no usable PEM certificate") from error
    if settings.ca_bundle:
        # A pinned certificate need not be its own issuer: whatever stands in the bundle ends the chain.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def unchecked_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
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
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return NotTls(f"{server} does not speak TLS on this port")
    return TlsError(f"{server}: TLS failed ({reason})")


async def fetch_certificate(host: str, port: int) -> ServerCertificate:
    """The certificate that the server shows, whoever vouches for it: for a person to compare, then pin.

    Raises:
        OSError: no connection. TlsError: no TLS.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(host, port, ssl=unchecked_context(), server_hostname=host), 10
        )
    except ssl.SSLError as error:
        raise tls_error(error, f"{host}:{port}") from error
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    certificate = x509.load_der_x509_certificate(shown)
    return ServerCertificate(
        pem=ssl.DER_cert_to_PEM_cert(shown),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )
