"""What is told of the verification service: as it is set from outside, and as the delivery's room takes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr, field_validator

from ingest.settings.trust import Trust
from ingest.system.units import parse_duration


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """The service at one address, and who we are to it."""

    url: str
    authorization: SecretStr | None
    trust: Trust
    timeout: timedelta
    """For one delivery, whatever its size."""


class ServiceVariables(BaseModel, defer_build=True):
    """The verification service that copies are handed to."""

    verify_url: str = ""
    verify_authorization: SecretStr | None = None
    verify_ca_bundle: Path | None = None
    verify_client_cert: Path | None = None
    verify_client_key: Path | None = None
    verify_client_key_password: SecretStr | None = None
    verify_timeout: timedelta = timedelta(seconds=60)

    @field_validator("verify_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0):
            raise ValueError("not an http(s) URL")
        (parts.hostname or "").encode("idna" if not value.isascii() else "ascii")
        if parts.username is not None or parts.password is not None:
            raise ValueError("credentials do not belong in the address; set VERIFY_AUTHORIZATION")
        if any(letter.isspace() or not letter.isprintable() for letter in value):
            raise ValueError("not an http(s) URL")
        return value

    @field_validator("verify_authorization")
    @classmethod
    def _one_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not (value.get_secret_value().isascii() and value.get_secret_value().isprintable()):
            raise ValueError("not the value of one header")
        return value

    @field_validator("verify_timeout", mode="before")
    @classmethod
    def _timeout(cls, value: object) -> object:
        duration = parse_duration(value) if isinstance(value, str) else value
        if duration == timedelta(0):
            raise ValueError("no time at all")
        return duration
