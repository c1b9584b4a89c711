"""What is wrong with a TLS handshake, in the terms of the error tree."""

from __future__ import annotations

import ssl

from ingest.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    CertificateUntrusted,
    CertificateWrongHost,
    ConnectionLost,
    NotTls,
    SourceError,
    TlsError,
)

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
_EXPIRED, _NOT_YET_VALID, _WRONG_HOST, _WRONG_ADDRESS = 10, 9, 62, 64  # OpenSSL, X509_V_ERR_*


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
