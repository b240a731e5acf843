from datetime import UTC, date, datetime

import polars as pl
import pytest

from ecner.errors import UsageError
from ecner.schema import TABLES
from ecner.storage.engine import look_up_names_in
from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse

TIME = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
DAYS = pl.DataFrame({"date": [date(2024, 1, 1), date(2024, 1, 2)]}).with_columns(
    week_start=pl.lit(date(2024, 1, 1)), month_start=pl.lit(date(2024, 1, 1))
)
WRITES = [
    "delete from calendar",
    "with x as (select 1) delete from calendar",
    "with x as (delete from calendar returning *) select * from x",
    "update calendar set week_start = null",
    "insert into calendar select * from calendar",
    "drop table calendar",
    "drop view run_history",
    "create table made (x integer)",
    "create temp table made (x integer)",
    "create table made as select * from calendar",
    "select * into made from calendar",
    "alter table calendar add column x integer",
    "select 1; delete from calendar",
    "select 1; commit; begin; delete from calendar",
    "commit; delete from calendar",
    "rollback; begin; delete from calendar",
    "pragma query_only = off",
    "pragma user_version = 7",
    "pragma journal_mode = delete",
    "attach database 'made.db' as made",
    "vacuum into 'made.db'",
    "set transaction read write",
    "set default_transaction_read_only to off",
    "copy calendar to '/tmp/made.csv'",
    "copy calendar to program 'touch /tmp/made.csv'",
    "explain analyze delete from calendar",
    "truncate calendar",
    "select load_extension('made')",
    "do $$ begin delete from calendar; end $$",
    "select lo_create(1234567)",
    "select lo_from_bytea(1234567, 'made')",
    "select lo_unlink(1234567)",
    "select lo_import('/etc/hostname')",
    "select set_config('transaction_read_only', 'off', true)",
    "select set_config('transaction_read_only', 'off', false)",
    "select * from (select set_config('transaction_read_only', 'off', false)) as x, write_a_day()",
    "select write_a_day()",
    "select write_a_day() from run_history right join calendar on true",
    "select * from calendar where write_a_day() > 0",
    "call write_and_commit()",
    "select nextval('numbers')",
    "select setval('numbers', 7)",
    "select * from calendar for update",
    "select query_to_xml('delete from calendar', true, true, '')",
    "select * from ts_stat('delete from calendar returning null::tsvector')",
    "with x as (insert into calendar select * from calendar returning *) select count(*) from x",
    "with x as (update calendar set week_start = date returning *) select * from x",
    "with x as materialized (delete from calendar returning 1) select 1",
    "merge into calendar using calendar as other on false when not matched then do nothing",
    "prepare made as delete from calendar",
    "execute made",
    "declare made cursor for select 1",
    "listen made",
    "notify made",
    "lock table calendar",
    "refresh materialized view made",
    "reindex table calendar",
    "analyze calendar",
    "vacuum;",
    "cluster calendar",
    "comment on table calendar is 'made'",
    "grant all on calendar to public",
    "security label on table calendar is 'made'",
    "reset all",
    "discard all",
    "begin;",
    "savepoint made",
    "release made",
    "end;",
    "prepare transaction 'made'",
    "load 'made'",
    "import foreign schema made from server made into made",
    "copy (select 1) to stdout",
    "copy calendar from stdin",
    "select pg_read_file('/etc/passwd')",
    "select pg_ls_dir('.')",
    "select pg_reload_conf()",
    "select pg_create_physical_replication_slot('made')",
    "select lo_export(1234567, '/tmp/made')",
    "select writefile('made', 'x')",
    "select readfile('/etc/passwd')",
    "select * from pragma_journal_mode('delete')",
    "select * from pragma_wal_checkpoint",
    "pragma writable_schema = on",
    "pragma wal_checkpoint(truncate)",
    "update sqlite_master set sql = 'made'",
    "create virtual table made using fts5(x)",
    "create temp view made as select 1",
    "create temp trigger made after insert on calendar begin delete from calendar; end",
    "detach main",
    "explain delete from calendar",
    "select 1;;delete from calendar",
    "select 1 /* ; */; delete from calendar",
    "select $$;$$; delete from calendar",
    "select 1) ; delete from calendar; --",
    "for select 1; delete from calendar",
    "values (1); delete from calendar",
    "\n-- a comment\n; delete from calendar",
]
HARMLESS = [
    "select set_config('default_transaction_read_only', 'off', false)",
    "select set_config('role', 'none', false)",
    "select pg_advisory_lock(77)",
    "select pg_notify('made', 'x')",
    "select pg_export_snapshot()",
]


