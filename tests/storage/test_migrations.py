import subprocess
import sys
import threading
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa
from alembic import command as alembic
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.pool import NullPool

from ecner.errors import RunError, UsageError
from ecner.resources import resource
from ecner.schema import TABLES
from ecner.storage import migrations, views
from ecner.storage.engine import database_file
from ecner.storage.tables import SQL_TYPES, sql_tables
from ecner.storage.warehouse import Warehouse

MIGRATE = """
import sys
from ecner.storage.warehouse import Warehouse
Warehouse(sys.argv[1], sys.argv[2] or None).migrate()
"""
COLLATIONS = sa.text("""
select distinct collation_name
from information_schema.columns join information_schema.tables using (table_schema, table_name)
where table_schema = :schema and table_type = 'BASE TABLE' and data_type = 'text'
""")
HEAD, *EARLIER = (script.revision for script in ScriptDirectory(str(resource("sql/migrations"))).walk_revisions())
VALUES = {"text": "小米", "int": 7, "float": 0.5, "date": date(2026, 1, 2), "time": datetime(2026, 1, 2, 3, tzinfo=UTC)}


def tables_and_views(warehouse) -> tuple[set[str], set[str]]:
    with warehouse.connect() as reader:
        inspector = sa.inspect(reader.connection)
        return set(inspector.get_table_names(warehouse.schema)), set(inspector.get_view_names(warehouse.schema))


def set_revision(warehouse, revision: str) -> None:
    with warehouse.begin() as transaction:
        version = sa.table("alembic_version", sa.column("version_num"), schema=warehouse.schema)
        transaction.connection.execute(sa.update(version).values(version_num=revision))


def test_tables_and_views_are_made(warehouse):
    tables, names = tables_and_views(warehouse)
    assert tables == {*TABLES, "alembic_version"}
    assert names == {*views.view_names(), "views_digest"}


def test_the_migrations_end_at_the_schema(warehouse):
    def ours(name, kind, _parents):
        return kind != "schema" or name == warehouse.schema

    with warehouse.connect() as reader:
        options = {"include_schemas": warehouse.schema is not None, "include_name": ours, "compare_type": True}
        options["version_table_schema"] = warehouse.schema
        context = MigrationContext.configure(reader.connection, opts=options)
        assert compare_metadata(context, sql_tables(warehouse.schema)) == []
        # What the comparison above leaves out: keys, and the order of text on PostgreSQL.
        inspector = sa.inspect(reader.connection)
        for table in TABLES.values():
            assert inspector.get_pk_constraint(table.name, warehouse.schema)["constrained_columns"] == list(table.key)
        if reader.connection.dialect.name == "postgresql":
            assert reader.connection.scalars(COLLATIONS, {"schema": warehouse.schema}).all() == ["C"]


