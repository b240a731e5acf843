"""No log, message, table or file tells a secret."""

import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy as sa
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from ecner.config import LakeSettings, redacted
from ecner.lake import Lake
from ecner.schema import TABLES
from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse
from tests.commands import ROOT, invoke
from tests.s3 import BUCKET

_numbers = count()
# Of what an address may hold that is not a letter, something in each; the middle is looked for.
PASSWORD, KEY, ASIDE = "a@:/?#%40+ sesame-4711 ü&=", "sesame-4712/+=", "sesame-4713"
SECRET = "sesame-47"  # noqa: S105
LOUD = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
import sqlalchemy, psycopg, alembic, ecner.nightly.run, ecner.cli
for name in list(logging.root.manager.loggerDict):
    logging.getLogger(name).setLevel(logging.DEBUG)
ecner.cli.main()
"""


@pytest.fixture(scope="module")
def locked(postgresql_server):
    """The database as a role that has to give its password."""
    admin = sa.create_engine(postgresql_server.admin.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        hba = Path(connection.exec_driver_sql("show hba_file").scalar_one())
        old = hba.read_text()
        hba.write_text(f"local all guarded scram-sha-256\n{old}")
        literal = PASSWORD.replace("'", "''")
        connection.exec_driver_sql(f"create role guarded login password '{literal}'".replace("%", "%%"))
        connection.exec_driver_sql("create schema guarded authorization guarded")
        connection.exec_driver_sql("create table guarded.reviews as select 'R1' as review_id, '小米手机' as text")
        connection.exec_driver_sql("grant select on guarded.reviews to guarded")
        connection.exec_driver_sql("select pg_reload_conf()")
        yield postgresql_server.admin.set(username="guarded", password=PASSWORD)
        hba.write_text(old)
        connection.exec_driver_sql("select pg_reload_conf()")
    admin.dispose()


@pytest.fixture
def secretive(locked, object_store, model, tmp_path, monkeypatch):
    """Settings of a night all of whose places take a secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    address = locked.render_as_string(hide_password=False)
    return {
        "source": {"uri": address, "table": "guarded.reviews"},
        "warehouse": {"url": address, "schema": "guarded"},
        "lake": {"uri": f"s3://{BUCKET}/secretive/{next(_numbers)}", "endpoint": object_store.endpoint},
        "model": {"ref": str(model), "device": "cpu"},
        "run": {"address": f"tcp://u:{ASIDE}@127.0.0.1:1"},
    }


def written(settings: dict[str, Any]) -> Path:
    path = Path("settings.yaml")
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), "utf-8")
    return path


