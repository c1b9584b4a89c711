"""Which certificates are trusted, and what is wrong with one that is not."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

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


def context_for(bundle: Path | None, variable: str) -> ssl.SSLContext:
    """Trusts the certificates in `bundle`, which `variable` names; without one, the system's.

    Raises:
        SettingsError: the bundle holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(bundle) if bundle else None)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"{variable}: {bundle} holds no usable PEM certificate") from error
    if bundle:
        # A pinned certificate need not be its own issuer: whatever stands in the bundle ends the chain.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
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
