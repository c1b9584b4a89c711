"""The bucket's side."""

from __future__ import annotations

from typing import Self

from ingest.errors.base import IngestError
from ingest.errors.exit_codes import ExitCode


class SourceError(IngestError):
    """The bucket's side failed."""

    code = "source"
    exit_code = ExitCode.SOURCE
    hint = "Run `ingest check` to test the connection step by step."
    sent = True
    """Whether anything of the request may have reached the server."""
    progressed = False
    """Whether the attempt left something that the next one need not fetch again."""
    away = False
    """The source itself was away for longer than anybody has patience: no other request would fare better."""
    answered_before = False
    """The source is away, and was not when the run began."""
    retry_after: float | None = None
    """Seconds that the server asks to wait; None where it does not say."""


class ConnectionRefused(SourceError):
    """Nothing listens at the address, or it turned the connection away."""

    code = "refused"
    retryable = True
    hint = "Is the server up, and S3_ENDPOINT's host and port right? A firewall may also refuse."


class ConnectionTimedOut(SourceError):
    """No connection, or no answer, within the time that is given to it."""

    code = "timeout"
    retryable = True
    hint = "A firewall may drop the packets, or the server is overloaded. Check host, port and route."


class NameNotResolved(SourceError):
    """The endpoint's host name is not known to this machine."""

    code = "dns"
    retryable = True
    hint = "Check the spelling of S3_ENDPOINT, and that this machine's resolver knows the name."


class ConnectionLost(SourceError):
    """The connection broke in the middle of a response, or the answer was cut short."""

    code = "connection_lost"
    retryable = True


class TlsError(SourceError):
    """The TLS handshake failed. Nothing signed was sent."""

    code = "tls"
    hint = "Compare the server's certificate with what S3_CA_BUNDLE trusts; does it want one of ours (S3_CLIENT_CERT)?"


class CertificateUntrusted(TlsError):
    """Nobody whom this machine trusts vouches for the server's certificate. Nothing signed was sent."""

    code = "tls_untrusted"
    hint = (
        "If the server uses a self-signed certificate, save it with `ingest check --save-ca FILE`, compare its "
        "fingerprint with the server's owner, and set S3_CA_BUNDLE=FILE."
    )


class CertificateExpired(TlsError):
    """The server's certificate was valid once. Nothing signed was sent."""

    code = "tls_expired"
    hint = "Renew the server's certificate; if it is not expired, compare this machine's clock."


class CertificateNotYetValid(TlsError):
    """The server's certificate will be valid later. Nothing signed was sent."""

    code = "tls_not_yet_valid"
    hint = "Compare this machine's clock with the server's; the certificate starts in the future."


class CertificateWrongHost(TlsError):
    """The server's certificate names another host. Nothing signed was sent."""

    code = "tls_wrong_host"
    hint = "Use a host name in S3_ENDPOINT that the certificate names, or have the certificate reissued."


class ClientCertificateRefused(TlsError):
    """The server wants a certificate of ours, and got none that it accepts (mTLS)."""

    code = "tls_client_certificate"
    hint = (
        "Set S3_CLIENT_CERT (and S3_CLIENT_KEY) to a certificate that the server's owner has issued; is it expired, or "
        "its intermediate missing behind it?"
    )


class NotTls(TlsError):
    """TLS was spoken to a port that does not speak it, or the other way round."""

    code = "tls_not_spoken"
    hint = "Set S3_SECURE=false if the server has no TLS; set it to true, or write https://, if it has."


class CredentialsError(SourceError):
    """There are no credentials to sign with."""

    code = "credentials"
    hint = "Set S3_ACCESS_KEY and S3_SECRET_KEY, or configure the standard AWS chain (profile, role)."


class AccessKeyUnknown(CredentialsError):
    """The server does not know the access key."""

    code = "access_key_unknown"
    hint = "Check S3_ACCESS_KEY: the server does not know it."


class SignatureMismatch(CredentialsError):
    """The server knows the access key, and the request was not signed with the key's own secret."""

    code = "signature"
    hint = (
        "Check S3_SECRET_KEY (and S3_REGION): the server computed another signature. A reverse proxy before it has to "
        "pass `Host` on as it came (nginx: `proxy_set_header Host $http_host;`)."
    )


class CredentialsExpired(CredentialsError):
    """Temporary credentials are over, and loading them once more did not help."""

    code = "credentials_expired"
    retryable = True
    hint = "Renew the session token or the role's credentials."
    renewed = False
    """Others have taken the place of those that were refused."""

    def over(self) -> Self:
        """The same, where others are there."""
        self.renewed = True
        return self


class ClockSkewed(SourceError):
    """The server refuses the request's time: this machine's clock and its own are too far apart."""

    code = "clock_skew"
    hint = "Set this machine's clock (NTP): the server refuses requests more than 15 minutes off."


