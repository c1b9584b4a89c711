"""The process: ``ingest``, and ``python -m ingest``."""

import gc

from ingest.cli import main as command


def main() -> None:
    """Runs the command line. Imports leave no garbage, so none is looked for until a job begins (`cli.runner`)."""
    gc.disable()
    command()


if __name__ == "__main__":
    main()
