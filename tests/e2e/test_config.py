"""`ingest config`: each setting with its origin, whatever is wrong, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingest.settings import VARIABLES
from tests.fixtures.process import run_ingest

FILE = (
    "# the bucket\nS3_ENDPOINT=https://minio.example.com:9000\n\nS3_BUCKET=statements\nS3_ACCESS_KEY=canary-key\n"
    "S3_SECRET_KEY_FILE=secret\nDATABASE_URL=postgresql://u:canary-pw@db.example.com/n?password=canary-2\n"
    "INGEST_RETENTION=7d\n"
)


def settings_file(tmp_path: Path) -> Path:
    home = tmp_path / "w1"
    home.mkdir()
    (home / ".env").write_text(FILE)
    (home / ".env").chmod(0o600)
    (home / "secret").write_text("canary-secret\n")
    return home


async def test_where_everything_comes_from(tmp_path: Path) -> None:
    home = settings_file(tmp_path)
    variables = {"INGEST_RETENTION": "2w", "VERIFY_URL": "https://verify.example.com/v1/verify"}
    done = await run_ingest(
        "config", "--json", "--env-file", "w1/.env", "--region", "eu-1", variables=variables, cwd=tmp_path
    )
    assert (done.code, "canary" in done.output) == (0, False), done.output
    document = json.loads(done.stdout)
    found = {line["name"]: (line["value"], line["origin"]) for line in document["settings"]}
    assert found.keys() == {variable.name for variable in VARIABLES.values()}
    assert found["S3_ENDPOINT"] == ("minio.example.com:9000", "w1/.env line 2")
    assert found["S3_SECURE"] == ("true", "the scheme of S3_ENDPOINT")
    assert found["S3_BUCKET"] == ("statements", "w1/.env line 4")
    assert found["S3_ACCESS_KEY"] == ("***", "w1/.env line 5")
    assert found["S3_SECRET_KEY"] == ("***", str(home / "secret"))
    assert found["S3_REGION"] == ("eu-1", "flag")
    assert found["INGEST_RETENTION"] == ("14d", "environment")
    assert found["KAFKA_TOPIC"] == (None, "default")
    assert found["INGEST_DATA_DIR"] == (str(home / "data"), "default, beside w1/.env")
    assert document["catalog"] == "postgresql+asyncpg://u:***@db.example.com/n"
    assert (document["data_dir"], document["data_dir_exists"]) == (str(home / "data"), False)
    assert list(tmp_path.iterdir()) == [home]
    assert not (home / "data").exists()


async def test_wrong_settings_are_shown_as_they_are_written(tmp_path: Path) -> None:
    settings_file(tmp_path)
    variables = {"S3_SECURE": "perhaps", "VERIFY_URL": "https://u:canary@verify.example.com/"}
    for flags in ([], ["--json"]):
        done = await run_ingest("config", *flags, "--env-file", "w1/.env", variables=variables, cwd=tmp_path)
        assert (done.code, "canary" in done.output) == (2, False), done.output
        assert "perhaps" in done.stdout
        assert "environment" in done.stdout
        assert "error: VERIFY_URL" in done.stderr
    missing = await run_ingest("config", "--env-file", "nowhere", variables={}, cwd=tmp_path)
    assert missing.code == 2
    assert "nowhere" in missing.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_ENDPOINT", "u:canary@minio.example.com"),
        ("S3_ENDPOINT", "http://u:can/ary@minio.example.com"),
        ("S3_BUCKET", "u:canary@statements/"),
        ("KAFKA_BOOTSTRAP_SERVERS", "u:canary@kafka.example.com:9092"),
        ("DATABASE_URL", "postgresql://u:1/canary@db.example.com/n"),
        ("DATABASE_URL", "postgresql://u:1#canary@db.example.com/n"),
    ],
)
async def test_a_password_in_the_wrong_place_is_not_shown(tmp_path: Path, name: str, value: str) -> None:
    settings_file(tmp_path)
    done = await run_ingest("config", "--env-file", "w1/.env", variables={name: value}, cwd=tmp_path)
    assert (done.code, "canary" in done.output, "ary@" in done.output) == (2, False, False), done.output
    done = await run_ingest("status", "--env-file", "w1/.env", variables={name: value}, cwd=tmp_path)
    assert (done.code, "canary" in done.output) == (2, False), done.output
