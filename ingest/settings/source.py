"""What is told of a bucket: all that the source's room needs, in one value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Self

from ingest.settings.trust import Trust
from ingest.settings.variables import unset

if TYPE_CHECKING:
    from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One bucket: where it is, whom we take its server for, and who we are to it. `Settings.source` makes one; a run
    of several buckets would have one for each. Endpoint and bucket may be empty until they are needed."""

    endpoint: str
    """``host`` or ``host:port``, without a scheme."""
    bucket: str
    secure: bool
    trust: Trust
    region: str
    addressing_style: Literal["path", "virtual"]
    patience: timedelta
    """How long a server that is away is waited for."""
    access_key: SecretStr | None
    secret_key: SecretStr | None
    session_token: SecretStr | None

    @property
    def directory(self) -> str:
        """Below the data directory: where its copies lie, unless the catalog says another."""
        return self.bucket

    @property
    def scheme(self) -> Literal["http", "https"]:
        return "https" if self.secure else "http"

    @property
    def endpoint_url(self) -> str:
        """``https://host:port``. Raises `SettingsError`: S3_ENDPOINT is not set."""
        return f"{self.scheme}://{self.required('endpoint')}"

    def required(self, field: Literal["endpoint", "bucket"]) -> str:
        """Its value. Raises `SettingsError`: it is empty."""
        value: str = getattr(self, field)
        if not value:
            raise unset(field)
        return value

    def of(self, bucket: str) -> Self:
        """Another bucket of the same server."""
        return replace(self, bucket=bucket)
