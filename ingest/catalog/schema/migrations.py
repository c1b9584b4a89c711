"""The schema's revisions: where they are, what each step does, and what the way back loses.

Read from the files as text: to show them needs no Alembic.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ingest.errors import SchemaAhead, SettingsError

_PACKAGED = Path(__file__).resolve().parents[2] / "_migrations"
_CHECKOUT = Path(__file__).resolve().parents[3] / "migrations"
BASE = "base"
"""Where no table is left; Alembic's name for it."""


class Step(NamedTuple):
    """One migration. `does` and `loses` are one line each: of the way up, and of the way down."""

    revision: str
    does: str
    loses: str


def migrations_dir() -> Path:
    """Where the migrations are: inside an installed wheel, or at the top of a checkout."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def revisions() -> list[str]:
    """All revisions, oldest first. Their files are named ``NNNN_verb_noun.py`` after them."""
    return [path.name[:4] for path in _files()]


def steps() -> list[Step]:
    """Every migration, oldest first."""
    return [_read(path) for path in _files()]


def way_up(found: str | None) -> list[Step]:
    """What `ingest db upgrade` does to a schema at `found`, in this order."""
    return [step for step in steps() if found is None or step.revision > found]


def way_down(found: str, to: str) -> list[Step]:
    """What has to be undone to come from `found` to `to`, in this order.

    Raises:
        SettingsError: `to` is no earlier revision.
    """
    known = [BASE, *revisions()]
    if to not in known or known.index(to) >= known.index(found):
        earlier = ", ".join(known[1 : known.index(found)])
        raise SettingsError(f"{to!r} is no revision before {found}; it wants one of {earlier}, or {BASE}")
    return [step for step in reversed(steps()) if step.revision <= found and (to == BASE or step.revision > to)]


def require_known(found: str | None) -> None:
    """
    Raises:
        SchemaAhead: made by a newer version.
    """
    known = revisions()
    if found is not None and found not in known:
        raise SchemaAhead(f"the database's schema is at {found}, this version of ingest knows up to {known[-1]}")


def _files() -> Sequence[Path]:
    return sorted((migrations_dir() / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))


def _read(path: Path) -> Step:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    loses = ""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and [ast.unparse(name) for name in statement.targets] == ["LOSES"]:
            loses = str(ast.literal_eval(statement.value))
    return Step(path.name[:4], " ".join(said.split()), loses)
