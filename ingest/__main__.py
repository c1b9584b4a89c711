"""The process: ``ingest``, and ``python -m ingest``."""

import gc
import os
import sys

from ingest import interrupts


def main() -> None:
    """Runs the command line. Imports leave no garbage, so none is looked for until a job begins (`cli.runner`)."""
    _stand_in_for_closed()
    gc.disable()
    interrupts.expect()
    from ingest.cli import main as command  # what it loads takes longer than many a signal

    command()


def _stand_in_for_closed() -> None:
    """No file or socket of ours gets the number of an output that is closed, to which libraries may write."""
    for name in ("stdin", "stdout", "stderr"):  # in this order each gets its own number, the lowest that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))


if __name__ == "__main__":
    main()
