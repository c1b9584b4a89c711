"""The variables by which each field is set from outside, and what each wants."""

from __future__ import annotations

from typing import NamedTuple

from ingest.errors import SettingsError


class Variable(NamedTuple):
    """How one field of `Settings` is set from outside, and what it wants."""

    name: str
    wants: str
    secret: bool = False


VARIABLES: dict[str, Variable] = {
    "endpoint": Variable("S3_ENDPOINT", "host:port or a URL, for example minio.example.com:9000"),
    "access_key": Variable("S3_ACCESS_KEY", "the access key's id; empty for the standard AWS chain", secret=True),
    "secret_key": Variable("S3_SECRET_KEY", "the secret that belongs to S3_ACCESS_KEY", secret=True),
    "session_token": Variable("S3_SESSION_TOKEN", "the token of temporary credentials", secret=True),
    "bucket": Variable("S3_BUCKET", "the bucket's name, for example statements"),
    "secure": Variable("S3_SECURE", "true (HTTPS) or false (HTTP)"),
    "verify_ssl": Variable("S3_VERIFY_SSL", "true, or false to accept any certificate (unsafe)"),
    "ca_bundle": Variable("S3_CA_BUNDLE", "a PEM file with the certificates to trust"),
    "client_cert": Variable("S3_CLIENT_CERT", "a PEM file with our own certificate, for a server that asks for one"),
    "client_key": Variable("S3_CLIENT_KEY", "a PEM file with its private key, if S3_CLIENT_CERT does not hold it"),
    "client_key_password": Variable(
        "S3_CLIENT_KEY_PASSWORD", "the password of an encrypted S3_CLIENT_KEY", secret=True
    ),
    "region": Variable("S3_REGION", "the region that requests are signed for, for example us-east-1"),
    "addressing_style": Variable("S3_ADDRESSING_STYLE", "path or virtual"),
    "patience": Variable(
        "S3_PATIENCE", "how long a run under way waits for a server that is away or asks to wait: 90s, 5m or 1h"
    ),
    "database_url": Variable(
        "DATABASE_URL", "sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/NAME", secret=True
    ),
    "data_dir": Variable("INGEST_DATA_DIR", "a directory for the copies and the embedded catalog"),
    "retention": Variable("INGEST_RETENTION", "how long cleanup keeps a copy: 45m, 12h, 30d or 2w"),
    "gone_after": Variable(
        "INGEST_GONE_AFTER",
        "how long cleanup keeps a copy that the bucket no longer has, for example 30d; empty: for ever",
    ),
    "keep_runs": Variable("INGEST_KEEP_RUNS", "how long the catalog keeps runs and settled deliveries: 400d or 52w"),
    "keep_letters": Variable(
        "INGEST_KEEP_LETTERS", "how long the catalog keeps messages that were given up: 400d or 52w"
    ),
    "kafka_bootstrap_servers": Variable("KAFKA_BOOTSTRAP_SERVERS", "host:port, several separated by commas"),
    "kafka_topic": Variable("KAFKA_TOPIC", "the topic that names the objects"),
    "kafka_group_id": Variable("KAFKA_GROUP_ID", "the consumer group"),
    "kafka_dead_letter_topic": Variable(
        "KAFKA_DEAD_LETTER_TOPIC", "the topic for messages that were given up; empty for KAFKA_TOPIC with .dead"
    ),
    "kafka_session_timeout": Variable(
        "KAFKA_SESSION_TIMEOUT", "after how long without a sign of life others take over, for example 10s"
    ),
    "kafka_security_protocol": Variable("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
    "kafka_sasl_mechanism": Variable(
        "KAFKA_SASL_MECHANISM", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI"
    ),
    "kafka_sasl_username": Variable("KAFKA_SASL_USERNAME", "the broker's user, for a SASL protocol"),
    "kafka_sasl_password": Variable("KAFKA_SASL_PASSWORD", "the password of KAFKA_SASL_USERNAME", secret=True),
    "kafka_sasl_token": Variable("KAFKA_SASL_TOKEN", "the token for OAUTHBEARER", secret=True),
    "kafka_sasl_service": Variable("KAFKA_SASL_SERVICE", "the broker's service name for GSSAPI, for example kafka"),
    "kafka_ca_bundle": Variable("KAFKA_CA_BUNDLE", "a PEM file with the certificates to trust as the broker's"),
    "kafka_client_cert": Variable("KAFKA_CLIENT_CERT", "as S3_CLIENT_CERT, for the broker"),
    "kafka_client_key": Variable("KAFKA_CLIENT_KEY", "as S3_CLIENT_KEY, for the broker"),
    "kafka_client_key_password": Variable(
        "KAFKA_CLIENT_KEY_PASSWORD", "the password of an encrypted KAFKA_CLIENT_KEY", secret=True
    ),
    "verify_url": Variable("VERIFY_URL", "the verification service, for example https://verify.example.com/v1/verify"),
    "verify_authorization": Variable(
        "VERIFY_AUTHORIZATION", "the Authorization header for it, for example Bearer TOKEN", secret=True
    ),
    "verify_ca_bundle": Variable("VERIFY_CA_BUNDLE", "a PEM file with the certificates to trust for it"),
    "verify_client_cert": Variable("VERIFY_CLIENT_CERT", "as S3_CLIENT_CERT, for the verification service"),
    "verify_client_key": Variable("VERIFY_CLIENT_KEY", "as S3_CLIENT_KEY, for the verification service"),
    "verify_client_key_password": Variable(
        "VERIFY_CLIENT_KEY_PASSWORD", "the password of an encrypted VERIFY_CLIENT_KEY", secret=True
    ),
    "verify_timeout": Variable("VERIFY_TIMEOUT", "how long one delivery may take, for example 60s"),
}
"""Field -> variable. The documentation, the error messages and `.env.example`'s test read this table."""


def unset(field: str) -> SettingsError:
    """What is said where a command cannot do without the field, and it is empty."""
    variable = VARIABLES[field]
    return SettingsError(f"{variable.name} is not set; it wants {variable.wants}")
