"""How a consumer is told of its broker, and what it says when it cannot begin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ingest.broker.kafka import join
from ingest.engine.options import ConsumeOptions
from ingest.errors import SettingsError
from ingest.jobs.consume import consume
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop

BROKER = {"KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:9092", "KAFKA_TOPIC": "statements"}


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    monkeypatch.chdir(tmp_path)
    for name, value in (BROKER | variables).items():
        monkeypatch.setenv(name, value)
    return Settings.load()


def test_dead_letters_have_a_topic_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(tmp_path, monkeypatch).kafka_dead_letter_topic == "statements.dead"
    named = load(tmp_path, monkeypatch, KAFKA_DEAD_LETTER_TOPIC="graveyard")
    assert named.kafka_dead_letter_topic == "graveyard"


def test_the_password_comes_from_a_file_and_shows_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("canary\n")
    login = {"KAFKA_SASL_USERNAME": "ingest", "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password")}
    settings = load(tmp_path, monkeypatch, KAFKA_SECURITY_PROTOCOL="SASL_SSL", **login)
    assert settings.kafka_sasl_password is not None
    assert settings.kafka_sasl_password.get_secret_value() == "canary"
    assert "canary" not in repr(settings)


def test_a_secret_is_read_again_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("canary-1\n")
    oauth = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "OAUTHBEARER"}
    settings = load(tmp_path, monkeypatch, KAFKA_SASL_TOKEN_FILE=str(file), **oauth).replace(kafka_group_id="other")
    file.write_text("canary-2\n")
    assert settings.secret("kafka_sasl_token").now() == "canary-2"
    file.unlink()  # it is being replaced
    assert settings.secret("kafka_sasl_token").now() == "canary-1"
    monkeypatch.setenv("KAFKA_SASL_TOKEN", "canary-3")  # which outranks the file
    assert load(tmp_path, monkeypatch).secret("kafka_sasl_token").now() == "canary-3"
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_USERNAME"),
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"KAFKA_SASL_MECHANISM": "MAGIC"}, "KAFKA_SASL_MECHANISM"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "OAUTHBEARER"}, "KAFKA_SASL_TOKEN"),
        ({"KAFKA_CA_BUNDLE": "/nowhere.pem"}, "KAFKA_CA_BUNDLE"),
        ({"KAFKA_SESSION_TIMEOUT": "soon"}, "KAFKA_SESSION_TIMEOUT"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:port"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:99999"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "http://kafka.example.com"}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_DEAD_LETTER_TOPIC": "statements"}, "KAFKA_DEAD_LETTER_TOPIC"),
    ],
)
def test_a_wrong_setting_is_named(
    variables: dict[str, str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=named):
        load(tmp_path, monkeypatch, **variables)


@pytest.mark.parametrize("servers", ["one.example.com:9092, two.example.com:9093", "[::1]:9092", "one.example.com"])
def test_brokers_are_hosts_and_ports(servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(tmp_path, monkeypatch, KAFKA_BOOTSTRAP_SERVERS=servers).kafka_bootstrap_servers == servers


@pytest.mark.parametrize("missing", ["KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC"])
async def test_without_a_broker_or_topic_nothing_begins(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(tmp_path, monkeypatch, **{missing: ""})
    with pytest.raises(SettingsError, match=missing):
        await consume(settings, ConsumeOptions(), progress=Silence(), stop=Stop())


async def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "aiokafka", None)

    with pytest.raises(SettingsError) as raised:
        async with join(settings.kafka, _nobody, _nobody):
            pass
    assert raised.value.hint == "pip install 'ingest[kafka]'"


async def _nobody(_: Any) -> None:
    pytest.fail("nobody has joined")
