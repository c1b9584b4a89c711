"""What is told of the broker: as it is set from outside, and as the broker's room takes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, SecretStr, field_validator, model_validator

from ingest.settings import sendable
from ingest.settings.secret import Secret
from ingest.settings.trust import Trust
from ingest.system.units import parse_duration

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """One topic of one broker, and who we are to it."""

    servers: str
    """``host:port``, several separated by commas."""
    topic: str
    group_id: str
    dead_letter_topic: str
    session_timeout: timedelta
    protocol: Protocol
    mechanism: Mechanism
    username: str
    password: Secret
    token: Secret
    service: str
    """The broker's, for GSSAPI."""
    trust: Trust


class KafkaVariables(BaseModel, defer_build=True):  # a part of `Settings`: only that is built, at each start
    """Where the events come from."""

    kafka_bootstrap_servers: str = ""
    kafka_topic: str = ""
    kafka_group_id: str = "ingest"
    kafka_dead_letter_topic: str = ""
    """Empty on input: the topic with ``.dead`` behind it, where there is a topic."""
    kafka_session_timeout: timedelta = timedelta(seconds=10)
    kafka_security_protocol: Protocol = "PLAINTEXT"
    kafka_sasl_mechanism: Mechanism = "PLAIN"
    kafka_sasl_username: str = ""
    kafka_sasl_password: SecretStr | None = None
    kafka_sasl_token: SecretStr | None = None
    kafka_sasl_service: str = "kafka"
    kafka_ca_bundle: Path | None = None
    kafka_client_cert: Path | None = None
    kafka_client_key: Path | None = None
    kafka_client_key_password: SecretStr | None = None

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _hosts_and_ports(cls, value: str) -> str:
        for server in value.split(","):
            if "://" in server:
                raise ValueError("not a list of hosts and ports")
            sendable.host_and_port(server.strip())
        return value

    @field_validator("kafka_session_timeout", mode="before")
    @classmethod
    def _session(cls, value: object) -> object:
        return parse_duration(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL"):
            self._require_login()
        if self.kafka_topic and self.kafka_dead_letter_topic == self.kafka_topic:
            raise ValueError("KAFKA_DEAD_LETTER_TOPIC is KAFKA_TOPIC: what is given up would come back for ever")
        if self.kafka_topic and not self.kafka_dead_letter_topic:
            object.__setattr__(self, "kafka_dead_letter_topic", f"{self.kafka_topic}.dead")
        return self

    def _require_login(self) -> None:
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            if self.kafka_sasl_token is None:
                raise ValueError("OAUTHBEARER wants KAFKA_SASL_TOKEN, or the file that KAFKA_SASL_TOKEN_FILE names")
        elif self.kafka_sasl_mechanism != "GSSAPI" and not (self.kafka_sasl_username and self.kafka_sasl_password):
            raise ValueError("a SASL protocol wants KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD")
