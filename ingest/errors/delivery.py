"""The verification service's side."""

from __future__ import annotations

from ingest.errors.base import IngestError
from ingest.errors.exit_codes import ExitCode


class DeliveryError(IngestError):
    """The verification service failed, or cannot be reached. Nothing is lost: what waits is delivered later."""

    code = "delivery"
    exit_code = ExitCode.SOURCE
    hint = "Nothing is lost: run `ingest deliver` again when the service is back."


class EndpointUnreachable(DeliveryError):
    """The service's name is not known, or nothing listens there."""

    code = "endpoint_unreachable"
    retryable = True
    hint = "Is the service up, and VERIFY_URL's host and port right? Nothing is lost: run `ingest deliver` again."


class EndpointTimedOut(DeliveryError):
    """No complete answer within the deadline."""

    code = "endpoint_timeout"
    retryable = True


class EndpointFault(DeliveryError):
    """5xx, or a connection that broke."""

    code = "endpoint_fault"
    retryable = True


class EndpointBusy(DeliveryError):
    """429: the service asks for a pause."""

    code = "endpoint_busy"
    retryable = True


class EndpointUntrusted(DeliveryError):
    """The service's certificate is not trusted, or TLS failed otherwise."""

    code = "endpoint_tls"
    hint = (
        "Compare the service's certificate with what VERIFY_CA_BUNDLE trusts, and what it wants of us with "
        "VERIFY_CLIENT_CERT. It has taken nothing."
    )


class EndpointRefused(DeliveryError):
    """401, 403, 405, 407 and others of their kind: about our credentials or the address, not about the object."""

    code = "endpoint_refused"
    hint = "Check VERIFY_AUTHORIZATION and VERIFY_URL. Nothing is lost: run `ingest deliver` again."


class EndpointAstray(DeliveryError):
    """The address refuses whatever it gets, and takes nothing: more likely a wrong path than so many wrong objects."""

    code = "endpoint_astray"
    hint = (
        "Check VERIFY_URL's path and port, and whether the service is deployed. All of it waits; if these are its "
        "verdicts indeed, they are recorded as such once it has taken any object."
    )


class EndpointRedirects(DeliveryError):
    """3xx: bytes and credentials go to no address that the settings do not name."""

    code = "endpoint_redirect"
    hint = "Set VERIFY_URL to the service's own address, if you trust it; nothing was sent elsewhere."
