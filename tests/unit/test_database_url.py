"""What a database URL may say beside its place: read once, for both drivers, and refused without showing a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.catalog.sql.url import Target
from ingest.errors import SettingsError

PLACE = "postgresql+asyncpg://u:PwCanary@db.example.com/ingest"


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("name", ["sslmode", "ssl"])
def test_every_mode_of_tls_is_told_to_the_driver(name: str, mode: str) -> None:
    assert Target.of(f"{PLACE}?{name}={mode}").connect == {
        "host": "db.example.com",
        "database": "ingest",
        "user": "u",
        "password": "PwCanary",
        "dsn": f"postgresql://?sslmode={mode}",
    }


def test_files_are_told_as_well(tmp_path: Path) -> None:
    authority = tmp_path / "our ca.pem"
    authority.touch()
    connect = Target.of(f"{PLACE}?sslmode=verify-full&sslrootcert={authority}").connect
    assert (
        connect["dsn"]
        == f"postgresql://?sslmode=verify-full&sslrootcert={str(authority).replace('/', '%2F').replace(' ', '+')}"
    )


def test_a_place_may_stand_behind_the_question_mark() -> None:
    target = Target.of("postgresql+asyncpg://u@/?host=/run/pg&port=5433&dbname=ingest&password=PwCanary")
    assert target.connect == {
        "host": "/run/pg",
        "port": 5433,
        "database": "ingest",
        "user": "u",
        "password": "PwCanary",
    }
    assert "Canary" not in target.shown + repr(target)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://u@db1.example.com,db2.example.com:5433/ingest",
        "postgresql+asyncpg://u@/ingest?host=db1.example.com,db2.example.com&port=5432,5433",
        "postgresql+asyncpg://u@/ingest?host=db1.example.com:5432&host=db2.example.com:5433",
    ],
)
def test_several_hosts_are_told_as_libpq_and_sqlalchemy_spell_them(url: str) -> None:
    connect = Target.of(url).connect
    assert (connect["host"], connect["port"]) == (["db1.example.com", "db2.example.com"], [5432, 5433])
    assert connect["target_session_attrs"] == "read-write"
    chosen = Target.of(f"{url}{'&' if '?' in url else '?'}target_session_attrs=primary").connect
    assert chosen["target_session_attrs"] == "primary"


def test_addresses_and_sockets_may_be_several() -> None:
    connect = Target.of("postgresql+asyncpg://u@[::1]:5433,[fe80::1]/x").connect
    assert (connect["host"], connect["port"]) == (["::1", "fe80::1"], [5433, 5432])
    connect = Target.of("postgresql+asyncpg://u@/x?host=/run/pg,db.example.com&port=6000").connect
    assert (connect["host"], connect["port"]) == (["/run/pg", "db.example.com"], [6000, 6000])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"{PLACE}?foo=bar", "its parameter foo is not known"),
        (f"{PLACE}?application_name=x&sslmode=require", "its parameter application_name is not known"),
        (f"{PLACE}?sslmode=bogus", "sslmode wants one of disable, allow, prefer, require, verify-ca, verify-full"),
        (f"{PLACE}?sslmode=", "sslmode wants"),
        (f"{PLACE}?sslrootcert=/nowhere/PwCanary.pem", "sslrootcert names no file that is there"),
        (f"{PLACE}?port=5433x", "port wants a number"),
        (f"{PLACE}?host=a,b&port=1,2,3", "port wants one number, or one for each host"),
        (f"{PLACE}?target_session_attrs=standby", "target_session_attrs wants one of any, read-write, primary"),
        ("postgresql+asyncpg://u@a,b:0/x", "port wants a number"),
        (f"{PLACE}?port=99999999999", "port wants a number"),
        ("postgresql+asyncpg://u:Pw?Canary@db.example.com/x", "its parameter is not known"),
        ("postgresql+asyncpg://u:Pw?canary=x@db.example.com/x", "its parameter is not known"),
        ("sqlite+aiosqlite://PwCanary", "three slashes and a file"),
        ("sqlite+aiosqlite:///catalog.db?timeout=5", "takes no parameters"),
    ],
)
def test_what_cannot_be_meant_is_refused(url: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Target.of(url)
    assert refused.value.message.startswith("DATABASE_URL: ")
    assert says in refused.value.message
    assert "canary" not in refused.value.message.lower()
