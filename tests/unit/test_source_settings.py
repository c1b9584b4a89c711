"""What each adapter is told: its own part of the settings, as a value that shows no secret."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest

from ingest.errors import SettingsError
from ingest.settings import Settings

CANARIES = {
    "access_key": "canary-access",
    "secret_key": "canary-secret",
    "session_token": "canary-token",
    "client_key_password": "canary-s3",
    "kafka_sasl_password": "canary-kafka",
    "kafka_sasl_token": "canary-oauth",
    "kafka_client_key_password": "canary-broker",
    "verify_authorization": "Bearer canary-bearer",
    "verify_client_key_password": "canary-service",
}


def settings(**values: object) -> Settings:
    given = {"endpoint": "minio.example.com:9000", "bucket": "loans", "verify_url": "https://verify.example.com/v1"}
    return Settings.model_validate(given | values)


def test_each_part_is_a_frozen_value_without_a_word_of_its_secrets() -> None:
    told = settings(**CANARIES)
    for part in (told.source, told.kafka, told.service):
        assert "canary" not in f"{part!r} {part}"
        with pytest.raises(FrozenInstanceError):
            setattr(part, "trust", None)  # noqa: B010 - mypy knows that it is frozen
    assert told.source == settings(**CANARIES).source
    assert told.source.secret_key == told.secret_key
    assert (told.kafka.password.now(), told.kafka.token.now()) == ("canary-kafka", "canary-oauth")
    assert told.service.authorization == told.verify_authorization


@pytest.mark.parametrize(("secure", "url"), [(True, "https://[::1]:9000"), (False, "http://[::1]:9000")])
def test_where_the_source_is(secure: bool, url: str) -> None:
    found = settings(endpoint="[::1]:9000", secure=secure, patience=timedelta(seconds=7), region="eu-1").source
    assert (found.endpoint_url, found.scheme, found.region) == (url, url.partition(":")[0], "eu-1")
    other = found.of("other")
    assert (other.bucket, other.endpoint_url, other.patience, found.bucket) == ("other", url, found.patience, "loans")


@pytest.mark.parametrize(("field", "variable"), [("endpoint", "S3_ENDPOINT"), ("bucket", "S3_BUCKET")])
def test_what_is_not_set_is_said_when_it_is_needed(field: str, variable: str) -> None:
    found = settings(**{field: ""}).source
    with pytest.raises(SettingsError, match=f"{variable} is not set; it wants"):
        found.required(field)  # type: ignore[arg-type]  # parametrised: each is one of the two


def test_there_is_no_service_without_an_address() -> None:
    with pytest.raises(SettingsError, match="VERIFY_URL is not set"):
        _ = settings(verify_url="").service
