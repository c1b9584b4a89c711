"""The mutants of a module: the same statement with one small thing turned into its neighbour."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.Break: ast.Continue,
    ast.Continue: ast.Break,
}
_SHOWN = 120
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Mutant:
    """One statement of a module's top level, changed in one place."""

    module: str
    within: str  # the function or class, or "" for a constant of the module
    statement: ast.stmt
    name: str  # says what was changed where, and stays as it is when lines move


def mutants_of(module: str, source: str) -> list[Mutant]:
    """All of them, in the order of the source."""
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for statement in ast.parse(source).body:
        if _is_declaration(statement):
            continue
        for path in _places(statement):
            changed = copy.deepcopy(statement)
            trail = _trail(changed, path)
            if not _change(trail, path):
                continue
            shown = max(at for at, node in enumerate(trail) if isinstance(node, ast.stmt | ast.comprehension))
            before, after = _shown(*(_text(_trail(tree, path[:shown])[-1]) for tree in (statement, changed)))
            within = ".".join(node.name for node in trail if isinstance(node, _Definition))
            name = f"{module.removeprefix('ingest.plan.')}:{within}: {before} -> {after}"
            seen[name] += 1
            numbered = name if seen[name] == 1 else f"{name} (no. {seen[name]})"
            found.append(Mutant(module, within, ast.fix_missing_locations(changed), numbered))
    return found


def _is_declaration(statement: ast.stmt) -> bool:
    """Imports, docstrings and names of types decide nothing."""
    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
        return ast.unparse(statement.value.func) == "TypeVar"
    if isinstance(statement, ast.ClassDef):
        return any(ast.unparse(base).endswith("Enum") for base in statement.bases)
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.Expr | ast.If)


_Path = tuple[tuple[str, int | None], ...]


def _places(node: ast.AST, path: _Path = ()) -> Iterator[_Path]:
    """Where something can be changed; not in annotations, in texts for people, or in what decorates."""
    yield path
    if isinstance(node, ast.JoinedStr | ast.Raise):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        if isinstance(value, ast.AST):
            yield from _places(value, (*path, (field, None)))
        elif isinstance(value, list):
            for index, part in enumerate(value):
                if isinstance(part, ast.AST):
                    yield from _places(part, (*path, (field, index)))


def _trail(node: ast.AST, path: _Path) -> list[ast.AST]:
    """From a statement to the node that a path leads to."""
    trail = [node]
    for field, index in path:
        value = getattr(trail[-1], field)
        trail.append(value if index is None else value[index])
    return trail


def _change(trail: list[ast.AST], path: _Path) -> bool:
    """Changes the tree at the last node of the trail; whether there is such a change."""
    if not path:
        return False
    node, parent, (field, index) = trail[-1], trail[-2], path[-1]
    replacement = _replacement(node, parent, field)
    if isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        node.value = ast.Constant(None)
    elif replacement is None:
        return False
    elif index is None:
        setattr(parent, field, replacement)
    else:
        getattr(parent, field)[index] = replacement
    return True


def _replacement(node: ast.AST, parent: ast.AST, field: str) -> ast.AST | None:
    if type(node) in _SWAPS:
        return _SWAPS[type(node)]()
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        return node.operand
    if isinstance(node, ast.Constant):
        return _neighbour(node, parent)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await):
        return ast.Pass()
    if field == "test" and isinstance(node, ast.Name | ast.Attribute | ast.Call):
        return ast.UnaryOp(ast.Not(), node)
    return None


def _neighbour(node: ast.Constant, parent: ast.AST) -> ast.Constant | None:
    if isinstance(node.value, bool):
        return ast.Constant(not node.value)
    if isinstance(node.value, int | float):
        return ast.Constant(node.value + 1)
    if isinstance(node.value, str) and not isinstance(parent, ast.Expr):
        return ast.Constant(node.value + "X")
    if isinstance(node.value, bytes):
        return ast.Constant(node.value + b"X")
    return None


def _text(node: ast.AST) -> str:
    """The head of a statement; its defaults, where it is a function."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"({ast.unparse(node.args)})"
    return ast.unparse(node).strip().splitlines()[0]


def _shown(before: str, after: str) -> tuple[str, str]:
    """Of long lines, what is around the change."""
    if len(before) <= _SHOWN:
        return before, after
    alike = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), len(before))
    start = max(0, alike - _SHOWN // 2)
    return before[start : start + _SHOWN], after[start : start + _SHOWN]