def test_a_full_run_at_debug_level_tells_no_secret(secretive, locked, object_store):
    path = written(secretive)
    command = [sys.executable, "-c", LOUD, "extract", "--config", str(path), "--debug"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "DEBUG:" in ended.stderr
    assert "sqlalchemy.engine" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    assert_nowhere(secretive, locked, object_store)


def assert_nowhere(settings, locked, object_store):
    """No secret in any table or file."""
    lake = Lake.open(LakeSettings(**settings["lake"]))
    names = lake.names("tables") + lake.names("runs") + lake.names("readings")
    files = [repr(lake.read(name)) if name.endswith(".parquet") else str(lake.read_bytes(name)) for name in names]
    with Warehouse(locked.render_as_string(hide_password=False), "guarded").connect() as reader:
        tables = [repr(reader.read(name).to_dicts()) for name in TABLES]
    assert len(names) > 4
    assert "postgresql://guarded@" in "".join(tables)
    assert SECRET not in "".join(files + tables)


FAILURES = {
    "wrong password": ({"warehouse": {"url": "WRONG"}}, "password authentication failed"),
    "wrong password of the source": ({"source": {"uri": "WRONG"}}, "password authentication failed"),
    "wrong host": ({"warehouse": {"url": "postgresql://guarded:sesame-4714@127.0.0.1:1/x"}}, "connect"),
    "wrong driver": ({"warehouse": {"url": "nosuch://guarded:sesame-4714@127.0.0.1:1/x"}}, "a SQLAlchemy URL"),
    "no scheme": ({"warehouse": {"url": "guarded:sesame-4714@127.0.0.1:1/x"}}, "a SQLAlchemy URL"),
    "half a scheme": ({"warehouse": {"url": "postgresql:/u:sesame-4714@127.0.0.1:1/x"}}, "a SQLAlchemy URL"),
    "a bare @": ({"warehouse": {"url": "postgresql://u:pass@sesame-4714@127.0.0.1:1/x"}}, "several @"),
    "a bare /": ({"warehouse": {"url": "postgresql://a/b:sesame-4714@127.0.0.1:1/x"}}, "several @"),
    "a password apart": ({"warehouse": {"url": "postgresql://127.0.0.1:1/x?user=u&password=sesame-4714"}}, "connect"),
    "an unknown parameter": ({"warehouse": {"url": "postgresql://h/x?nosuch=1&password=sesame-4714"}}, "nosuch"),
    "as libpq has it": ({"warehouse": {"url": "host=127.0.0.1 user=u password='a sesame-4714'"}}, "expected a SQL"),
    "a source as libpq has it": ({"source": {"uri": "host=h password=sesame-4714", "table": None}}, "no Parquet"),
    "a source without a scheme": ({"source": {"uri": "u:sesame-4714@h/d", "table": None}}, "no Parquet"),
    "a source elsewhere": ({"source": {"uri": "https://u:sesame-4714@h/d"}}, "source.uri"),
    "no such table": ({"source": {"table": "nosuch"}}, "no table or view"),
    "a wrong query": ({"source": {"table": None, "query": "select 'sesame-4714' as x, from x"}}, "query failed"),
    "a query that fails late": (
        {"source": {"table": None, "query": "select review_id, (text || 'sesame-4714') as text from guarded.reviews "
                    "where 1 / (length(text) - length(text)) = 1"}}, "division by zero",
    ),
    "no endpoint": ({"lake": {"endpoint": "http://127.0.0.1:9"}}, "no store answers"),
    "an endpoint with a password": ({"lake": {"endpoint": "http://u:sesame-4714@127.0.0.1:9"}}, "another form"),
    "an endpoint with a token": ({"lake": {"endpoint": "http://127.0.0.1:9?token=sesame-4714"}}, "another form"),
    "a lake with a password": ({"lake": {"uri": "s3://key:sesame-4714@reviews/x"}}, "no store"),
    "a lake that is a database": ({"lake": {"uri": "postgresql://u:sesame-4714@h/d"}}, "lake.uri"),
    "another place": ({"warehouse": "postgresql://u:sesame-4714@h/d"}, "expected a section"),
    "another place as a key": ({"run": {"postgresql://u:sesame-4714@h/d": 1}}, "no such setting"),
    "a lexicon that is none": ({"model": {"lexicon": "secrets.yaml"}}, "cannot read the lexicon"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_no_failure_tells_a_secret(name, secretive, locked, caplog, monkeypatch):
    change, message = FAILURES[name]
    wrong = locked.set(password="sesame-4714").render_as_string(hide_password=False)  # noqa: S106
    for section, values in change.items():
        if isinstance(values, dict):
            secretive[section] |= {key: wrong if value == "WRONG" else value for key, value in values.items()}
        else:
            secretive[section] = values
    Path("secrets.yaml").write_text("a: 'sesame-4714\n  b: [\n")
    for logger in ("", "sqlalchemy.pool", "psycopg", "alembic", "ecner"):
        caplog.set_level("DEBUG", logger or None)
    result = invoke("extract", "--config", written(secretive), "--debug")
    assert result.exit_code in {1, 2}
    assert message in result.stderr
    shown = f"{result.output}{result.stderr}{caplog.text}"
    if name == "a query that fails late":  # tracebacks tell statements; the message and the ledger do not
        shown = result.stderr.splitlines()[-1]
    assert SECRET not in shown
    if name != "wrong password":
        secretive_url = locked.render_as_string(hide_password=False)
        assert SECRET not in repr(run_query(secretive_url, "guarded", "extraction_runs").to_dicts())


@given(
    user=st.text(max_size=5),
    password=st.text(min_size=4),
    before=st.text(max_size=10),
    after=st.text(max_size=10),
)
def test_no_password_of_any_url_is_shown(user, password, before, after):
    """As SQLAlchemy writes it, wherever it stands in a message, and however often it was looked at."""
    try:
        text = password.encode()
    except UnicodeEncodeError:
        assume(False)
    url = sa.URL.create("postgresql", user.encode(errors="ignore").decode(), password, "host", 1, "name")
    apart = sa.URL.create("postgresql", None, None, "host", 1, "name", {"user": "u", "password": password})
    spelled = {password, quote(text, safe=" +"), quote_plus(text)}
    assume(not any(word in f"{before}{after}postgresql://{url.username}:***@host:1/name?user=u&password=***"
                   for word in spelled))  # fmt: skip
    for address in (url, apart):
        message = f"{before} {address.render_as_string(hide_password=False)} {after}"
        shown = redacted(message)
        assert not any(word in shown for word in spelled)
        assert redacted(shown) == shown


def test_what_follows_a_hidden_password_stays():
    told = 'the warehouse postgresql://me%40here:***@h/d?password=*** failed: no role "me@here"'
    assert redacted(told) == told
    assert redacted(f"{told}; postgresql://u:{SECRET}@h") == f"{told}; postgresql://u:***@h"
