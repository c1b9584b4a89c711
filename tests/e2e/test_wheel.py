"""The built wheel works by itself: in an empty environment outside the checkout, with the locked requirements alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fixtures.programs import programs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(target.glob("ingest-*.whl"))


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds what an image would: the locked requirements, by their hashes, and the wheel."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home), "--quiet", "--disable-pip-version-check"]
    locked = ["install", "--no-compile", "--require-hashes", "--requirement", str(ROOT / "requirements-run.lock")]
    subprocess.run([*pip, *locked], check=True, capture_output=True)
    subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True, capture_output=True)
    subprocess.run([*pip, "check"], check=True, capture_output=True)
    return home


def run(home: Path, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [str(home / "bin" / arguments[0]), *arguments[1:]],
        env={"INGEST_DATA_DIR": str(cwd / "data")},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_the_package_and_its_migrations_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"ingest/_migrations/env.py", "ingest/_migrations/versions/0001_create_catalog.py"} <= set(names)
    assert not [name for name in names if not name.startswith("ingest") or name.endswith((".pyc", ".db"))]


def test_it_makes_a_catalog(home: Path, tmp_path: Path) -> None:
    where = run(home, "python", "-c", "import ingest; print(ingest.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(home)
    assert "The schema is at" in run(home, "ingest", "db", "upgrade", cwd=tmp_path)
    assert (tmp_path / "data" / ".ingest" / "catalog.db").is_file()


def test_a_users_program_is_checked_against_it(home: Path, tmp_path: Path) -> None:
    """As somebody would who has installed it, and mypy."""
    for name, program in programs().items():
        (tmp_path / f"{name}.py").write_text(program)
    check = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    without_pytest = ["--disable-error-code=import-not-found", "--allow-untyped-decorators"]
    mypy = [*check, "--python-executable", str(home / "bin" / "python"), *without_pytest, "."]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_offers_the_demo(home: Path, tmp_path: Path) -> None:
    assert "--serve" in run(home, "ingest", "demo", "--help", cwd=tmp_path)
