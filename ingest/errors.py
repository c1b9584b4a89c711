"""One tree of errors: each class says its exit code, whether a retry can help, and what to do next.

Only these are shown to people; anything else is a defect and is reported as one. ``message`` is one line and
holds no secret; ``hint`` is the next step for an operator.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """The documented exit codes. `ingest --help` prints this table from the descriptions below."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    SOURCE = 4
    DISK = 5
    DATABASE = 6
    DAMAGED = 7
    LOCKED = 11
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "everything was done",
    ExitCode.FAILED: "failed (a defect, or a failed connection check)",
    ExitCode.USAGE: "wrong usage or settings",
    ExitCode.PARTIAL: "partial: some objects failed, the rest is done and recorded",
    ExitCode.SOURCE: "source: network, TLS, credentials, or a listing that cannot be trusted",
    ExitCode.DISK: "local disk",
    ExitCode.DATABASE: "database",
    ExitCode.DAMAGED: "damage found by verify",
    ExitCode.LOCKED: "another run holds the lock",
    ExitCode.INTERRUPTED: "interrupted (what was finished is recorded)",
    ExitCode.TERMINATED: "terminated (what was finished is recorded)",
}


class IngestError(Exception):
    """Base of every error that a person may see."""

    code: ClassVar[str] = "error"
    """Stable name for logs and scripts."""
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    retryable: ClassVar[bool] = False
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint


class SettingsError(IngestError):
    """A setting, flag or argument is wrong. The message names it and what it wants."""

    code = "settings"
    exit_code = ExitCode.USAGE
    hint = "See `.env.example` for every setting, and `ingest COMMAND --help` for every flag."


class LockedError(IngestError):
    """Another run of the same kind is at work on this source."""

    code = "locked"
    exit_code = ExitCode.LOCKED
    hint = "Wait for it to end, or look at `ingest runs`. The lock dies with its holder; nothing to remove by hand."


class InterruptedRun(IngestError):
    """SIGINT: what was finished is recorded."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED
    hint = "Run the command again: it goes on where this run stopped."


class TerminatedRun(InterruptedRun):
    """SIGTERM: what was finished is recorded."""

    code = "terminated"
    exit_code = ExitCode.TERMINATED


# --- source -------------------------------------------------------------------------------------------------


class SourceError(IngestError):
    """The bucket's side failed."""

    code = "source"
    exit_code = ExitCode.SOURCE
    hint = "Run `ingest check` to test the connection step by step."


class ConnectionRefused(SourceError):
    code = "refused"
    retryable = True
    hint = "Is the server up, and S3_ENDPOINT's host and port right? A firewall may also refuse."


class ConnectionTimedOut(SourceError):
    code = "timeout"
    retryable = True
    hint = "A firewall may drop the packets, or the server is overloaded. Check host, port and route."


class NameNotResolved(SourceError):
    code = "dns"
    retryable = True
    hint = "Check the spelling of S3_ENDPOINT, and that this machine's resolver knows the name."


class ConnectionLost(SourceError):
    """The connection broke in the middle of a response, or the answer was cut short."""

    code = "connection_lost"
    retryable = True


class TlsError(SourceError):
    code = "tls"
    hint = "Compare the server's certificate with what S3_CA_BUNDLE trusts."


class CertificateUntrusted(TlsError):
    code = "tls_untrusted"
    hint = (
        "If the server uses a self-signed certificate, save it with `ingest check --save-ca FILE`, compare its "
        "fingerprint with the server's owner, and set S3_CA_BUNDLE=FILE."
    )


class CertificateExpired(TlsError):
    code = "tls_expired"
    hint = "Renew the server's certificate; if it is not expired, compare this machine's clock."


class CertificateNotYetValid(TlsError):
    code = "tls_not_yet_valid"
    hint = "Compare this machine's clock with the server's; the certificate starts in the future."


class CertificateWrongHost(TlsError):
    code = "tls_wrong_host"
    hint = "Use a host name in S3_ENDPOINT that the certificate names, or have the certificate reissued."


class NotTls(TlsError):
    """TLS was spoken to a port that does not speak it, or the other way round."""

    code = "tls_not_spoken"
    hint = "Set S3_SECURE=false if the server has no TLS; set it to true, or write https://, if it has."


class CredentialsError(SourceError):
    code = "credentials"
    hint = "Set S3_ACCESS_KEY and S3_SECRET_KEY, or configure the standard AWS chain (profile, role)."


class AccessKeyUnknown(CredentialsError):
    code = "access_key_unknown"
    hint = "Check S3_ACCESS_KEY: the server does not know it."


class SignatureMismatch(CredentialsError):
    code = "signature"
    hint = "Check S3_SECRET_KEY (and S3_REGION): the server computed another signature."


class CredentialsExpired(CredentialsError):
    code = "credentials_expired"
    retryable = True
    hint = "Renew the session token or the role's credentials."


