"""Flags, environment, ``.env`` and defaults become one validated, frozen `Settings`.

Order: flag, environment, ``.env``, default. Secrets come from the environment, ``.env`` or a file named by
``<VARIABLE>_FILE`` (as container secrets are mounted); they have no flags and no repr.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn, Self
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
from ingest.settings.kafka import KafkaSettings, KafkaVariables
from ingest.settings.retention import RetentionVariables
from ingest.settings.secret import Secret, wrapped
from ingest.settings.service import ServiceSettings, ServiceVariables
from ingest.settings.source import SourceSettings
from ingest.settings.trust import Trust
from ingest.settings.variables import VARIABLES, unset
from ingest.system.units import parse_duration

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


class Settings(RetentionVariables, KafkaVariables, ServiceVariables):
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
        values = wrapped(values | given)
        try:
            settings = cls(**values, warnings=tuple(warnings))
        except ValidationError as error:
            raise _as_settings_error(error) from None
        return settings.model_copy(update={"warnings": (*warnings, *settings._own_warnings())})

    def __reduce__(self) -> NoReturn:
        raise TypeError("settings hold secrets, and are not pickled: each process loads its own")

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
        """As of `source`. Raises `SettingsError`."""
        return self.source.endpoint_url

    @property
    def source(self) -> SourceSettings:
        """What the bucket's room is told."""
        return SourceSettings(
            endpoint=self.endpoint,
            bucket=self.bucket,
            secure=self.secure,
            trust=self.trust,
            region=self.region,
            addressing_style=self.addressing_style,
            patience=self.patience,
            access_key=self.access_key,
            secret_key=self.secret_key,
            session_token=self.session_token,
        )

    @property
    def kafka(self) -> KafkaSettings:
        """What the broker's room is told."""
        return KafkaSettings(
            servers=self.kafka_bootstrap_servers,
            topic=self.kafka_topic,
            group_id=self.kafka_group_id,
            dead_letter_topic=self.kafka_dead_letter_topic,
            session_timeout=self.kafka_session_timeout,
            protocol=self.kafka_security_protocol,
            mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_sasl_username,
            password=self.secret("kafka_sasl_password"),
            token=self.secret("kafka_sasl_token"),
            service=self.kafka_sasl_service,
            trust=self.kafka_trust,
        )

    @property
    def service(self) -> ServiceSettings:
        """What the delivery's room is told. Raises `SettingsError`: VERIFY_URL is not set."""
        return ServiceSettings(
            url=self.required("verify_url"),
            authorization=self.verify_authorization,
            trust=self.verify_trust,
            timeout=self.verify_timeout,
        )

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

    def secret(self, field: str) -> Secret:
        """A secret with the file that it came from, if it came from one."""
        return Secret(getattr(self, field), self.secret_files.get(field))

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
            raise unset(field)
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
