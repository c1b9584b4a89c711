"""What is said to people and scripts, and what follows when they no longer read it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from ingest.errors import DiskError, ReaderGone
from ingest.system import signals


def say(text: str = "", *, err: bool = False, end: str = "\n") -> None:
    """One text on stdout, or on stderr with `err`. Messages that nobody reads are dropped.

    Raises:
        ReaderGone: what read stdout has ended. DiskError: stdout is a file that cannot be written.
            Whatever is said later goes nowhere, and raises nothing.
    """
    try:
        click.echo(text + end, err=err, nl=False)
    except OSError as error:
        _say_no_more(sys.stderr.fileno() if err else sys.stdout.fileno())
        if err:
            return
        if isinstance(error, BrokenPipeError):
            raise ReaderGone("what read the output has ended") from None
        raise DiskError(f"the output cannot be written: {error.strerror}", hint="Look at where it is sent.") from error


def emit(document: Mapping[str, Any]) -> None:
    """The one object of ``--json``, in ASCII: on one line for every reader, whatever a key holds. Raises as `say`."""
    signals.answering()
    say(json.dumps(document, default=_plain))


@dataclass
class Listed:
    """The one object of ``--json`` whose field `name` is a list too long to be held: written as it comes.

    An error in between is told in the object's last fields, since there can be no second one.
    """

    head: Mapping[str, Any]
    name: str
    _begun: bool = False

    def add(self, item: Mapping[str, Any]) -> None:
        """Raises as `say`."""
        self._begin(", ")
        say(json.dumps(item, default=_plain), end="")

    def end(self, tail: Mapping[str, Any]) -> None:
        """The list is complete, and these are the fields behind it. Raises as `say`."""
        self._begin("")
        say(f"], {json.dumps(tail, default=_plain)[1:]}")

    def _begin(self, separator: str) -> None:
        if self._begun:
            say(separator, end="")
            return
        self._begun = True
        signals.answering()
        head = json.dumps(self.head, default=_plain)[:-1]
        say(f"{head}{', ' if self.head else ''}{json.dumps(self.name)}: [", end="")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _say_no_more(descriptor: int) -> None:
    # What is left in the buffer is written once more when the process ends, and would fail once more.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
