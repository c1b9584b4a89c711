"""docker-compose.yml fits the Compose specification, refers only to what it defines, and sets settings that exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_viz.spec.compose_spec import ComposeSpecification

from ingest.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return document


def references(service: dict[str, Any], kind: str) -> Iterator[str]:
    """The names of the top-level `kind` (secrets, configs, volumes) that a service mounts."""
    for mount in service.get(kind, []):
        source = mount["source"] if isinstance(mount, dict) else mount.partition(":")[0]
        if not source.startswith((".", "/")):
            yield source


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker/seaweedfs.yml"])
def test_it_fits_the_specification(name: str) -> None:
    # The model is generated from the specification's own schema.
    ComposeSpecification.model_validate(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))


def test_another_server_takes_the_place_of_services_that_are_there(compose: dict[str, Any]) -> None:
    other = yaml.safe_load((ROOT / "docker" / "seaweedfs.yml").read_text(encoding="utf-8"))
    assert set(other) == {"services"}
    assert set(other["services"]) <= set(compose["services"])
    for service in other["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        for mount in service.get("volumes", []):
            assert (ROOT / mount.partition(":")[0]).is_file()


@pytest.mark.parametrize("place", ["", "services.ingest", "services.minio.healthcheck", "volumes.copies"])
def test_the_specification_forbids_what_it_does_not_name(compose: dict[str, Any], place: str) -> None:
    broken = yaml.safe_load(yaml.safe_dump(compose))
    target = broken
    for name in filter(None, place.split(".")):
        target[name] = target[name] or {}
        target = target[name]
    target["no-such-key"] = 1
    with pytest.raises(ValueError, match="no-such-key"):
        ComposeSpecification.model_validate(broken)


@pytest.mark.parametrize("kind", ["secrets", "configs", "volumes"])
def test_what_is_mounted_is_defined_and_what_is_defined_is_mounted(compose: dict[str, Any], kind: str) -> None:
    mounted = {name for service in compose["services"].values() for name in references(service, kind)}
    assert mounted == set(compose[kind])


def test_services_wait_only_for_what_can_come(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for other, wait in service.get("depends_on", {}).items():
            awaited = compose["services"][other]
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in awaited, f"{name} waits for the health of {other}"
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert "restart" not in awaited, f"{name} waits for the end of {other}"


def test_it_holds_all_parts_and_each_that_stays_up_has_a_health_check(compose: dict[str, Any]) -> None:
    assert {"minio", "postgres", "kafka", "ingest", "consumer"} <= set(compose["services"])
    staying = [service for service in compose["services"].values() if "restart" in service]
    assert len(staying) == 5
    assert all("healthcheck" in service for service in staying)
    assert all("image" in service or "build" in service for service in compose["services"].values())


def test_its_settings_exist(compose: dict[str, Any]) -> None:
    known = {variable.name for variable in VARIABLES.values()}
    known |= {f"{variable.name}_FILE" for variable in VARIABLES.values() if variable.secret}
    for service in ("ingest", "consumer"):
        assert set(compose["services"][service]["environment"]) <= known


def test_secrets_come_as_files_that_are_mounted(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if variable.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], f"{name}: {variable}"
            assert not variable.endswith(("PASSWORD", "SECRET_KEY", "DATABASE_URL")), f"{name}: {variable} in the open"
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