class ClockUntrusted(ClockSkewed):
    """This machine's clock does not fit the runs before or the server's, so no copy's age can be told."""

    code = "clock_untrusted"
    hint = (
        "Set this machine's clock (NTP), then run again. If it is right now, and was wrong in an earlier run, say "
        "`ingest cleanup --trust-clock`."
    )


class AccessDenied(SourceError):
    """The server's policy does not allow the request, or, on servers that tell no more, it does not know the key."""

    code = "access_denied"
    hint = (
        "Probably the key may not do this: see the bucket policy in docs/operations.md. Some servers (Ceph with STS) "
        "answer so to a wrong key, secret or token, too: check S3_ACCESS_KEY, S3_SECRET_KEY and S3_SESSION_TOKEN."
    )


class NoSuchBucket(SourceError):
    """The server has no such bucket."""

    code = "no_such_bucket"
    hint = "Check S3_BUCKET; `ingest check` lists the buckets that exist."
    available: tuple[str, ...] = ()
    """The names of the buckets that do exist, where somebody asked."""


class NoSuchKey(SourceError):
    """The object does not exist (any more)."""

    code = "no_such_key"
    exit_code = ExitCode.PARTIAL
    hint = "Check the key with `ingest ls PREFIX`."


class ObjectInTheWay(SourceError):
    """`check --upload` found another object under the key that it would write and remove, and left it alone."""

    code = "object_in_the_way"
    exit_code = ExitCode.FAILED
    hint = "Have its owner move that object, or test without --upload: `ingest sync` writes nothing to the bucket."


class ObjectChanged(SourceError):
    """The object is no longer the version that was listed."""

    code = "object_changed"
    exit_code = ExitCode.PARTIAL
    hint = "The next run takes the new version."


class ObjectArchived(SourceError):
    """The object's storage class cannot be read now."""

    code = "object_archived"
    exit_code = ExitCode.PARTIAL
    hint = "Restore the object from the archive at the server, then run again."


class ObjectTooLarge(SourceError):
    """It is said to be larger than any object of S3 can be."""

    code = "object_too_large"
    exit_code = ExitCode.PARTIAL
    hint = "An object has 5 TiB at most: the server is wrong about its size; look at it with `ingest ls PREFIX`."


class RangeNotSatisfiable(SourceError):
    """The object is shorter than it was."""

    code = "range_not_satisfiable"
    exit_code = ExitCode.PARTIAL
    hint = "The object changed its size; the next run takes the new version."


class SlowDown(SourceError):
    """The server asks for fewer requests (503 SlowDown, 429)."""

    code = "slow_down"
    retryable = True
    hint = "The server is overloaded; the tool already slowed down, and waited (S3_PATIENCE). Run again later."


class ServerFault(SourceError):
    """5xx, or an answer that is not S3."""

    code = "server_fault"
    retryable = True
    hint = "Look at the server's own log; run again when it is healthy."


class UnexpectedResponse(SourceError):
    """The server answered with something that no rule covers: never taken for success."""

    code = "unexpected_response"
    hint = "Is this an S3 endpoint, and not its web console or a proxy's page?"


class RangeIgnored(UnexpectedResponse):
    """Asked for a range, the server sent something else; the object is fetched whole."""

    code = "range_ignored"


class RedirectRefused(SourceError):
    """A redirect was not followed: credentials are never sent to a host that the settings do not name."""

    code = "redirect"
    hint = "Set S3_ENDPOINT or S3_REGION to where the bucket lives."


class ListingUntrusted(SourceError):
    """A listing that does not prove itself complete; nothing is concluded from it."""

    code = "listing"
    hint = "Nothing was marked as gone. Check what answers at S3_ENDPOINT, then run again."


class KeysAstray(ListingUntrusted):
    """A listing holds keys that do not begin with the prefix, as where a server takes a leading slash away."""

    code = "listing_astray"
    hint = "Nothing was marked as gone. Say the prefix as the keys begin that `ingest ls` shows, or check S3_ENDPOINT."


class OutOfOrder(ListingUntrusted):
    """A server that was taken for one that lists in byte order does not. It is listed by directory from now on."""

    code = "listing_order"
    hint = "Run again: from now on this server is listed directory by directory."


class TooManyGone(SourceError):
    """More objects than is likely (`--max-gone`) are missing from the listing: none of them was marked as gone."""

    code = "too_many_gone"
    exit_code = ExitCode.PARTIAL
    hint = "Check S3_BUCKET, S3_ENDPOINT and --prefix: is it the bucket that the catalog tells of, and is it whole?"


class DamagedTransfer(SourceError):
    """The bytes received are not the bytes the server says it holds."""

    code = "damaged_transfer"
    exit_code = ExitCode.PARTIAL
    retryable = True
    hint = "If it happens again, the object is damaged at the source, or a proxy alters it."

    def __init__(self, message: str, *, hint: str | None = None, digest: str = "") -> None:
        super().__init__(message, hint=hint)
        self.digest = digest
        """Of what was received, where all of it was: another download of the same bytes has the same."""
