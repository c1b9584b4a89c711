"""Imports go one way: cli -> jobs -> {source, store, catalog, delivery, observe} -> {http, plan} -> model and errors.

Read from the syntax tree, so that an import inside a function, or one for type checkers only, counts as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "ingest").rglob("*.py"))

NOUNS = {"model", "errors", "exits", "redaction", "units"}
BELOW_THE_JOBS = NOUNS | {"plan", "settings", "observe", "private"}
MAY_IMPORT: dict[str, set[str]] = {
    "model": NOUNS,
    "errors": NOUNS,
    "exits": set(),
    "units": NOUNS,
    "liveness": set(),
    "crashpoints": set(),
    "interrupts": set(),
    "private": set(),
    "hashing": set(),
    "redaction": set(),
    "sendable": set(),
    "threads": set(),
    "plan": NOUNS,
    "anchors": set(),
    "environment": NOUNS | {"anchors"},
    "trust": NOUNS,
    "event_settings": NOUNS | {"sendable"},
    "retention_settings": NOUNS,
    "settings": NOUNS | {"anchors", "sendable", "environment", "event_settings", "retention_settings", "trust"},
    "observe": NOUNS | {"plan", "settings"},
    "http": NOUNS | {"trust"},
    # Siblings: they meet in the jobs alone.
    "source": BELOW_THE_JOBS | {"sendable", "threads", "http", "trust"},
    "store": BELOW_THE_JOBS | {"liveness", "crashpoints", "hashing"},
    "catalog": BELOW_THE_JOBS | {"liveness", "crashpoints"},
    "delivery": BELOW_THE_JOBS | {"http", "trust"},
    "jobs": BELOW_THE_JOBS
    | {"sendable", "threads", "source", "store", "catalog", "delivery", "http", "crashpoints", "hashing"},
    "demo": BELOW_THE_JOBS | {"source"},
    "cli": BELOW_THE_JOBS | {"anchors", "jobs", "demo", "interrupts", "__version__"},
    # The public names, each from its home.
    "__init__": {"errors", "model", "settings", "plan", "source", "jobs"},
    "__main__": {"cli", "interrupts"},
}
EXTRA = {"cli/db.py": {"catalog"}}
"""`ingest db` is about the catalog itself, and no job."""

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


def layer_of(path: Path) -> str:
    return name_of(path).partition("/")[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path) -> frozenset[str]:
    """Every module that is imported anywhere in the file, as an absolute dotted name."""
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    package = ["ingest", *path.relative_to(ROOT / "ingest").parent.parts]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            # `from ingest import store` imports a layer, not a name.
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "ingest" else [module]


def layers_imported(path: Path) -> set[str]:
    parts = (name.split(".") for name in imported(path))
    return {[*names, "__init__"][1] for names in parts if names[0] == "ingest"} - {layer_of(path)}


def test_imports_go_one_way() -> None:
    found = {
        name_of(path): layers_imported(path) - MAY_IMPORT[layer_of(path)] - EXTRA.get(name_of(path), set())
        for path in MODULES
    }
    assert {name: layers for name, layers in found.items() if layers} == {}


def test_the_rule_has_no_circles() -> None:
    def reached(layer: str, seen: tuple[str, ...] = ()) -> None:
        assert layer not in seen, " -> ".join((*seen, layer))
        for below in MAY_IMPORT.get(layer, set()) - NOUNS:
            reached(below, (*seen, layer))

    for layer in set(MAY_IMPORT) - NOUNS:
        reached(layer)


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
    ],
)
def test_what_shows_something_to_people_or_speaks_to_others_stays_in_its_layer(package: str, layers: set[str]) -> None:
    found = {layer_of(path) for path in MODULES if package in {name.partition(".")[0] for name in imported(path)}}
    assert found <= layers


def test_every_folder_is_a_layer_with_a_rule() -> None:
    assert {layer_of(path) for path in MODULES} == set(MAY_IMPORT)
