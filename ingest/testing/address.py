"""Where a test's bucket is, in the words of `Settings` and of the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.settings import Settings

BUCKET = "statements"
ACCESS_KEY, SECRET_KEY = "testing", "no secret at all"


@dataclass(frozen=True)
class Address:
    """A bucket of a running server, and who may use it."""

    endpoint: str
    name: str = BUCKET
    ca_bundle: Path | None = None
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    def variables(self, data_dir: Path) -> dict[str, str]:
        """The environment of a program that uses it, with its copies and catalog in `data_dir`."""
        values = {
            "S3_ENDPOINT": self.endpoint,
            "S3_BUCKET": self.name,
            "S3_ACCESS_KEY": self.access_key,
            "S3_SECRET_KEY": self.secret_key,
            "INGEST_DATA_DIR": str(data_dir),
        }
        return values | ({"S3_CA_BUNDLE": str(self.ca_bundle)} if self.ca_bundle else {})

    def settings(self, data_dir: Path | None = None, **overrides: Any) -> Settings:
        """The same as `Settings`, without a look at the environment; `overrides` are further fields, and win.

        Clients need no `data_dir`; runs write into it.
        """
        from ingest.settings import Settings

        values: dict[str, Any] = {
            "endpoint": self.endpoint,
            "bucket": self.name,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "data_dir": data_dir or Path("data"),
            "ca_bundle": self.ca_bundle,
        }
        return Settings.model_validate(values | overrides)