def test_without_a_schema_postgresql_uses_its_default(postgresql_server):
    engine = sa.create_engine(
        postgresql_server.admin.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("create database night")
    postgresql_server.give_rights("public", "night")
    made = Warehouse(postgresql_server.url(database="night"))
    made.migrate()
    made.migrate()
    assert tables_and_views(made)[0] == {*TABLES, "alembic_version"}


def test_migrating_again_writes_nothing(tmp_path):
    file = tmp_path / "warehouse.db"
    made = Warehouse(f"sqlite:///{file}")
    made.migrate()
    before = file.read_bytes(), file.stat().st_mtime_ns
    file.chmod(0o400)
    made.migrate()
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before


def test_migrating_again_runs_no_upgrade(warehouse, monkeypatch):
    monkeypatch.setattr(Warehouse, "begin", None)
    warehouse.migrate()


def all_rows(warehouse) -> dict[str, list[dict[str, object]]]:
    with warehouse.connect() as reader:
        found = sa.MetaData()
        found.reflect(reader.connection, schema=warehouse.schema, only=lambda name, _meta: name in TABLES)
        return {
            table.name: [dict(row) for row in reader.connection.execute(sa.select(table)).mappings()]
            for table in found.sorted_tables
        }


def at_revision(made, url, revision, monkeypatch):
    """A warehouse as an earlier ecner left it: two rows in each table, and a view that needs some of them."""
    if file := database_file(sa.make_url(url)):
        file.parent.mkdir()
    with monkeypatch.context() as then, made.begin() as transaction:
        connection = transaction.connection
        alembic.upgrade(migrations._config(connection, made.schema), revision)
        then.setattr(views, "_files", lambda: ["model_quality"])
        views.create_views(connection, made.schema)
        inspector = sa.inspect(connection)
        for name in TABLES.keys() & set(inspector.get_table_names(made.schema)):
            there = {column["name"] for column in inspector.get_columns(name, made.schema)}
            columns = [column for column in TABLES[name].columns if column.name in there]
            table = sa.table(name, *(sa.column(c.name, SQL_TYPES[c.kind]) for c in columns), schema=made.schema)
            whole = {column.name: VALUES[column.kind] for column in columns}
            other = {c.name: None if c.nullable else whole[c.name] for c in columns}
            if first := next((column for column in columns if column.key), None):
                other[first.name] = {"date": date(2026, 1, 3), "int": 8}.get(first.kind, "华为")
            connection.execute(sa.insert(table), [whole, other])


@pytest.mark.parametrize("revision", EARLIER)
def test_an_upgrade_keeps_every_row(place, revision, monkeypatch):
    made = Warehouse(*place)
    at_revision(made, place[0], revision, monkeypatch)
    before = all_rows(made)
    assert tables_and_views(made) == ({*before, "alembic_version"}, {"model_quality", "views_digest"})
    made.migrate()
    after = all_rows(made)
    assert tables_and_views(made) == ({*TABLES, "alembic_version"}, {*views.view_names(), "views_digest"})
    for name, rows in after.items():
        was = before.get(name, [])
        assert len(was) == (2 if name in before else 0)
        added = {column.name: None for column in TABLES[name].columns if was and column.name not in was[0]}
        assert rows == [{**row, **added} for row in was]
    with made.connect() as reader:
        assert migrations.is_current(reader.connection, made.schema)
    with made.begin() as transaction:
        for name in TABLES:
            assert transaction.delete_all(name) == len(after[name])


def test_a_newer_warehouse_is_refused(warehouse):
    set_revision(warehouse, "9999")
    with pytest.raises(UsageError, match=f"revision 9999, this ecner knows up to {HEAD}: .*newer ecner"):
        warehouse.migrate()


def test_views_follow_their_files(warehouse, monkeypatch):
    monkeypatch.setattr(views, "_digest", lambda: "of other files")
    warehouse.migrate()
    with warehouse.connect() as reader:
        assert views.are_current(reader.connection, warehouse.schema)
        monkeypatch.undo()
        assert not views.are_current(reader.connection, warehouse.schema)
    warehouse.migrate()
    assert tables_and_views(warehouse)[1] == {*views.view_names(), "views_digest"}


def test_a_migration_that_fails_leaves_nothing(place, monkeypatch):
    made = Warehouse(*place)
    monkeypatch.setattr(views, "_statements", lambda _name: ["create view broken as select * from nowhere, ("])
    with pytest.raises(RunError, match="failed"):
        made.migrate()
    assert tables_and_views(made) == (set(), set())
    monkeypatch.undo()
    made.migrate()
    assert tables_and_views(made)[0] == {*TABLES, "alembic_version"}


def test_processes_that_migrate_at_once_agree(place):
    url, schema = place
    command = [sys.executable, "-W", "error", "-c", MIGRATE, url, schema or ""]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 2
    assert tables_and_views(Warehouse(url, schema))[0] == {*TABLES, "alembic_version"}


def test_migrating_from_another_thread(place):
    made = Warehouse(*place)
    thread = threading.Thread(target=made.migrate)
    thread.start()
    thread.join()
    assert tables_and_views(made)[0] == {*TABLES, "alembic_version"}


def test_a_folder_with_a_percent_sign_holds_the_migrations(warehouse, tmp_path, monkeypatch):
    link = tmp_path / "100%(here)s"
    link.symlink_to(migrations.resource("sql/migrations"))
    monkeypatch.setattr(migrations, "resource", lambda _name: link)
    with warehouse.connect() as reader:
        assert migrations.is_current(reader.connection, warehouse.schema)
