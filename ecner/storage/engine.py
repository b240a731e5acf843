"""Connections to the warehouse's database: engines with real transactions, and errors a user can act on."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from ecner.config import redacted
from ecner.errors import RunError, UsageError

_BUSY_SECONDS = 120
_BEGIN = "sqlite_begin"
_HINTS = {
    "not a database": "restore it from a copy, or move it away to start anew",
    "malformed": "restore it from a copy, or move it away to start anew",
    "locked": "another process is writing; run again when it has ended",
    "unable to open": "check that the folder exists and may be written to",
    "readonly": "check that the file and its folder may be written to",
    "disk is full": "make room, then run again",
    "connect": "check warehouse.url and that the server is running",
}


def parse_url(url: str, schema: str | None) -> sa.URL:
    """The URL of a warehouse; on PostgreSQL, one that names no driver means psycopg.

    Raises:
        UsageError: not a URL, a database that SQLAlchemy does not know, or one that lives in memory.
    """
    try:
        parsed = sa.make_url(url)
        parsed.get_dialect()
    except (sa.exc.ArgumentError, ValueError):
        raise UsageError(
            f"warehouse.url is {redacted(url)!r}: expected a SQLAlchemy URL such as "
            "sqlite:///folder/warehouse.db or postgresql://user@host/database"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        _check_sqlite(parsed, schema)
    # SQLAlchemy 2.0 would look for psycopg2.
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _check_sqlite(url: sa.URL, schema: str | None) -> None:
    is_path = url.database and url.database != ":memory:" and not url.database.startswith("file:")
    if not is_path or url.host or url.username:
        raise UsageError(f"warehouse.url is {redacted(str(url))}: expected a file, as in sqlite:///folder/warehouse.db")
    if schema is not None:
        raise UsageError(f"warehouse.schema is {schema!r}, but SQLite has no schemas: leave it unset")


def database_file(url: sa.URL) -> Path | None:
    """The file of an SQLite database; None for a server."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def open_engine(url: sa.URL) -> sa.Engine:
    """An engine that keeps no connection open: transactions are few, and workers are forked between them.

    Raises:
        UsageError: the driver is not installed.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    try:
        engine = sa.create_engine(
            url,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"timeout": _BUSY_SECONDS} if is_sqlite else {},
        )
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the driver of {url.drivername} is not installed ({error.name}); "
            "for PostgreSQL: pip install 'ecner[postgres]'"
        ) from None
    if is_sqlite:
        _take_over_transactions(engine)
    elif engine.dialect.name == "postgresql":
        _speak_in_utc(engine)
    return engine


def for_reading(engine: sa.Engine) -> sa.Engine:
    """The engine with transactions that see one state of the database throughout."""
    if engine.dialect.name != "postgresql":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def for_writing(engine: sa.Engine) -> sa.Engine:
    """The engine with transactions that wait for other writers at their start, not at their first write."""
    return engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})


def use_write_ahead_log(engine: sa.Engine) -> None:
    """Makes an SQLite file keep a write-ahead log, for good.

    So analysts read on while a night publishes, and may open the file read-only after a writer was killed: a
    rollback journal would first have to be played back. The log goes when the last connection closes.
    """
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _take_over_transactions(engine: sa.Engine) -> None:
    """sqlite3 begins none for DDL and SELECT, so SQLAlchemy begins them (a recipe of its documentation)."""

    @sa.event.listens_for(engine, "connect")
    def leave_them_to_us(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _speak_in_utc(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")


def look_up_names_in(schema: str, connection: sa.Connection) -> None:
    """Lets names without a schema, as in sql/views, mean this one of PostgreSQL until the transaction ends."""
    path = '"{}"'.format(schema.replace('"', '""'))
    connection.execute(sa.select(sa.func.set_config("search_path", path, sa.true())))


def first_line(error: sa.exc.DBAPIError) -> str:
    """The database's own message, cut to a line."""
    return next(iter(str(error.orig).splitlines()), type(error.orig).__name__)


@contextmanager
def explained(url: sa.URL) -> Iterator[None]:
    """Turns errors of the database into a message that names the warehouse, without its password.

    Raises:
        RunError: the database cannot be reached, is damaged, or refuses a statement.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        message = first_line(error)
        hint = next((f"; {hint}" for part, hint in _HINTS.items() if part in message), "")
        raise RunError(f"the warehouse {redacted(str(url))} failed: {message}{hint}") from error
