"""What the job and the readers may do under the script of rights, and what not. All other tests run under it too."""

import pytest
import sqlalchemy as sa

from ecner.schema import TABLES
from ecner.storage.engine import look_up_names_in, open_engine, parse_url
from ecner.storage.query import run_query
from ecner.storage.warehouse import Warehouse
from tests.postgresql import JOB, READER

STRONG = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
FORBIDDEN = [
    "create schema other",
    "create role other",
    "create function made() returns integer language c as 'made'",
    "copy calendar to program 'true'",
    "select pg_read_file('/etc/passwd')",
    "create table outside.made (x integer)",
    "select * from outside.theirs",
    "alter role current_user superuser",
]


@pytest.fixture
def schema(postgresql_server):
    return postgresql_server.new_schema()


@pytest.fixture
def made(postgresql_server, schema):
    warehouse = Warehouse(postgresql_server.url(), schema)
    warehouse.migrate()
    return warehouse


def run(url, sql, schema=None, **values: object) -> list[tuple[object, ...]]:
    with open_engine(parse_url(url, None)).begin() as connection:
        if schema is not None:
            look_up_names_in(schema, connection)
        result = connection.execute(sa.text(sql), values)
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture
def admin(postgresql_server):
    """Runs a statement as the administrator."""
    url = postgresql_server.admin.render_as_string(hide_password=False)
    return lambda sql, **values: run(url, sql, **values)


def test_the_roles_have_no_rights_over_the_server(made, admin):
    rows = admin(f"select {STRONG} from pg_roles where rolname = any(:roles)", roles=[JOB, READER])  # noqa: S608
    assert rows == [(False,) * 5] * 2


def test_the_job_owns_what_it_makes_and_no_schema(made, admin, schema):
    owners = "select distinct pg_get_userbyid(relowner) from pg_class where relnamespace = to_regnamespace(:quoted)"
    quoted = '"{}"'.format(schema.replace('"', '""'))
    assert admin(owners, quoted=quoted) == [(JOB,)]
    assert admin("select nspname from pg_namespace where pg_get_userbyid(nspowner) = any(:roles)", roles=[JOB]) == []


@pytest.mark.parametrize("role", [JOB, READER])
@pytest.mark.parametrize("sql", FORBIDDEN)
def test_neither_may_do_more(made, postgresql_server, admin, schema, role, sql):
    admin("create schema if not exists outside")
    admin("create table if not exists outside.theirs (x integer)")
    with pytest.raises(sa.exc.DBAPIError, match=r"(?i)permission denied|must be superuser|privileges"):
        run(postgresql_server.url(role), sql, schema)


def test_readers_read_what_the_job_made_after_the_script_ran(made, postgresql_server, schema):
    address = postgresql_server.url(READER), schema
    for name in (*TABLES, "run_history"):
        assert run_query(*address, name).is_empty()


@pytest.mark.parametrize("sql", ["delete from calendar", "create table made (x integer)", "drop view run_history"])
def test_readers_write_nothing(made, postgresql_server, schema, sql):
    with pytest.raises(sa.exc.DBAPIError, match=r"permission denied|must be owner"):
        run(postgresql_server.url(READER), sql, schema)


def test_the_script_may_be_run_again(made, postgresql_server, schema):
    postgresql_server.give_rights(schema)
    made.migrate()
    assert run_query(postgresql_server.url(READER), schema, "calendar").is_empty()
