"""What is said to people and scripts, and what follows when they no longer read it."""

from __future__ import annotations

import os
import sys

import click

from ingest.errors import ReaderGone


def say(text: str = "", *, err: bool = False, end: str = "\n") -> None:
    """One text on stdout, or on stderr with `err`. Messages that nobody reads are dropped.

    Raises:
        ReaderGone: what read stdout has ended. Whatever is said later goes nowhere, and raises nothing.
    """
    try:
        click.echo(text + end, err=err, nl=False)
    except BrokenPipeError:
        _say_no_more(sys.stderr.fileno() if err else sys.stdout.fileno())
        if not err:
            raise ReaderGone("what read the output has ended") from None


def _say_no_more(descriptor: int) -> None:
    # What is left in the buffer is written once more when the process ends, and would fail once more.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
