"""Where the bucket is: host header, request paths and queries, in the exact bytes that are signed and sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from ingest.errors import NoSuchKey
from ingest.http.route import DEFAULT_PORTS, Route, host_header

if TYPE_CHECKING:
    from ingest.settings.source import SourceSettings
    from ingest.settings.trust import Trust

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_KEPT_IN_PATHS = _UNRESERVED + b"/"
_ESCAPES = tuple(f"%{byte:02X}" for byte in range(256))
_PATH_PIECES = tuple(chr(byte) if byte in _KEPT_IN_PATHS else _ESCAPES[byte] for byte in range(256))
_QUERY_PIECES = tuple(chr(byte) if byte in _UNRESERVED else _ESCAPES[byte] for byte in range(256))


def quote_key(key: str) -> str:
    """A key as it stands in a URL's path: UTF-8, percent-encoded, ``A-Za-z0-9-._~/`` kept.

    Dot segments and ``//`` stay as they are: a key is not a file path (AWS SigV4, "UriEncode").

    Raises:
        NoSuchKey: the text cannot be a key: it is empty, or no UTF-8.
    """
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        raise NoSuchKey(f"{key!a} is not a key: S3 keys are UTF-8 text") from None
    if not raw.translate(None, _KEPT_IN_PATHS):
        if not key:
            raise NoSuchKey("an empty key names the bucket, not an object")
        return key
    return "".join([_PATH_PIECES[byte] for byte in raw])


def quote_query(parameters: Mapping[str, str]) -> str:
    """A canonical query string: names in order, names and values percent-encoded (also ``/``)."""
    pairs = sorted((_quote_value(name), _quote_value(value)) for name, value in parameters.items())
    return "&".join([f"{name}={value}" for name, value in pairs])


def _quote_value(text: str) -> str:
    return "".join([_QUERY_PIECES[byte] for byte in text.encode("utf-8", "surrogateescape")])


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One bucket's address. `host` is the name to connect to, without brackets and, for virtual-hosted
    addressing, with the bucket in front."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    addressing: Literal["path", "virtual"]
    bucket: str

    @classmethod
    def from_settings(cls, settings: SourceSettings) -> Self:
        """
        Raises:
            SettingsError: S3_ENDPOINT or S3_BUCKET is not set.
        """
        parts = urlsplit(settings.endpoint_url)
        bucket = settings.required("bucket")
        scheme, host = settings.scheme, parts.hostname or ""
        if settings.addressing_style == "virtual":
            host = f"{bucket}.{host}"
        return cls(scheme, host, parts.port or DEFAULT_PORTS[scheme], settings.addressing_style, bucket)

    @property
    def host_header(self) -> str:
        """Host and port as signed and sent."""
        return host_header(self.scheme, self.host, self.port)

    @property
    def bucket_path(self) -> str:
        return "/" if self.addressing == "virtual" else f"/{self.bucket}"

    @property
    def key_root(self) -> str:
        """What stands in front of every quoted key: `quote_key` of a key makes the rest of its path."""
        return "/" if self.addressing == "virtual" else f"/{self.bucket}/"

    def route(self, trust: Trust) -> Route:
        """The way there. Raises `SettingsError`."""
        return Route.to(self.scheme, self.host, self.port, trust)

    def __str__(self) -> str:
        """``host:port`` for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
