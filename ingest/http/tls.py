"""What is wrong where TLS should be, or should not be, in the terms of the error tree."""

from __future__ import annotations

import re
import ssl

from ingest.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    CertificateUntrusted,
    CertificateWrongHost,
    ClientCertificateRefused,
    ConnectionLost,
    NotTls,
    SourceError,
    TlsError,
    UnexpectedResponse,
)

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
_ABOUT_OURS = re.compile(
    "CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_(REVOKED|EXPIRED|UNKNOWN)|UNKNOWN_CA|ACCESS_DENIED"
)
"""Alerts that a server sends about the client's certificate (RFC 8446, 6.2), as OpenSSL names them."""
_SAID_OF_OURS = re.compile(rb"No required SSL certificate was sent|The SSL certificate error")
"""What nginx answers with 400, behind a handshake that it lets succeed."""
MAY_WANT_OURS = (
    "If the server wants a certificate of ours, set one (S3_CLIENT_CERT, VERIFY_CLIENT_CERT): some end the connection "
    "without a word. Else the server's log says why."
)
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
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
    if (refusal := refused_certificate(error, server)) is not None:
        return refusal
    if error.reason in _NOT_TLS:
        return NotTls(f"{server} does not speak TLS on this port")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ConnectionLost(f"{server} closed the connection while TLS was negotiated", hint=MAY_WANT_OURS)
    return TlsError(f"{server}: TLS failed ({reason})")


def refused_certificate(error: Exception, server: str) -> ClientCertificateRefused | None:
    """With TLS 1.3 this comes when the handshake is over for us, in place of the first answer."""
    reason = str(error.reason) if isinstance(error, ssl.SSLError) else ""
    if "ALERT" not in reason or _ABOUT_OURS.search(reason) is None:
        return None
    what = "wants a certificate of ours" if "REQUIRED" in reason else "does not accept our certificate"
    return ClientCertificateRefused(f"{server} {what} ({reason})")


def says_refused_certificate(status: int, body: bytes) -> bool:
    """Whether an answer says the same in words."""
    return status == 400 and _SAID_OF_OURS.search(body[:4096]) is not None


def not_http(peer: str, received: bytes, *, in_body: bool) -> SourceError:
    """What came in place of HTTP, by its first bytes."""
    if received.startswith(_TLS_RECORDS):
        return NotTls(f"{peer} speaks TLS, and was asked without")
    if in_body:
        return ConnectionLost(f"the answer of {peer} is damaged in the middle of its body")
    return UnexpectedResponse(f"{peer} does not answer in HTTP")
