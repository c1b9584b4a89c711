"""Flags, environment, ``.env`` and defaults become one validated, frozen `Settings`.

Order: flag, environment, ``.env``, default. Secrets come from the environment, ``.env`` or a file named by
``<VARIABLE>_FILE`` (as container secrets are mounted); they have no flags and no repr.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ingest.errors import SettingsError
from ingest.settings import sendable
from ingest.settings.anchors import anchored, anchored_url
from ingest.settings.environment import Found, Names, read_sources
from ingest.settings.events import KafkaSettings, VerifySettings
from ingest.settings.retention import RetentionSettings
from ingest.settings.trust import Trust
from ingest.system.units import parse_duration


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

_TLS_FILES = ("ca_bundle", "client_cert", "client_key")
_TLS_FIELDS = frozenset(f"{whose}{name}" for whose in ("", "kafka_", "verify_") for name in _TLS_FILES)
NAMES = Names(
    variables={field: variable.name for field, variable in VARIABLES.items()},
    secrets={field for field, variable in VARIABLES.items() if variable.secret},
    paths={"data_dir", *_TLS_FIELDS},
)
_DIALECTS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


class Settings(RetentionSettings, KafkaSettings, VerifySettings):
    """Everything the tool is told from outside. See `VARIABLES` for the names and wants of each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    endpoint: str = ""
    """``host`` or ``host:port``, without a scheme."""
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    bucket: str = ""
    secure: bool = True
    verify_ssl: bool = True
    ca_bundle: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    client_key_password: SecretStr | None = None
    region: str = "us-east-1"
    addressing_style: Literal["path", "virtual"] = "path"
    patience: timedelta = timedelta(minutes=5)
    database_url: SecretStr = SecretStr("")
    """Empty on input: SQLite under the data directory. Always complete after validation."""
    data_dir: Path = Path("data")
    secret_files: Mapping[str, Path] = Field(default={}, repr=False)
    """By field: the file that a secret came from."""
    warnings: tuple[str, ...] = Field(default=(), repr=False)
    """What a person should be told at every run."""

    @classmethod
    def load(cls, flags: Mapping[str, object] | None = None, *, env_file: Path | None = None) -> Self:
        """Reads the sources in their order. `flags` maps field names to values; None and "" mean "not given".

        Raises:
            SettingsError: a value is wrong; the message names its variable and what it wants.
        """
        values, warnings, _ = read_all(env_file)
        given = {name: value for name, value in (flags or {}).items() if value not in (None, "")}
        if "://" in str(given.get("endpoint", "")):
            values.pop("secure", None)  # a URL on the command line outranks S3_SECURE of the environment
        values.update(given)
        try:
            settings = cls(**values, warnings=tuple(warnings))
        except ValidationError as error:
            raise _as_settings_error(error) from None
        return settings.model_copy(update={"warnings": (*warnings, *settings._own_warnings())})

    def replace(self, **overrides: object) -> Self:
        """A copy with other values for some fields, validated like the first; neither environment nor files are read.

        Raises:
            SettingsError: as `load` does.
        """
        values: dict[str, object] = {name: getattr(self, name) for name in type(self).model_fields}
        if "://" in str(overrides.get("endpoint", "")):
            del values["secure"]  # the URL's scheme says it
        try:
            return type(self).model_validate(values | overrides)
        except ValidationError as error:
            raise _as_settings_error(error) from None

    @property
    def endpoint_url(self) -> str:
        """``https://host:port``.

        Raises:
            SettingsError: S3_ENDPOINT is not set.
        """
        return f"{'https' if self.secure else 'http'}://{self.required('endpoint')}"

    @property
    def trust(self) -> Trust:
        """Who the bucket's server has to be, and who we are to it."""
        return self._trust("", "S3", checked=self.verify_ssl)

    @property
    def verify_trust(self) -> Trust:
        """The same of the verification service."""
        return self._trust("verify_", "VERIFY")

    @property
    def kafka_trust(self) -> Trust:
        """The same of the broker."""
        return self._trust("kafka_", "KAFKA")

    def _trust(self, fields: str, variables: str, *, checked: bool = True) -> Trust:
        bundle, certificate, key = (getattr(self, fields + name) for name in _TLS_FILES)
        password: SecretStr | None = getattr(self, f"{fields}client_key_password")
        return Trust(variables, bundle, certificate, key, password.get_secret_value() if password else "", checked)

    @property
    def sqlite_path(self) -> Path | None:
        """The SQLite file of the catalog; None when the catalog is PostgreSQL."""
        url = self.database_url.get_secret_value()
        prefix = "sqlite+aiosqlite:///"
        return Path(unquote(url.removeprefix(prefix))) if url.startswith(prefix) else None

    @property
    def own_dir(self) -> Path:
        """Where everything lives that is not a copy: catalog, temporary files, locks.

        It stands beside the buckets' directories, and no bucket's name starts with a dot.
        """
        return self.data_dir / ".ingest"

    def secret_now(self, field: str) -> str:
        """A secret as its file holds it by now, if it came from one: whoever changes it need not start us again."""
        value: SecretStr | None = getattr(self, field)
        known = value.get_secret_value() if value is not None else ""
        if field not in self.secret_files:
            return known
        try:
            return self.secret_files[field].read_text(encoding="utf-8").strip() or known
        except (OSError, UnicodeDecodeError):
            return known  # it is being replaced, perhaps: the one that we know may do

    @property
    def secrets(self) -> set[str]:
        """Everything that no output may show, also as it is written in a URL."""
        fields = (getattr(self, name) for name, variable in VARIABLES.items() if variable.secret)
        plain = {field.get_secret_value() for field in fields if field is not None}
        parts = urlsplit(self.database_url.get_secret_value())
        written = parts.password or ""
        plain -= {self.database_url.get_secret_value()}
        if self.access_key is not None and len(self.access_key.get_secret_value()) < _SHORTEST_ID:
            plain -= {self.access_key.get_secret_value()}
        if self.verify_authorization is not None:  # the token alone, without its scheme, is as secret
            plain.add(self.verify_authorization.get_secret_value().rpartition(" ")[2])
        plain |= {written, unquote(written), *parse_qs(parts.query).get("password", ())}
        return plain | {quote(secret, safe="") for secret in plain}

    def required(self, field: str) -> str:
        """The value of a setting that this command cannot do without.

        Raises:
            SettingsError: it is empty.
        """
        value = getattr(self, field)
        if not value:
            variable = VARIABLES[field]
            raise SettingsError(f"{variable.name} is not set; it wants {variable.wants}")
        return str(value)

    @field_validator("endpoint")
    @classmethod
    def _plain_endpoint(cls, value: str) -> str:
        return sendable.host_and_port(value)

    @field_validator("bucket")
    @classmethod
    def _safe_bucket(cls, value: str) -> str:
        return sendable.bucket_name(value)

    @field_validator("region")
    @classmethod
    def _plain_region(cls, value: str) -> str:
        return sendable.region_name(value)

    @field_validator("access_key", "session_token", "secret_key")
    @classmethod
    def _plain_keys(cls, value: SecretStr | None, field: ValidationInfo) -> SecretStr | None:
        fits = sendable.is_access_key if field.field_name == "access_key" else sendable.is_header
        if value is not None and not fits(value.get_secret_value()):
            raise ValueError("it holds line breaks or other characters that no key has")
        return value

    @field_validator("data_dir")
    @classmethod
    def _nameable(cls, value: Path) -> Path:
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in str(value)):
            raise ValueError("the name is not UTF-8 text")  # and no address of a catalog could name it
        return value

    @field_validator(*_TLS_FIELDS)
    @classmethod
    def _readable_file(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        value = Path(anchored(str(value)))
        if not (value.is_file() and os.access(value, os.R_OK)):
            raise ValueError(f"{value} is not a readable file")
        return value

    @field_validator("patience", mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        return parse_duration(value) if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _scheme_decides(cls, values: dict[str, Any]) -> dict[str, Any]:
        scheme = sendable.scheme_of(str(values.get("endpoint", "")))
        if scheme not in ("http", "https"):
            return values
        stated = values.get("secure")
        if stated is not None and str(stated).strip().lower() in _FALSE | _TRUE:
            if (str(stated).strip().lower() in _TRUE) != (scheme == "https"):
                raise ValueError(f"S3_ENDPOINT says {scheme}:// but S3_SECURE says {stated}; set only one of them")
            return values
        return {**values, "secure": scheme == "https"} if stated is None else values

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("S3_ACCESS_KEY and S3_SECRET_KEY belong together; set both or neither")
        object.__setattr__(self, "data_dir", Path(os.path.abspath(self.data_dir.expanduser())))
        object.__setattr__(self, "database_url", SecretStr(self._full_database_url()))
        return self

    @model_validator(mode="after")
    def _usable_certificates(self) -> Self:
        for trust in (self.trust, self.verify_trust, self.kafka_trust):
            if trust.is_own:
                trust.context()
        return self

    def _full_database_url(self) -> str:
        url = anchored_url(self.database_url.get_secret_value())
        if not url:
            return f"sqlite+aiosqlite:///{quote(str(self.own_dir / 'catalog.db'))}"
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in _DIALECTS or (scheme.startswith("sqlite") and len(rest) < 2):
            raise ValueError(f"DATABASE_URL is not usable; it wants {VARIABLES['database_url'].wants}")
        try:
            parts = urlsplit(url)
            for host in parts.netloc.rpartition("@")[2].split(","):
                _ = urlsplit(f"//{host}").port
            # Digits before a bare `/` or `#` pass for a port; in the name of a file both may stand.
            is_cut = not scheme.startswith("sqlite") and ("@" in parts.path or "#" in url)
        except ValueError:  # its text would quote the part of a password behind a bare `/`
            is_cut = True
        if is_cut:
            raise ValueError("DATABASE_URL: a `/`, `@`, `#` or `%` in the password is written percent-encoded")
        return f"{_DIALECTS[scheme]}://{rest}"

    def _own_warnings(self) -> list[str]:
        said = []
        if self.secure and not self.verify_ssl:
            said.append(
                "S3_VERIFY_SSL=false: any certificate is accepted; whoever stands in between can read and alter"
            )
        if self.verify_authorization is not None and self.verify_url.startswith("http:"):
            said.append("VERIFY_URL is not encrypted: whoever stands in between can read VERIFY_AUTHORIZATION")
        for trust, without_tls in (
            (self.trust, self.endpoint and not self.secure),
            (self.verify_trust, self.verify_url.startswith("http:")),
            (self.kafka_trust, self.kafka_topic and not self.kafka_security_protocol.endswith("SSL")),
        ):
            if trust.certificate is not None and without_tls:
                said.append(f"{trust.prefix}_CLIENT_CERT is shown to nobody: the connection is not encrypted")
        return said


def read_all(env_file: Path | None = None) -> Found:
    """What is written outside of the command line, and where. Raises `SettingsError`."""
    return read_sources(NAMES, env_file)


_SHORTEST_ID = 8
"""Characters: a shorter access key is a user's name, such as `ingest`, and a word of our own messages."""

_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
_FALSE = frozenset({"false", "0", "no", "off", "f", "n"})


def _as_settings_error(error: ValidationError) -> SettingsError:
    """One line for the first fault; the value itself is never shown, since it may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    reason = first["msg"].removeprefix("Value error, ")
    variable = VARIABLES.get(str(first["loc"][0])) if first["loc"] else None
    if variable is None:
        return SettingsError(f"there is no setting {first['loc'][0]!r}" if first["loc"] else reason)
    return SettingsError(f"{variable.name}: {reason}; it wants {variable.wants}")
