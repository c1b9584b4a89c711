"""How the broker is reached, and who we are to it: what every connection of ours to it is made with."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import collect_hosts

from ingest.errors import SettingsError
from ingest.settings.kafka import KafkaSettings, Mechanism
from ingest.settings.secret import Secret
from ingest.system.redaction import protecting

REQUEST_SECONDS = 15.0


class Place(NamedTuple):
    """A broker's address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Access:
    """One broker's side of the settings. `known` keeps the secrets out of every output while it is open."""

    settings: KafkaSettings
    known: ExitStack
    protocol: str
    mechanism: Mechanism
    request_seconds: float = REQUEST_SECONDS
    _seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, settings: KafkaSettings, known: ExitStack) -> Access:
        """
        Raises:
            SettingsError: GSSAPI is wanted, and its package is not installed.
        """
        if settings.protocol.startswith("SASL") and settings.mechanism == "GSSAPI":
            _require_gssapi()
        return cls(settings, known, settings.protocol, settings.mechanism)

    @property
    def places(self) -> list[Place]:
        hosts = collect_hosts(self.settings.servers, randomize=False)
        return [Place(host, port) for host, port, _ in hosts]

    @property
    def speaks_tls(self) -> bool:
        return self.protocol.endswith("SSL")

    @property
    def logs_in(self) -> bool:
        return self.protocol.startswith("SASL")

    def speaking(self, protocol: str) -> Access:
        """The same in another protocol, for a moment's question."""
        return replace(self, protocol=protocol, request_seconds=min(self.request_seconds, 5.0))

    def arguments(self) -> dict[str, Any]:
        """What aiokafka's connections and clients take. Secrets are read again from where they came from."""
        wanted: dict[str, Any] = {
            "client_id": "ingest",
            "security_protocol": self.protocol,
            "request_timeout_ms": round(self.request_seconds * 1000),
        }
        if self.speaks_tls:
            wanted["ssl_context"] = self.settings.trust.context()
        if self.logs_in:
            wanted |= self.login()
        return wanted

    def login(self) -> dict[str, Any]:
        """The part of `arguments` that may change while we run."""
        wanted: dict[str, Any] = {"sasl_mechanism": self.mechanism}
        if self.mechanism == "OAUTHBEARER":
            wanted["sasl_oauth_token_provider"] = _Tokens(self)
        elif self.mechanism == "GSSAPI":
            wanted["sasl_kerberos_service_name"] = self.settings.service
        else:
            wanted["sasl_plain_username"] = self.settings.username
            wanted["sasl_plain_password"] = self.text_of(self.settings.password)
        return wanted

    def text_of(self, secret: Secret) -> str:
        text = secret.now()
        if text not in self._seen:
            self._seen.add(text)
            self.known.enter_context(protecting({text}))
        return text


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """The token as its file holds it whenever somebody logs in: whoever renews it writes the file."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def token(self) -> str:
        return self._access.text_of(self._access.settings.token)


def _require_gssapi() -> None:
    try:
        import gssapi  # noqa: F401 - only whether it is there
    except (ImportError, OSError) as error:
        raise SettingsError(
            "KAFKA_SASL_MECHANISM=GSSAPI needs the package gssapi, and Kerberos' own library",
            hint="pip install gssapi (Debian: libkrb5-dev, krb5-user); the ticket is taken from the usual cache.",
        ) from error