FUNCTIONS = [
    "create function write_a_day() returns integer volatile security definer language sql "
    "as 'delete from calendar; select 1'",
    "create procedure write_and_commit() language plpgsql as 'begin delete from calendar; commit; end'",
    "create sequence numbers",
]


@pytest.fixture
def filled(warehouse, place):
    with warehouse.begin() as transaction:
        transaction.append("calendar", DAYS)
        if warehouse.schema is not None:
            look_up_names_in(warehouse.schema, transaction.connection)
            for statement in FUNCTIONS:
                transaction.connection.exec_driver_sql(statement)
    return place


def everything(place) -> dict[str, object]:
    with Warehouse(*place).connect() as reader:
        return {name: reader.read(name, order_by=list(TABLES[name].key)).to_dicts() for name in TABLES}


def test_nothing_can_be_written(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = everything(filled)
    for sql in WRITES:
        try:
            with pytest.raises(UsageError, match=r"the query failed: .*; expected one statement that reads"):
                run_query(*filled, sql)
        except (AssertionError, pytest.fail.Exception) as error:
            error.add_note(sql)
            raise
    assert everything(filled) == before
    assert not list(tmp_path.glob("made*"))
    Warehouse(*filled).migrate()


def test_what_is_set_or_locked_or_said_ends_with_the_query(filled, postgresql_server):
    if filled[1] is None:
        pytest.skip("SQLite has no such functions")
    psycopg = pytest.importorskip("psycopg")
    address = postgresql_server.admin.render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as other:
        other.execute("listen made")
        for sql in HARMLESS:
            assert run_query(*filled, sql).height == 1
            with pytest.raises(UsageError, match="read-only transaction"):
                run_query(*filled, f"select write_a_day() from ({sql}) as x")  # noqa: S608
        assert other.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone() == (0,)
        assert list(other.notifies(timeout=0.1)) == []


def test_a_view_or_table_by_its_name(filled):
    assert run_query(*filled, "calendar").sort("date").equals(DAYS)
    assert run_query(*filled, " run_history ").columns[:3] == ["run_id", "source", "status"]


def test_days_and_times_are_typed(filled):
    with Warehouse(*filled).begin() as transaction:
        rows = {"version": ["1"], "created_at": [TIME], "status": "champion", "architecture": "hybrid", "uri": "x"}
        optional = dict.fromkeys(["base", "data_fingerprint", "parent", "reason"])
        transaction.append("model_versions", pl.DataFrame({**rows, **optional}))
        figures = {"version": ["1"], "dataset": "dev", "metric": "f1", "entity_type": "all", "value": 0.5, "support": 3}
        transaction.append("model_evaluations", pl.DataFrame(figures))
    assert run_query(*filled, "select created_at from model_quality").to_series().to_list() == [TIME]


def test_sql_with_characters_that_mean_something_elsewhere(filled):
    sql = "select '100% :name %(x)s ? \\: 中😀' as text, 5 % 3 as rest -- a comment; with a semicolon\n;"
    assert run_query(*filled, sql).to_dicts() == [{"text": "100% :name %(x)s ? \\: 中😀", "rest": 2}]


def test_numbers_with_decimals_are_floats(filled):
    assert run_query(*filled, "select avg(x) as mean from (select 1 as x union all select 2) as numbers").item() == 1.5


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("nothing_here", "no view or table 'nothing_here': expected .*run_history.*mentions"),
        ("select * from nothing_here", "the query failed: .*nothing_here"),
        ("selec 1", "the query failed: .*syntax error"),
        ("", "the query is empty"),
        ("-- nothing", "the query failed"),
        ("select 1 as a, 2 as b, 3 as a", "several columns a: name each with 'as'"),
        ("select 'a\0b'", "the query failed"),
        ("select '\udc80'", "the query failed"),
    ],
)
def test_a_wrong_query(filled, sql, message):
    with pytest.raises(UsageError, match=message) as caught:
        run_query(*filled, sql)
    assert "\n" not in str(caught.value)


def test_no_warehouse_is_made(tmp_path):
    with pytest.raises(UsageError, match="there is no warehouse"):
        run_query(f"sqlite:///{tmp_path}/warehouse.db", None, "select 1")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/warehouse.db"
    Warehouse(url).migrate()
    monkeypatch.setattr("os.access", lambda *_arguments: False)
    assert run_query(url, None, "calendar").is_empty()
    assert [path.name for path in tmp_path.iterdir()] == ["warehouse.db"]


def test_other_databases_are_refused():
    with pytest.raises(UsageError, match="reads SQLite and PostgreSQL"):
        run_query("mysql://host/db", None, "select 1")
