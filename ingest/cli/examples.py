"""What each error looks like: one message of each class, for the documents."""

from __future__ import annotations

from ingest import errors
from ingest.errors import IngestError

_SERVER = "minio.example.com:9000"
_GET = "GET 'loans/a.pdf'"

EXAMPLES: dict[type[IngestError], str] = {
    errors.IngestError: "a defect in ingest: KeyError",
    errors.SettingsError: "S3_ENDPOINT is not set; it wants host:port or a URL, for example minio.example.com:9000",
    errors.LockedError: "another run holds statements-sync.lock: `ingest sync`, pid 4711, since 2026-03-01T02:00:00",
    errors.InterruptedRun: "interrupted; what was finished is recorded",
    errors.TerminatedRun: "terminated; what was finished is recorded",
    errors.ReaderGone: "what read the output has ended",
    errors.SourceError: "the source failed; only its kinds below are shown",
    errors.ConnectionRefused: f"{_SERVER}: Connection refused",
    errors.ConnectionTimedOut: f"listing statements/: {_SERVER} did not answer in time",
    errors.NameNotResolved: f"{_SERVER}: the name cannot be resolved",
    errors.ConnectionLost: f"{_GET}: the connection to {_SERVER} broke (ServerDisconnectedError)",
    errors.TlsError: f"{_SERVER}: TLS failed (TLSV1_ALERT_PROTOCOL_VERSION)",
    errors.CertificateUntrusted: f"{_SERVER}: the server's certificate is not trusted (self-signed certificate)",
    errors.CertificateExpired: f"{_SERVER}: the server's certificate has expired",
    errors.CertificateNotYetValid: f"{_SERVER}: the server's certificate is not valid yet",
    errors.CertificateWrongHost: f"{_SERVER}: the server's certificate is for another host (Hostname mismatch)",
    errors.ClientCertificateRefused: f"{_SERVER} wants a certificate of ours (TLSV13_ALERT_CERTIFICATE_REQUIRED)",
    errors.NotTls: f"{_SERVER} does not speak TLS on this port",
    errors.CredentialsError: "no credentials: S3_ACCESS_KEY is not set and the standard AWS chain has none",
    errors.AccessKeyUnknown: "listing statements/: the server answered 403 InvalidAccessKeyId",
    errors.SignatureMismatch: "listing statements/: the server answered 403 SignatureDoesNotMatch",
    errors.CredentialsExpired: f"{_GET}: the server answered 400 ExpiredToken",
    errors.ClockSkewed: "listing statements/: the server answered 403 RequestTimeTooSkewed; server's clock "
    "Sun, 01 Mar 2026 02:00:00 GMT, ours Sun, 01 Mar 2026 01:12:09 GMT",
    errors.ClockUntrusted: "this machine's clock says 2026-04-10 02:00 UTC, the server's 2026-03-01 02:00; "
    "no copy was removed",
    errors.AccessDenied: "listing statements/: the server answered 403 AccessDenied (Access Denied.)",
    errors.NoSuchBucket: "bucket 'statments' does not exist; buckets that do: statements",
    errors.NoSuchKey: f"{_GET}: the server answered 404 NoSuchKey",
    errors.ObjectChanged: f"{_GET}: it is 9b74c989 now, and was listed as 5d41402a",
    errors.FileInTheWay: "statements/loans/a.pdf: another file stands there, and is kept unless --overwrite is said",
    errors.ObjectInTheWay: "'test/connection_test.txt' holds an object of 48 bytes that is not of this check",
    errors.ObjectArchived: f"{_GET}: the server answered 403 InvalidObjectState",
    errors.ObjectTooLarge: "'loans/a.pdf': it is said to have 8000000000000000 bytes",
    errors.RangeNotSatisfiable: f"{_GET}: the server answered 416 InvalidRange",
    errors.SlowDown: f"{_GET}: the server answered 503 SlowDown",
    errors.ServerFault: f"{_GET}: the server answered 500 InternalError",
    errors.UnexpectedResponse: f"HEAD 'loans/a.pdf': {_SERVER} does not answer in HTTP",
    errors.RangeIgnored: "GET 'loans/a.pdf': the server did not send the range that was asked for",
    errors.RedirectRefused: "listing statements/: the server answered 301 PermanentRedirect; it points to "
    "https://statements.s3.eu-central-1.amazonaws.com/",
    errors.ListingUntrusted: "listing loans/* ('', None]: the answer is a <html> document",
    errors.KeysAstray: "listing /loans/* ('', None]: the answer holds 'loans/a.pdf', which was not asked for",
    errors.OutOfOrder: "listing loans/* ('', None]: the server does not list in the order of the keys' bytes",
    errors.TooManyGone: "48000 of 48000 objects on record are no longer listed (0 are): none was marked as gone; "
    "if it is true, say --max-gone 48000",
    errors.DamagedTransfer: "'loans/a.pdf': received bytes that do not match their etag",
    errors.BrokerError: "kafka.example.com:9092: no broker answers",
    errors.BrokerRefused: "kafka.example.com:9092: the user or password is not accepted",
    errors.BrokerUntrusted: "kafka.example.com:9093: the server's certificate is not trusted (self-signed certificate)",
    errors.TopicMissing: "there is no topic 'statments' at kafka.example.com:9092; there is 'statements'",
    errors.DeadLetterRefused: "statements.dead: UnknownTopicOrPartitionError",
    errors.Poison: "the message is not JSON",
    errors.MessagesLost: "120 messages were removed by the broker before they were read",
    errors.MessagesDied: "3 messages were given up",
    errors.DeliveryError: "the verification service failed; only its kinds below are shown",
    errors.EndpointUnreachable: "verify.example.com: Connection refused",
    errors.EndpointTimedOut: "verify.example.com: no complete answer within 60 s",
    errors.EndpointFault: "verify.example.com answered 503",
    errors.EndpointBusy: "verify.example.com answered 429",
    errors.EndpointUntrusted: "verify.example.com: the certificate is not trusted",
    errors.EndpointRefused: "verify.example.com answered 401",
    errors.EndpointAstray: "verify.example.com answered 404 to 5 requests in a row, and took nothing",
    errors.EndpointRedirects: "verify.example.com answered 302; it points to https://login.example.com/",
    errors.DamageFound: "2 of 48000 copies are missing or damaged",
    errors.DiskError: "statements/loans: Permission denied",
    errors.DiskFull: "statements/loans/a.pdf: No space left on device",
    errors.NameRefused: "statements/loans/a:b.pdf: this disk refuses the name (Invalid argument)",
    errors.NotesForeign: "/srv/ingest/data/.ingest/replaced/statements/intent is another version's",
    errors.OtherFileSystem: "/srv/ingest/data/statements is on another file system than .ingest",
    errors.TooLargeForDisk: "'loans/a.iso': File too large",
    errors.OutOfMemory: "there is no memory left for what has to be done",
    errors.PartialRun: "sync: 2 objects failed",
    errors.TooManyFiles: f"{_SERVER}: Too many open files",
    errors.UnsafePath: "'statements/loans' is a symlink, and is not followed",
    errors.DirectoryMissing: "the data directory /srv/ingest/data is missing: it does not exist; the copies of "
    "s3://statements lie in it",
    errors.DirectoryForeign: "/srv/other is data directory 5f0c12ab, and the copies of s3://statements lie in "
    "91d4e2c0, last seen at /srv/ingest/data",
    errors.DirectoryTaken: "s3://statements at new.example.com:9000 has no directory, and 'statements' is that of "
    "s3://statements at minio.example.com:9000",
    errors.CatalogMissing: "the catalog of /srv/ingest/data is missing: there is no "
    "sqlite+aiosqlite:////srv/ingest/data/.ingest/catalog.db",
    errors.CatalogWentBack: "the database has forgotten 3 of the 8 transactions that run 42 had written",
    errors.CatalogForeign: "the copies in /srv/ingest/data belong to the catalog at "
    "postgresql+asyncpg://ingest:***@db.example.com/ingest, and DATABASE_URL leads to another one",
    errors.SourceUnknown: "no source is called 'minio.example.org:9000'",
    errors.DatabaseError: "postgresql+asyncpg://ingest:***@db.example.com/ingest: Connection refused",
    errors.DatabaseBusy: "sqlite+aiosqlite:////srv/data/.ingest/catalog.db: database is locked",
    errors.DatabaseLost: "postgresql+asyncpg://ingest:***@db.example.com/ingest: connection is closed",
    errors.DatabaseDataError: "postgresql+asyncpg://ingest:***@db.example.com/ingest: bigint out of range",
    errors.DatabaseDamaged: "sqlite+aiosqlite:////srv/data/.ingest/catalog.db: database disk image is malformed",
    errors.DatabaseSilent: "postgresql+asyncpg://ingest:***@db.example.com/ingest: no answer in time",
    errors.LockLost: "the lock `sync of source 1` is held by another session",
    errors.DatabaseUnfit: "postgresql+asyncpg://ingest:***@db.example.com/ingest: its encoding is LATIN1, and not UTF8",
    errors.SchemaMissing: "the database's schema is missing, this version of ingest needs 0002",
    errors.SchemaAhead: "the database's schema is at 0009, this version of ingest knows up to 0002",
    errors.RowNotFound: "'loans/b.pdf' is not in the catalog",
}
"""Every class has one; a test says so."""
