"""Real parts for the tests: an S3 server, PostgreSQL, moto's server; started once for each worker, ended by fixture."""

import os
import signal
import tempfile
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from ingest.observe import logs

MEMORY = Path("/dev/shm")
ENOUGH, ENOUGH_FILES = 6 << 30, 500_000


def _work_in_memory() -> None:
    """Every batch waits until the disk has its bytes; on a disk in memory, where there is room on one, that takes no time.

    Whoever sets TMPDIR chooses another place.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    left = os.statvfs(MEMORY)
    if left.f_bavail * left.f_frsize >= ENOUGH and left.f_favail >= ENOUGH_FILES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


_work_in_memory()

# What is remembered outside of the data directories is the suite's own, and ends with it.
_state = tempfile.TemporaryDirectory(prefix="ingest-tests-state-")
os.environ["XDG_STATE_HOME"] = _state.name

# A shell starts what is to run in the background with SIGINT ignored, and every process that a test starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The suite draws the same examples each time, so that it fails for the change at hand; `make soak` draws new ones.
# Nor may they hang on which modules are imported: Hypothesis draws constants out of those, too.
if "INGEST_TEST_SOAK" not in os.environ:
    providers._get_local_constants = Constants
settings.register_profile("suite", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("soak", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("soak" if "INGEST_TEST_SOAK" in os.environ else "suite")

LONGEST = (
    "test_model.py", "test_interleavings.py", "test_killed_replacing.py", "test_crash_commands.py",
    "test_crash_points.py", "test_disk_faults.py", "test_a_year_of_nights.py", "test_listing_faults.py",
    "test_silent_database.py", "test_demo.py", "test_locales.py", "test_deliver_trouble.py", "test_consume.py",
    "test_consume_went_back.py", "test_consume_servers.py", "test_consume_hostile.py", "test_each_flag.py",
)  # fmt: skip
"""Files that take a worker longest."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Beside one another, the longest files are begun first: one that is left for the end would keep a worker alone."""
    if hasattr(config, "workerinput"):
        rank = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.brokers",
    "tests.fixtures.kafka_listener",
    "tests.fixtures.verify_service",
    "tests.faults.rig",
]


@pytest.fixture(autouse=True)
def log_of_a_library() -> None:
    """Where a test before configured the log of the command line, the next would hear of warnings only, or of nothing."""
    logs._process["is_ours"] = False
    structlog.reset_defaults()
