"""What stands beside the code is true: compose file, documents, settings, and no secrets or machine's paths."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from ingest.cli import COMMANDS, main
from ingest.errors import ExitCode
from ingest.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_compose_file_fits_the_compose_specification() -> None:
    # The model is generated from the specification's schema, and forbids what that does not name.
    from compose_viz.spec.compose_spec import ComposeSpecification

    document = yaml.safe_load(read("docker-compose.yml"))
    ComposeSpecification.model_validate(document)
    assert {"minio", "postgres", "ingest"} <= set(document["services"])
    document["services"]["ingest"]["no-such-key"] = 1
    with pytest.raises(ValueError, match="no-such-key"):
        ComposeSpecification.model_validate(document)


def test_the_compose_file_uses_settings_that_exist() -> None:
    document = yaml.safe_load(read("docker-compose.yml"))
    known = {variable.name for variable in VARIABLES.values()}
    known |= {f"{name}_FILE" for name in known}
    assert set(document["services"]["ingest"]["environment"]) <= known


@pytest.mark.parametrize("variable", VARIABLES.values(), ids=lambda variable: variable.name)
def test_every_setting_is_documented(variable: object) -> None:
    name = variable.name  # type: ignore[attr-defined]
    assert re.search(rf"^#? ?{name}=", read(".env.example"), re.MULTILINE)
    assert f"`{name}`" in read("docs/operations.md")


def test_every_command_and_exit_code_is_documented() -> None:
    documented = read("docs/cli.md")
    assert all(f"## ingest {name}" in documented for name in COMMANDS)
    assert all(f"| {int(code)} |" in read("docs/operations.md") for code in ExitCode)


def test_the_command_reference_is_the_commands_own_help() -> None:
    from ingest.cli.docs import render

    assert read("docs/cli.md") == render()


def test_every_command_has_a_help_text_with_an_example() -> None:
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.help
        if not isinstance(command, click.Group):
            assert "Example:" in command.help, name


def test_links_between_documents_resolve() -> None:
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_nothing_tracked_is_a_secret_or_names_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in tracked if re.search(r"(^|/)(\.env|.*\.(pem|key|db|sqlite3?|pyc))$", name)]
    for name in tracked:
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        assert "index-url" not in text.replace("no-emit-index-url", "") or name.startswith("tests/"), name
