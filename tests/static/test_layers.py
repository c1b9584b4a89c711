"""Imports go one way: cli -> jobs -> {source, store, catalog, delivery, observe} -> plan -> model/errors."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "ingest").rglob("*.py"))
BASE = {"model", "errors", "units"}
MAY_IMPORT = {
    "plan": BASE,
    "observe": BASE | {"plan"},
    "source": BASE | {"plan", "settings", "observe"},
    "store": BASE | {"plan", "settings", "observe"},
    "catalog": BASE | {"plan", "settings", "observe"},
    "delivery": BASE | {"plan", "settings", "observe"},
    "jobs": BASE | {"plan", "settings", "observe", "source", "store", "catalog", "delivery"},
    "demo": BASE | {"settings", "source"},
    "cli": BASE | {"plan", "settings", "observe", "jobs", "demo", "catalog", "__init__"},
}
"""`cli` reaches into the catalog for `ingest db` alone."""


def layer_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "ingest").parts
    return parts[0].removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {([*name.split("."), "__init__"])[1] for name in names if name.split(".")[0] == "ingest"}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    layer = layer_of(path)
    if layer in MAY_IMPORT:
        assert imported_layers(path) <= MAY_IMPORT[layer] | {layer}
    if layer in ("model", "errors", "units"):
        assert imported_layers(path) <= BASE


@pytest.mark.parametrize("path", [p for p in MODULES if layer_of(p) == "plan"], ids=lambda path: path.name)
def test_the_plan_never_waits_and_never_touches_the_world(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not names & {"os", "socket", "asyncio", "pathlib", "time", "sqlite3"}


def test_only_the_command_line_prints() -> None:
    for path in MODULES:
        if layer_of(path) != "cli":
            assert "click.echo" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
            assert len(node.args.args) + len(node.args.kwonlyargs) <= 9, node.name
