"""Imports go one way, from room to room: cli -> jobs -> {events, outbox} -> engine -> five adapters that do not know each
other (source, store, catalog, broker, delivery) -> {http, plan, observe, settings} -> model and errors.

Read from the syntax tree, so that an import inside a function, or one for type checkers only, counts as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for path in (ROOT / "ingest").rglob("*.py") if path.stat().st_size)

NOUNS = {"model", "figures", "errors"}
WORDS = NOUNS | {"system/redaction", "system/units"}
TASKS = {"tasks/groups", "tasks/stop", "tasks/threads", "tasks/turns"}
COMMON = WORDS | {"plan", "observe", "system/private_dirs", "system/failpoints"}
"""What every adapter may use: of the settings each takes its own part alone."""
ADAPTERS = {"source", "store", "catalog", "catalog/sql"}
"""Those that the engine joins."""
ENGINE = COMMON | ADAPTERS | TASKS | {"hashing", "http"}
STAGES = {"engine/scan", "engine/transfer", "engine/record"}
RUN = {"engine/run", "engine/options", "engine/prefixes"}
MAY_IMPORT: dict[str, set[str]] = {
    "figures": set(),
    "model": {"figures", "errors"},
    "errors": {"system/redaction"},
    "hashing": set(),
    "system/failpoints": set(),
    "system/private_dirs": set(),
    "system/processes": set(),
    "system/redaction": set(),
    "system/signals": set(),
    "system/units": NOUNS,
    "tasks/groups": NOUNS,
    "tasks/stop": NOUNS,
    "tasks/threads": NOUNS,
    "tasks/turns": set(),
    "plan": NOUNS,
    "settings/anchors": set(),
    "settings/sendable": set(),
    "settings/trust": NOUNS,
    "settings/environment": NOUNS | {"settings/anchors"},
    "settings/secret": {"settings/variables"},
    "settings/variables": NOUNS,
    "settings/source": {"settings/trust", "settings/variables"},
    "settings/kafka": WORDS | {"settings/secret", "settings/sendable", "settings/trust"},
    "settings/service": WORDS | {"settings/trust"},
    "settings/retention": WORDS,
    "settings": WORDS
    | {
        "settings/anchors",
        "settings/environment",
        "settings/kafka",
        "settings/retention",
        "settings/secret",
        "settings/sendable",
        "settings/service",
        "settings/source",
        "settings/trust",
        "settings/variables",
    },
    "observe": WORDS | {"plan"},
    "http": WORDS | {"settings/trust", "tasks/turns"},
    # Five adapters, which meet in the engine alone.
    "source": COMMON
    | {
        "http",
        "settings/secret",
        "settings/sendable",
        "settings/source",
        "settings/trust",
        "tasks/threads",
        "tasks/turns",
    },
    "store": COMMON | {"hashing", "system/processes"},
    "catalog/sql": COMMON,
    "catalog/schema": COMMON | {"catalog/sql"},
    "catalog": COMMON | {"catalog/schema", "catalog/sql", "system/processes"},
    "broker": COMMON | {"http", "settings/kafka", "settings/secret", "settings/trust"},
    "delivery": COMMON | {"http", "settings/service", "settings/source"},
    # The engine: its stages, and what all runs share.
    "engine/record": ENGINE,
    "engine/evidence": ENGINE,
    "engine/installation": ENGINE | {"catalog/schema", "settings"},
    "engine/options": COMMON,
    "engine/standing": ENGINE,
    "engine/run": ENGINE | {"engine/installation", "engine/record", "engine/standing", "settings"},
    "engine/prefixes": ENGINE | {"engine/run"},
    "engine/scan": ENGINE | RUN,
    "engine/transfer": ENGINE | {"engine/record", "engine/run"},
    "outbox": COMMON | {"catalog", "delivery", "engine/record", "store", "tasks/stop"},
    "events": COMMON | ADAPTERS | {"broker", "engine/record", "engine/run", "engine/transfer", "tasks/turns"},
    "jobs": ENGINE
    | STAGES
    | RUN
    | {"broker", "delivery", "events", "outbox", "settings", "settings/sendable"}
    | {"engine/evidence", "engine/installation"},
    "demo": COMMON | {"settings", "source"},
    "testing": {"settings"},  # for the tests of other programs, and ours: nothing of ours needs it
    "cli": COMMON
    | {"engine/options", "jobs", "demo", "settings", "settings/anchors", "system/signals", "tasks/stop", "__init__"},
    # The public names, each from its home.
    "__init__": NOUNS
    | {"catalog", "engine/options", "jobs", "observe", "plan", "settings", "source", "tasks/stop", "testing"},
    "__main__": {"cli", "system/signals"},
}
EXTRA = {
    "cli/db.py": {"catalog", "catalog/schema", "engine/installation"},  # it is about the catalog itself, and no job
    "jobs/sources.py": {"catalog/schema"},  # ``source attach`` may have to bring it up to date first
    "errors/base.py": {"model"},  # `PartialRun` names the type of what it carries, to type checkers
    "source/client.py": {"settings"},  # these two are the library's own front
    "source/blocking.py": {"settings"},
}

PURE = {
    "__future__",
    "anycrc",  # computes, as hashlib and zlib do
    "base64",
    "binascii",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "fnmatch",
    "functools",
    "hashlib",
    "heapq",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "operator",
    "pathspec",  # patterns of a .gitignore
    "re",
    "typing",
    "urllib.parse",  # and nothing else of urllib
    "zlib",
}
"""What a decision may need of the standard library; none of it reads, writes, waits or asks for the time by itself."""
_CLOCKS = {"now", "today", "utcnow"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "ingest").as_posix()


def room_of(dotted: str) -> str:
    """The room with a rule that a module (without ``ingest.``) stands in: the innermost one."""
    parts = dotted.split(".") if dotted else ["__init__"]
    return next((room for n in (2, 1) if (room := "/".join(parts[:n])) in MAY_IMPORT), parts[0])


def layer_of(path: Path) -> str:
    return room_of(name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."))


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path, *, to_run: bool = False) -> frozenset[str]:
    """Every module that is imported anywhere in the file, as an absolute dotted name; `to_run` leaves out those that are
    for type checkers only."""
    nodes: list[ast.stmt] = tree_of(path).body
    if to_run:
        nodes = [node for node in nodes if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))]
    return frozenset(_imported(path, nodes))


def _imported(path: Path, nodes: list[ast.stmt]) -> Iterator[str]:
    package = ["ingest", *path.relative_to(ROOT / "ingest").parent.parts]
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            # `from ingest.engine import run` imports a module, not a name.
            inner = {f"{module}.{alias.name}" for alias in node.names if is_module(f"{module}.{alias.name}")}
            yield from inner if module.startswith("ingest") and inner else [module]


def layers_imported(path: Path) -> set[str]:
    names = (name.removeprefix("ingest").removeprefix(".") for name in imported(path) if name.startswith("ingest"))
    return {room_of(name) for name in names} - {layer_of(path)}


def test_imports_go_one_way() -> None:
    found = {
        name_of(path): layers_imported(path) - MAY_IMPORT[layer_of(path)] - EXTRA.get(name_of(path), set())
        for path in MODULES
    }
    assert {name: layers for name, layers in found.items() if layers} == {}


def test_the_rule_has_no_circles() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in MODULES}
    graph = {
        name: {found.removeprefix("ingest.") for found in imported(path, to_run=True)} & modules.keys() - {name}
        for name, path in modules.items()
    }
    TopologicalSorter(graph).prepare()


def worldly(path: Path) -> Iterator[str]:
    """What a decision must not do: wait, read, write, ask for the time, import what does."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"{name_of(path)}:{node.lineno} waits"
        elif isinstance(node, ast.Call):
            # A decision is given the time, it does not ask for it.
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            of = {"open", "input", "print", "__import__"} if isinstance(node.func, ast.Name) else _CLOCKS
            if called in of:
                yield f"{name_of(path)}:{node.lineno} calls {called}"
    for name in imported(path):
        if (name if name in PURE else name.partition(".")[0]) not in PURE | {"ingest"}:
            yield f"{name_of(path)} imports {name}"


