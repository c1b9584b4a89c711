"""Files, functions, signatures and classes stay small enough to be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

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


def too_much(path: Path) -> Iterator[str]:
    """Where the file, or something in it, is too large."""
    text = path.read_text(encoding="utf-8")
    if text.count("\n") > LINES_OF_A_FILE:
        yield f"{name_of(path)}: {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno
            # A migration is a list of tables, and the list is the function.
            if lines >= LINES_OF_A_FUNCTION and "versions" not in path.parts:
                yield f"{where}: {node.name} has {lines} lines"
            if arguments_of(node) > ARGUMENTS and not is_command(node):
                yield f"{where}: {node.name} takes {arguments_of(node)} arguments"
        elif isinstance(node, ast.ClassDef):
            fields = sum(isinstance(part, ast.AnnAssign) for part in node.body)
            if fields > FIELDS:
                yield f"{where}: {node.name} has {fields} fields"


def test_a_file_and_all_in_it_stay_small() -> None:
    assert [found for path in SOURCES for found in too_much(path)] == []
