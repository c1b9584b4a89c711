"""What the documents say is so: commands, settings, exit codes, links; and nothing tracked is a secret or local."""

from __future__ import annotations

import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import click
import pytest

from ingest.cli import COMMANDS, error_docs, main
from ingest.cli.docs import render
from ingest.cli.examples import EXAMPLES
from ingest.errors import ExitCode, IngestError
from ingest.settings import VARIABLES, Settings, Variable

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
LOCKS = ["requirements.lock", "requirements-run.lock", "benchmarks/requirements.lock"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_command_reference_is_the_commands_own_help() -> None:
    assert read("docs/cli.md") == render(), "run `make docs`"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help_and_an_example(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.help
    if not isinstance(command, click.Group):
        assert "Example:" in command.help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_line(name: str) -> None:
    assert f"\n## ingest {name}\n" in read("docs/cli.md")
    assert re.search(rf"\bingest {name}\b", read("docs/operations.md") + read("README.md") + read("CHANGELOG.md"))


@pytest.mark.parametrize("variable", VARIABLES.values(), ids=lambda variable: variable.name)
def test_every_setting_has_its_line(variable: Variable) -> None:
    assert re.search(rf"^(# )?{variable.name}=", read(".env.example"), re.MULTILINE)
    assert f"\n| `{variable.name}` | {variable.wants} |" in read("docs/operations.md")


def test_every_field_of_the_settings_has_a_variable() -> None:
    assert set(Settings.model_fields) - {"warnings", "secret_files"} == set(VARIABLES)


def test_the_example_settings_are_settings() -> None:
    known = {variable.name for variable in VARIABLES.values()}
    named = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", read(".env.example"), re.MULTILINE))
    assert named == known


def test_the_example_settings_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable.name, raising=False)
        monkeypatch.delenv(f"{variable.name}_FILE", raising=False)
    (tmp_path / ".env").write_text(read(".env.example"), encoding="utf-8")
    (tmp_path / ".env").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    settings = Settings.load()
    assert settings.endpoint_url == "https://minio.example.com:9000"
    assert settings.warnings == ()


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name)
def test_every_exit_code_has_its_line(code: ExitCode) -> None:
    assert f"\n| {int(code)} | {code.meaning} |" in read("docs/operations.md")


def test_the_table_of_errors_is_what_the_code_says() -> None:
    text = read("docs/operations.md")
    assert text == error_docs.written_into(text), "run `make docs`"


def subclasses(kind: type[IngestError]) -> list[type[IngestError]]:
    return [kind, *chain.from_iterable(map(subclasses, kind.__subclasses__()))]