def test_the_plan_never_waits_and_never_touches_the_world() -> None:
    plan = [path for path in MODULES if layer_of(path) == "plan"]
    assert plan
    assert [found for path in plan for found in worldly(path)] == []


@pytest.mark.parametrize(
    ("package", "layers"),
    [
        ("click", {"cli"}),
        ("tqdm", {"observe"}),
        ("fpdf", {"demo"}),
        # One HTTP: what else could open a connection, or read a proxy's variable, has one place or none.
        ("httptools", {"http"}),
        ("aiohttp", {"observe"}),  # the health endpoint, a server
        ("aiobotocore", {"source"}),
        ("urllib3", set()),
        ("netrc", set()),
        # One way to the database: its drivers, and SQLAlchemy for the tables and the migrations.
        ("asyncpg", {"catalog/sql"}),
        ("sqlalchemy", {"catalog/schema"}),
        ("alembic", {"catalog/schema"}),
    ],
)
def test_what_shows_something_to_people_or_speaks_to_others_stays_in_its_layer(package: str, layers: set[str]) -> None:
    found = {layer_of(path) for path in MODULES if package in {name.partition(".")[0] for name in imported(path)}}
    assert found <= layers


def test_every_folder_is_a_layer_with_a_rule() -> None:
    assert {layer_of(path) for path in MODULES} == set(MAY_IMPORT)
