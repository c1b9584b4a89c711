"""The command line. Each command's module is imported only when it is called, so that ``--help`` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from ingest import __version__
from ingest.errors import ExitCode

COMMANDS: dict[str, str] = {
    "check": "Test the connection to the bucket, step by step.",
    "ls": "List objects in the bucket.",
    "sync": "Download what is new or changed: the nightly run.",
    "backfill": "Download historical objects of a window of time.",
    "cleanup": "Remove local copies older than the retention.",
    "restore": "Bring removed copies back.",
    "verify": "Compare the catalog with the disk, and repair.",
    "hold": "Exempt copies from cleanup.",
    "consume": "Follow the topic: download and deliver what its events name.",
    "deadletters": "List or retry the messages that could not be carried out.",
    "deliver": "Hand copies to the verification service.",
    "status": "Show totals and the last runs.",
    "runs": "Show the last runs, or one with its failures.",
    "history": "Show one object's story.",
    "config": "Show every setting, and where it comes from.",
    "source": "Say what belongs together: endpoints, data directories, the catalog.",
    "db": "Create, migrate and check the catalog.",
    "demo": "Show all of it on an embedded S3 server.",
}


class LazyGroup(click.Group):
    """Knows its commands by name and line; imports one only to run it."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Click's own, apart from its errors: with ``--json`` they are an object on stdout, as all others."""
        from ingest.cli.failures import fail_usage

        arguments = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(arguments, *rest, **extra | {"standalone_mode": False})
        except click.UsageError as error:
            fail_usage(error, arguments)
        except click.Abort:
            sys.exit(ExitCode.INTERRUPTED)
        sys.exit(code if isinstance(code, int) else ExitCode.OK)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"ingest.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), code.meaning) for code in ExitCode])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ingest")
def main() -> None:
    """Copies objects of an S3 bucket to local storage, once: compared with a catalog, not with the disk.

    Settings come from flags, the environment and .env (see .env.example); secrets have no flags.
    """
