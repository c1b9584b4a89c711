"""The process: ``ingest``, and ``python -m ingest``."""

import gc
import io
import os
import sys
from contextlib import suppress

from ingest.system import signals


def main() -> None:
    """Runs the command line. Imports leave no garbage, so none is looked for until a job begins (`cli.runner`)."""
    _speak_utf8()
    _stand_in_for_closed()
    gc.disable()
    signals.expect()
    from ingest.cli import main as command  # what it loads takes longer than many a signal

    command()


def _speak_utf8() -> None:
    """Whatever the locale: names on disk are the bytes of their keys, and arguments, settings and output are alike.

    Python decides that once, before it reads its arguments; where it decided otherwise it is started anew, as the same
    process. An encoding that somebody chose for the output (``PYTHONIOENCODING``) stays, and fails for no letter.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        with suppress(OSError, UnicodeError):  # no interpreter to start, or no way to say the arguments again: as it is
            again = [os.fsencode(sys.executable), b"-X", b"utf8", *_arguments()]
            os.execv(sys.executable, again)  # noqa: S606 - ourselves
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            chosen = "PYTHONIOENCODING" in os.environ and not sys.flags.ignore_environment
            stream.reconfigure(encoding=None if chosen else "utf-8", errors="backslashreplace")


def _arguments() -> list[bytes]:
    """As they were given: what Python made of them in some locales cannot be turned back."""
    with suppress(OSError), io.open_code("/proc/self/cmdline") as file:  # Linux only
        return file.read().split(b"\0")[1:-1]
    return [os.fsencode(argument) for argument in sys.orig_argv[1:]]


def _stand_in_for_closed() -> None:
    """No file or socket of ours gets the number of an output that is closed, to which libraries may write."""
    for name in ("stdin", "stdout", "stderr"):  # in this order each gets its own number, the lowest that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))


if __name__ == "__main__":
    main()
