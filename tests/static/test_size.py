"""Files, functions, signatures and classes stay small enough to be read in one go."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = ("ingest/**/*.py", "tests/**/*.py", "migrations/**/*.py", "benchmarks/*.py", "tools/*.py")
SOURCES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60
ARGUMENTS = 9
FIELDS = 19


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def arguments_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return len([argument for argument in named if argument.arg not in ("self", "cls")])


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Click hands over one argument for each flag."""
    return any("command" in ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_and_all_in_it_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LINES_OF_A_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # A migration is a list of tables, and the list is the function.
            if "versions" not in path.parts:
                assert (node.end_lineno or 0) - node.lineno < LINES_OF_A_FUNCTION, node.name
            if not is_command(node):
                assert arguments_of(node) <= ARGUMENTS, node.name
        elif isinstance(node, ast.ClassDef):
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            assert len(fields) <= FIELDS, node.name
