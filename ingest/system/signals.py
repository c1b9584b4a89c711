"""SIGINT and SIGTERM while there is no run yet, or none any more: the documented line and code, at once.

While a run is under way the signals are its own (`cli.runner`). Nothing is imported here but what Python has at hand,
so that this stands before anything else is loaded.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

HINT = "Run the command again: it goes on where this run stopped."
SAID = {
    signal.SIGINT: ("interrupted", "interrupted; what was finished is recorded"),
    signal.SIGTERM: ("terminated", "terminated; what was finished is recorded"),
}
"""As `errors.InterruptedRun` and `TerminatedRun` have it; a test holds them equal."""

_LAST_SECONDS = 1.0
_due = {"object": False}
"""Whether a script still waits for the object of ``--json``."""
_called = {"command": ""}
"""As in that object."""


def expect() -> None:
    """From now on. A signal that whoever started us has ignored stays so."""
    _due["object"] = "--json" in sys.argv
    called(*(word for word in sys.argv[1:2] if word.isalpha()))  # its group alone, until that has been read
    for number in SAID:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    atexit.register(_leave_alone)


def called(command: str = "") -> None:
    """Which command it is."""
    _called["command"] = command


def answering() -> None:
    """The one object of ``--json`` is about to be printed: there will be no second one."""
    _due["object"] = False


def end_soon(received: signal.Signals) -> None:
    """Ends the process as the signal before the run would have, unless it comes to its own end within a second.

    In a thread: whatever is awaited, and whichever thread is waited for at the end, this one goes on.
    """
    import threading

    timer = threading.Timer(_LAST_SECONDS, end, (received,))
    timer.daemon = True
    timer.start()


def end(received: int) -> None:
    """The line, the object of ``--json`` where it is due, and the code; nothing is tidied up, nothing waited for."""
    code, message = SAID[signal.Signals(received)]
    exit_code = 128 + received
    _write(2, f"error: {message} (exit {exit_code})\nhint: {HINT}\n")
    if _due["object"]:
        error = f'{{"code": "{code}", "message": "{message}", "hint": "{HINT}"}}'
        frame = f'"command": "{_called["command"]}", "run_id": null, "status": "interrupted", "exit_code": {exit_code}'
        _write(1, f'{{{frame}, "error": {error}}}\n')
    os._exit(exit_code)  # not by an exception: it could strike where exceptions are ignored, or be taken for an error


def _end(received: int, _frame: FrameType | None) -> None:
    end(received)


def _write(descriptor: int, text: str) -> None:
    with suppress(OSError):  # nobody may be listening any more
        os.write(descriptor, text.encode())


def _leave_alone() -> None:
    """All is said, and no thread is left: Python would undo the handlers while it tidies up, and die of the signal."""
    for number in SAID:
        signal.signal(number, signal.SIG_IGN)