@pytest.mark.parametrize("kind", subclasses(IngestError), ids=lambda kind: kind.__name__)
def test_every_error_has_its_row(kind: type[IngestError]) -> None:
    assert kind in error_docs.documented(), "errors that people see live in ingest/errors"
    assert kind in EXAMPLES
    assert vars(kind).get("__doc__"), "its docstring is its meaning"
    assert "code" in vars(kind), "scripts tell errors apart by their codes"
    row = rf"^\| {int(kind.exit_code)} \| `{kind.code}` \| [^|]+ \| [^|]+ \| [^|]"
    assert len(re.findall(row, read("docs/operations.md"), re.MULTILINE)) == 1


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_make_has_every_target_that_is_named(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    named = re.findall(r"(?:`|^)make ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= targets


def test_the_readme_has_its_two_commands() -> None:
    assert {"demo", "test"} <= set(re.findall(r"^make ([a-z]+)", read("README.md"), re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_resolve(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_that_are_named_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:ingest|tests|docs|benchmarks|migrations|docker)/[\w./-]*\w)/?`", path.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_words_of_the_glossary_are_defined_where_it_says() -> None:
    glossary = re.findall(r"\| `(\w+)` in `([\w/]+\.py)` \|", read("docs/architecture.md"))
    assert len(glossary) >= 25
    defined = r"^(?:class |async def |def |){}\b(?:[:(]| = |: TypeAlias)"
    assert [word for word, name in glossary if not re.search(defined.format(word), read(name), re.MULTILINE)] == []


def test_every_room_has_its_line_and_every_question_an_answer() -> None:
    text = read("docs/architecture.md")
    rooms = {
        path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "ingest").rglob("*.py") if path.stat().st_size
    }
    own = {"ingest/catalog/sql", "ingest/catalog/schema"}  # they stand in the line of the catalog
    table = text.partition("## Rooms")[2].partition("##")[0]
    assert {room for room in rooms - own - {"ingest"} if f"`{room}`" not in table} == set()
    questions = re.findall(r"^\| (.*\?) \| (.*) \|$", text.partition("## Where to look")[2], re.MULTILINE)
    assert len(questions) >= 20
    assert [asked for asked, answer in questions if not re.search(r"`(ingest|migrations)/[\w/]+(\.py)?`", answer)] == []


def test_no_secret_is_tracked(tracked: list[str]) -> None:
    assert not [name for name in tracked if re.search(r"(^|/)(\.env|.*\.(pem|key|crt|db|sqlite3?|pyc))$", name)]
    assert not [name for name in tracked if name.startswith(("secrets/", "data/"))]


def test_nothing_tracked_names_a_registry_or_a_machine(tracked: list[str]) -> None:
    hosts = "pypi" + r"\.org|pythonhosted\.org|index-url[ =]+http"
    homes = r"(?<![\w./~-])/(?:root|home/\w+|work|Users/\w+)/\w"
    for name in tracked:
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        found = re.search(f"{hosts}|{homes}", text)
        assert found is None or name_of(Path(__file__)) == name, f"{name}: {found}"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_requirement_is_pinned_and_hashed(name: str) -> None:
    requirements = re.split(r"\n(?=[a-z0-9])", read(name).replace("\\\n", " "))
    assert len(requirements) > 5
    for requirement in requirements:
        assert re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement[:80]


def test_the_locks_agree_and_cover_the_project() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", read(name), re.MULTILINE))

    everything, running = pins("requirements.lock"), pins("requirements-run.lock")
    assert running.items() <= everything.items()
    project = tomllib.loads(read("pyproject.toml"))["project"]
    declared = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    assert {re.split(r"[^a-z0-9-]", requirement)[0] for requirement in declared} <= set(everything)
    assert {re.split(r"[^a-z0-9-]", requirement)[0] for requirement in project["dependencies"]} <= set(running)


MENTIONED = re.compile(r"\b((?:docs/)?(?:decisions/)?[A-Za-z0-9-]+\.md)\b")
DECIDED = re.compile(r"docs/decisions/([0-9]{4})")
MODULE = re.compile(r"`((?:ingest|jobs|plan|store|source|catalog|delivery|cli|http|tests)/[a-z_0-9/]+\.py)`")


def missing_of(path: Path) -> list[str]:
    """What a text refers to, and is not there: documents, decisions, and in documents modules."""
    text = path.read_text(encoding="utf-8")
    bases = (ROOT, ROOT / "docs", ROOT / "benchmarks", path.parent)
    missing = [name for name in MENTIONED.findall(text) if not any((base / name).is_file() for base in bases)]
    missing += [number for number in DECIDED.findall(text) if not list((ROOT / "docs/decisions").glob(f"{number}-*"))]
    modules = MODULE.findall(text) if path.suffix == ".md" else []
    return missing + [name for name in modules if not any((base / name).is_file() for base in (ROOT, ROOT / "ingest"))]


def test_no_text_refers_to_a_document_or_a_module_that_is_not_there(tracked: list[str]) -> None:
    sources = [ROOT / name for name in tracked if name.endswith(".py")]
    found = {name_of(path): missing_of(path) for path in [*sources, *DOCUMENTS] if path != Path(__file__)}
    pattern = {"docs/decisions/0000-record-decisions.md": ["NNNN-title.md"]}
    assert {name: missing for name, missing in found.items() if missing} == pattern


def test_a_decision_is_known_by_its_number() -> None:
    records = sorted((ROOT / "docs/decisions").glob("*.md"))
    numbers = [int(path.name[:4]) for path in records]
    assert numbers == list(range(len(records))), "each has a number of its own, and none is left out"
    headings = [path.read_text(encoding="utf-8").partition(".")[0] for path in records]
    assert headings == [f"# {number}" for number in numbers]
