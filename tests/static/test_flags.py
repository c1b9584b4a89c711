"""Every flag of every command has a test that is about what it does: this table says which.

A flag without a line here fails, and so does a line whose test is gone. That the test fails when the flag does nothing
is its author's word: only for a few was the flag taken away to see it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from ingest.cli import main

TESTS = Path(__file__).parents[1]
EACH = "integration/test_each_flag.py"
WANTED, DRY = f"{EACH}::test_what_is_wanted", f"{EACH}::test_a_dry_run_does_nothing"
MEMORY = f"{EACH}::test_pages_are_read_whole_without_the_memory"
DOWNLOADS, LISTINGS = f"{EACH}::test_so_many_downloads_at_once", f"{EACH}::test_so_many_listings_at_once"
GONE = "faults/test_vanished.py::test_the_command_line_says_it_in_one_line"
REMOVED, WORD = f"{EACH}::test_how_much_is_removed", f"{EACH}::test_an_operators_word"
BACK, HELD = f"{EACH}::test_which_come_back_and_which_are_looked_at", f"{EACH}::test_what_is_held"
SHOWN, LETTERS = f"{EACH}::test_how_many_are_shown", f"{EACH}::test_which_letters"
HANDED, CONSUMER = f"{EACH}::test_what_is_handed_over", f"{EACH}::test_what_a_consumer_is_told"
RATE = f"{EACH}::test_no_more_than_the_rate"
INSTEAD = f"{EACH}::test_instead_of_settings"
FRAME = "unit/test_json_shape.py::test_the_frame_of_what_ends_well_and_of_what_is_refused"

COMMON = {
    "--json": FRAME,
    **dict.fromkeys(("--quiet", "--verbose"), f"{EACH}::test_what_is_told_besides"),
    **dict.fromkeys(("--env-file", "--endpoint", "--bucket", "--data-dir", "--ca-bundle", "--region"), INSTEAD),
}
"""Those that every command has."""
ENGINE = {
    "--dry-run": DRY,
    "--deliver": HANDED,
    "--transfers": DOWNLOADS,
    "--listers": LISTINGS,
    "--no-page-memory": MEMORY,
    "--max-gone": GONE,
    "--bwlimit": RATE,
}
FLAGS: dict[str, dict[str, str]] = {
    "check": {
        "--download": f"{EACH}::test_one_object_is_tried",
        "--upload": "integration/test_check.py::test_four_steps_download_and_upload",
        "--save-ca": "e2e/test_check_shown.py::test_a_certificate_is_saved_and_tested_with",
    },
    "ls": {"--limit": SHOWN},
    "sync": ENGINE
    | dict.fromkeys(("--prefix", "--include", "--exclude", "--filter", "--newer-than", "--older-than"), WANTED),
    "backfill": ENGINE
    | dict.fromkeys(("--since", "--until", "--prefix"), WANTED)
    | {"--resume": "faults/test_resume.py::test_what_failed_before_is_tried_again"},
    "cleanup": dict.fromkeys(("--older-than", "--dry-run", "--max-delete", "--trust-catalog"), REMOVED)
    | {"--trust-clock": WORD, "--gone-after": f"{EACH}::test_copies_of_what_is_gone"},
    "restore": {
        "--prefix": BACK,
        "--to": "integration/test_restored_elsewhere.py::test_the_line_says_where_it_wrote",
        "--overwrite": "integration/test_restored_elsewhere.py::test_a_foreign_file_is_kept_unless_told_otherwise",
        "--bwlimit": RATE,
    },
    "verify": {"--prefix": BACK, "--repair": BACK},
    "hold add": {"--prefix": HELD, "--reason": HELD},
    "hold remove": {"--prefix": HELD},
    "consume": dict.fromkeys(("--patience", "--until-idle", "--listen", "--transfers"), CONSUMER),
    "deadletters list": {"--limit": LETTERS, "--after": LETTERS},
    "deadletters discard": dict.fromkeys(("--all", "--reason", "--older-than", "--dry-run"), LETTERS),
    "deadletters retry": {"--all": "integration/test_dead_letters.py::test_letters_are_retried_in_pages_and_each_once"},
    "deliver": {"--limit": HANDED, "--again": HANDED, "--take-over": f"{EACH}::test_an_earlier_address"},
    "runs list": {"--limit": SHOWN},
    "runs show": {"--limit": SHOWN, "--key": "integration/test_runs_told.py::test_it_says_why_an_object_was_known"},
    "source attach": {
        "--directory": "faults/test_sources.py::test_a_bucket_of_the_same_name_gets_a_directory_of_its_own",
        "--dry-run": "faults/test_sources.py::test_a_move_is_said",
    },
    "source rename": {"--dry-run": "faults/test_sources.py::test_a_renamed_endpoint"},
    "source forget": dict.fromkeys(("--force", "--dry-run"), "faults/test_sources.py::test_a_source_is_forgotten"),
    "db upgrade": {"--dry-run": "integration/test_db_command.py::test_an_upgrade_says_what_it_does_and_keeps_a_copy"},
    "db downgrade": {
        "--dry-run": "integration/test_db_command.py::test_a_downgrade_says_what_is_lost",
        "--yes": "integration/test_db_command.py::test_nothing_is_lost_unasked",
    },
    "demo": {
        "--dir": "e2e/test_demo.py::test_the_tour_keeps_its_word_in_a_directory_and_touches_nothing_else",
        "--objects": "e2e/test_demo.py::test_the_tour_keeps_its_word_in_a_directory_and_touches_nothing_else",
        "--events": "e2e/test_demo_events.py::test_the_tour_of_the_events",
        "--serve": "e2e/test_demo.py::test_served_it_stays_up_for_the_lines_it_prints_until_it_is_stopped",
    },
}


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, (*path, name))


def flags_of(command: click.Command) -> set[str]:
    """Each by its long name."""
    options = (each for each in command.params if isinstance(each, click.Option))
    return {next(name for name in each.opts if name.startswith("--")) for each in options}


def test_every_flag_of_every_command_has_its_test() -> None:
    told = {name: flags | COMMON for name, flags in FLAGS.items()}
    for name, command in commands(main):
        assert flags_of(command) == set(told.pop(name, COMMON)), name
    assert not told


def test_each_test_is_there() -> None:
    named = {test for flags in (COMMON, *FLAGS.values()) for test in flags.values()}
    for test in named:
        path, _, name = test.partition("::")
        assert re.search(rf"^(async )?def {name}\(", (TESTS / path).read_text(encoding="utf-8"), re.MULTILINE), test
