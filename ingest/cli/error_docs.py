"""Writes the table of errors into a document, between its markers: ``python -m ingest.cli.error_docs FILE``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ingest import errors
from ingest.cli.examples import EXAMPLES
from ingest.errors import IngestError

BEGIN, END = "<!-- errors: written by `make docs` -->", "<!-- end of errors -->"


def documented() -> list[type[IngestError]]:
    """Every class that a person may see, in the order of `ingest/errors/`."""
    branches = (errors.base, errors.source, errors.events, errors.delivery, errors.local)
    found = [kind for branch in branches for kind in vars(branch).values() if isinstance(kind, type)]
    return list(dict.fromkeys(kind for kind in found if issubclass(kind, IngestError)))


def render() -> str:
    """The table, in Markdown."""
    return "\n".join(_lines()) + "\n"


def written_into(text: str) -> str:
    """The document with its table renewed.

    Raises:
        ValueError: it lacks the markers.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no {BEGIN} … {END}")
    return f"{head}{BEGIN}\n{render()}{END}{tail}"


def _lines() -> Iterator[str]:
    yield "| exit | error | looks like | means | do |"
    yield "|---|---|---|---|---|"
    for kind in documented():
        cells = (str(int(kind.exit_code)), f"`{kind.code}`", EXAMPLES[kind], kind.__doc__ or "", kind.hint)
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written_into(path.read_text(encoding="utf-8")), encoding="utf-8")
