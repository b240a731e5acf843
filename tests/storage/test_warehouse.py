import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date

import polars as pl
import pytest
import sqlalchemy as sa

from ecner.errors import RunError, TransientError, UsageError
from ecner.storage.engine import parse_url
from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse

DAY = pl.DataFrame({"date": [date(2024, 1, 1)], "week_start": [date(2024, 1, 1)], "month_start": [date(2024, 1, 1)]})
WRITE_UNTIL_KILLED = """
import sys
from datetime import date, timedelta
import polars as pl
from ecner.storage.warehouse import Warehouse
day = pl.DataFrame({"date": [date(2024, 1, 1)]}).with_columns(week_start="date", month_start="date")
with Warehouse(sys.argv[1]).begin() as transaction:
    for step in range(10**6):
        transaction.append("calendar", day.with_columns(date=pl.col("date") + timedelta(days=step + 1)))
        if step == 2000:
            print("writing", flush=True)
"""


@pytest.mark.parametrize(
    ("url", "schema", "message"),
    [
        ("warehouse.db", None, "'warehouse.db': expected a SQLAlchemy URL such as sqlite:///"),
        ("", None, "expected a SQLAlchemy URL"),
        ("nosuch://user:secret@host/db", None, r"nosuch://user:\*\*\*@host/db"),
        ("postgresql://user:secret@host:port/db", None, r"postgresql://user:\*\*\*@host:port/db"),
        ("sqlite://", None, "expected a file"),
        ("sqlite:///:memory:", None, "expected a file"),
        ("sqlite://warehouse.db", None, "expected a file"),
        ("sqlite://user:secret@host/warehouse.db", None, "expected a file"),
        ("sqlite:///file:x?mode=memory&uri=true", None, "expected a file"),
        ("sqlite:///x.db", "night", "SQLite has no schemas"),
        ("postgresql+pg8000://user:secret@host/db", None, "driver of postgresql.pg8000 is not installed"),
        ("mysql+pymysql://user:secret@host/db", None, "expected SQLite or PostgreSQL"),
    ],
)
def test_a_url_that_cannot_be_used(url, schema, message):
    with pytest.raises(UsageError, match=message) as caught:
        Warehouse(url, schema)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgresql", "postgresql+psycopg"),
        ("postgresql+psycopg", "postgresql+psycopg"),
        ("postgresql+psycopg2", "postgresql+psycopg2"),
    ],
)
def test_the_driver_of_postgresql(given, driver):
    url = "{}://me:secret@host:1/db?options=-c%20x"
    assert parse_url(url.format(given), None) == sa.make_url(url.format(driver))


def test_a_server_that_is_not_there(tmp_path):
    made = Warehouse(f"postgresql://user:secret@/db?host={tmp_path}")
    with pytest.raises(TransientError, match=r"user:\*\*\*@.*check its URL") as caught:
        made.migrate()
    assert "secret" not in str(caught.value)


def test_making_the_object_makes_no_file(tmp_path):
    Warehouse(f"sqlite:///{tmp_path}/new/warehouse.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot make the folder"):
        Warehouse(f"sqlite:///{tmp_path}/file/warehouse.db").migrate()


@pytest.mark.parametrize("damage", ["no database", "cut short"])
def test_a_damaged_file(tmp_path, damage):
    file = tmp_path / "warehouse.db"
    made = Warehouse(f"sqlite:///{file}")
    made.migrate()
    file.write_bytes(b"no database" * 1000 if damage == "no database" else file.read_bytes()[:5000])
    before = file.read_bytes()
    with pytest.raises(RunError, match=r"warehouse\.db failed: .*(not a database|malformed); restore it"):
        made.migrate()
    with pytest.raises(RunError, match="restore it"):
        run_query(f"sqlite:///{file}", None, "select * from mentions")
    assert file.read_bytes() == before


def test_an_error_rolls_back_rows_and_tables(warehouse):
    with suppress(ZeroDivisionError), warehouse.begin() as transaction:
        transaction.append("calendar", DAY)
        transaction.connection.exec_driver_sql("create table extra (x integer)")
        raise ZeroDivisionError
    with warehouse.begin() as transaction:
        assert transaction.read("calendar").is_empty()
        transaction.connection.exec_driver_sql("create table extra (x integer)")
        transaction.connection.exec_driver_sql("drop table extra")


def test_a_repeated_key_is_a_run_error_that_shows_no_values(warehouse):
    def write():
        secret = DAY.with_columns(date=pl.lit(date(1987, 6, 5)))
        with warehouse.begin() as transaction:
            transaction.append("calendar", secret)
            transaction.append("calendar", secret)

    with pytest.raises(RunError, match=r"(?i)unique") as caught:
        write()
    assert "1987" not in str(caught.value)
    with warehouse.connect() as reader:
        assert reader.read("calendar").is_empty()


def test_a_second_writer_waits_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr("ecner.storage.engine._BUSY_SECONDS", 0.1)
    made = Warehouse(f"sqlite:///{tmp_path}/warehouse.db")
    made.migrate()
    with made.begin() as first:
        with pytest.raises(RunError, match="database is locked; another process is writing"), made.begin():
            pytest.fail("two writers at once")
        first.append("calendar", DAY)
    with made.begin() as second:
        assert second.read("calendar").height == 1


def test_a_killed_writer_leaves_a_usable_file(tmp_path):
    url = f"sqlite:///{tmp_path}/warehouse.db"
    made = Warehouse(url)
    made.migrate()
    with made.begin() as transaction:
        transaction.append("calendar", DAY)
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "writing\n"
        assert run_query(url, None, "select count(*) as days from calendar").item() == 1
        time.sleep(0.05)
        os.kill(writer.pid, signal.SIGKILL)
    # First of all by a reader that may not write.
    assert run_query(url, None, "select count(*) as days from calendar").item() == 1
    with made.begin() as transaction:
        assert transaction.read("calendar").equals(DAY)
        transaction.append("calendar", DAY.with_columns(date=pl.lit(date(2024, 1, 2))))
    with sqlite3.connect(tmp_path / "warehouse.db") as raw:
        assert raw.execute("pragma integrity_check").fetchall() == [("ok",)]
    raw.close()
    assert [path.name for path in tmp_path.iterdir()] == ["warehouse.db"]


def test_where_the_tables_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Warehouse("sqlite:///data/w.db").location == f"sqlite:///{tmp_path}/data/w.db"
    assert Warehouse("postgresql+psycopg://me:secret@host/db").location == "postgresql+psycopg://me:***@host/db"
