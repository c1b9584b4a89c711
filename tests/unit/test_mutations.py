"""The mutants of `make mutants`: each operator has its neighbour, and what decides nothing is left alone."""

from __future__ import annotations

import ast

import pytest

from tools.mutants import accepted
from tools.mutations import mutants_of


def changed(source: str) -> list[str]:
    return [ast.unparse(mutant.statement) for mutant in mutants_of("ingest.plan.sample", source)]


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("A = b < 1", ["A = b <= 1", "A = b < 2"]),
        ("A = b and c", ["A = b or c"]),
        ("A = not b", ["A = b"]),
        ("A = True", ["A = False"]),
        ("A = 'x'", ["A = 'xX'"]),
        ("A = b + c // d", ["A = b - c // d", "A = b + c * d"]),
        ("A = None", []),
        ("A: int = 1", ["A: int = 2"]),
        ("import a", []),
        ("'''Says what it is for.'''", []),
        ("T = TypeVar('T')", []),
        ("class Kind(StrEnum):\n    A = 'a'", []),
        ("def f(a: Literal['x']) -> None:\n    '''For.'''\n    raise E(f'no {a}', 1)", []),
    ],
)
def test_each_change(source: str, mutants: list[str]) -> None:
    assert changed(source) == mutants


def test_a_function_loses_its_calls_its_results_and_its_conditions() -> None:
    found = changed("def f(a):\n    if a:\n        g(a)\n    return a")
    assert [text.splitlines()[1:] for text in found] == [
        ["    if not a:", "        g(a)", "    return a"],
        ["    if a:", "        pass", "    return a"],
        ["    if a:", "        g(a)", "    return None"],
    ]


def test_a_name_says_where_and_stays_when_lines_move() -> None:
    source = "class C:\n    def f(self):\n        return 1 < 1\n"
    names = [mutant.name for mutant in mutants_of("ingest.plan.sample", source)]
    assert names == [
        "sample:C.f: return 1 < 1 -> return None",
        "sample:C.f: return 1 < 1 -> return 2 < 1",
        "sample:C.f: return 1 < 1 -> return 1 <= 1",
        "sample:C.f: return 1 < 1 -> return 1 < 2",
    ]
    assert [mutant.name for mutant in mutants_of("ingest.plan.sample", "\n\n" + source)] == names


def test_what_is_accepted_stands_under_its_reason() -> None:
    assert accepted("# Why.\n\nsample:: A = 1 -> A = 2\n") == {"sample:: A = 1 -> A = 2"}