class ClockSkewed(SourceError):
    code = "clock_skew"
    hint = "Set this machine's clock (NTP): the server refuses requests more than 15 minutes off."


class AccessDenied(SourceError):
    code = "access_denied"
    hint = "The key is valid but may not do this. See the bucket policy in docs/operations.md."


class NoSuchBucket(SourceError):
    code = "no_such_bucket"
    hint = "Check S3_BUCKET; `ingest check` lists the buckets that exist."


class NoSuchKey(SourceError):
    """The object does not exist (any more)."""

    code = "no_such_key"
    exit_code = ExitCode.PARTIAL
    hint = "Check the key with `ingest ls PREFIX`."


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


class RangeNotSatisfiable(SourceError):
    code = "range_not_satisfiable"
    exit_code = ExitCode.PARTIAL
    hint = "The object changed its size; the next run takes the new version."


class SlowDown(SourceError):
    """The server asks for fewer requests (503 SlowDown, 429)."""

    code = "slow_down"
    retryable = True
    hint = "The server is overloaded; the tool already slowed down. Run again later."


class ServerFault(SourceError):
    """5xx, or an answer that is not S3."""

    code = "server_fault"
    retryable = True
    hint = "Look at the server's own log; run again when it is healthy."


class UnexpectedResponse(SourceError):
    """The server answered with something that no rule covers: never taken for success."""

    code = "unexpected_response"
    hint = "Is this an S3 endpoint, and not its web console or a proxy's page?"


class RedirectRefused(SourceError):
    """A redirect was not followed: credentials are never sent to a host that the settings do not name."""

    code = "redirect"
    hint = "Set S3_ENDPOINT or S3_REGION to where the bucket lives."


class ListingUntrusted(SourceError):
    """A listing that does not prove itself complete; nothing is concluded from it."""

    code = "listing"
    hint = "Nothing was marked as gone. Check what answers at S3_ENDPOINT, then run again."


class DamagedTransfer(SourceError):
    """The bytes received are not the bytes the server says it holds."""

    code = "damaged_transfer"
    exit_code = ExitCode.PARTIAL
    retryable = True
    hint = "If it happens again, the object is damaged at the source, or a proxy alters it."


# --- delivery -----------------------------------------------------------------------------------------------


class DeliveryError(IngestError):
    """The verification service failed, or cannot be reached. Nothing is lost: what waits is delivered later."""

    code = "delivery"
    exit_code = ExitCode.SOURCE
    hint = "Nothing is lost: run `ingest deliver` again when the service is back."


class EndpointUnreachable(DeliveryError):
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
    code = "endpoint_tls"
    hint = "Compare the service's certificate with what VERIFY_CA_BUNDLE trusts; nothing was sent to it."


class EndpointRefused(DeliveryError):
    """401, 403, 405 or 407: about our credentials or the address, not about the object."""

    code = "endpoint_refused"
    hint = "Check VERIFY_AUTHORIZATION and VERIFY_URL. Nothing is lost: run `ingest deliver` again."


class EndpointRedirects(DeliveryError):
    """3xx: bytes and credentials go to no address that the settings do not name."""

    code = "endpoint_redirect"
    hint = "Set VERIFY_URL to the service's own address, if you trust it; nothing was sent elsewhere."


# --- disk ---------------------------------------------------------------------------------------------------


class DiskError(IngestError):
    code = "disk"
    exit_code = ExitCode.DISK
    hint = "Check the data directory's file system and permissions, then run again; nothing recorded was lost."


class DiskFull(DiskError):
    code = "disk_full"
    hint = "Free space or inodes (see `ingest cleanup --dry-run`), then run again."


class UnsafePath(DiskError):
    """A symlink or a foreign file stands where the tool would write."""

    code = "unsafe_path"
    hint = "Remove what stands there, if it should not; symlinks below the data directory are never followed."


# --- catalog ------------------------------------------------------------------------------------------------


class DatabaseError(IngestError):
    code = "database"
    exit_code = ExitCode.DATABASE
    hint = "Check DATABASE_URL and that the database is up; nothing that was recorded is lost."


class DatabaseBusy(DatabaseError):
    code = "database_busy"
    retryable = True


class SchemaMissing(DatabaseError):
    """The schema is missing or behind."""

    code = "schema_behind"
    hint = "Run `ingest db upgrade`."


class SchemaAhead(DatabaseError):
    """The database was migrated by a newer version of the tool."""

    code = "schema_ahead"
    hint = "Upgrade `ingest`; an older version never writes to a newer schema."


class RowNotFound(IngestError):
    """A key that the catalog does not hold."""

    code = "unknown_key"
    exit_code = ExitCode.FAILED
    hint = "`ingest status` shows what is recorded; `ingest ls PREFIX` what the bucket holds."
