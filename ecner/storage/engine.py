"""Connections to the warehouse's database: engines with real transactions, and errors a user can act on."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from ecner.config import has_long_name, redacted
from ecner.errors import RunError, TransientError, UsageError

_LONGEST_NAME = 63  # bytes, on PostgreSQL
_BUSY_SECONDS = 120  # that one waits for another who writes
_CACHE_KIB = 65_536  # of an SQLite connection: rows of a night go to many pages of its indexes
_BEGIN = "sqlite_begin"
# A server or a network that went away without a word is missed within a minute and a half, by both ends.
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 6, "tcp_user_timeout": 90_000}
# Classes of SQLSTATE: no connection, rolled back for another transaction, no resources, not now, shutting down.
_PASSING_STATES = re.compile("08|25P03|40|53(?!100)|55P03|57P0[1235]")  # 53100 is a full disk
_PASSING_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
# A server that refuses a connection gives no SQLSTATE: it is FATAL unless it will let others in.
_PASSING_REFUSALS = re.compile("starting up|shutting down|in recovery|not yet accepting|too many|connection slots")
_HINTS = {
    "not a database": "restore it from a copy, or move it away to start anew",
    "malformed": "restore it from a copy, or move it away to start anew",
    "locked": "another process is writing; run again when it has ended",
    "lock timeout": "another process is writing; run again when it has ended",
    "unable to open": "check that the folder exists and may be written to",
    "readonly": "check that the file and its folder may be written to",
    "disk I/O error": "check the room on its disk, and the disk itself",
    "disk is full": "make room, then run again",
    "No space left": "make room, then run again",
    "connect": "check its URL and that the server is running",
}


def parse_url(url: str, schema: str | None, setting: str = "warehouse.url") -> sa.URL:
    """The URL of a warehouse, or of what another setting names; on PostgreSQL, one that names no driver means psycopg.

    Raises:
        UsageError: not a URL, a database that SQLAlchemy does not know, or one that lives in memory.
    """
    try:
        parsed = sa.make_url(url)
        parsed.get_dialect()
    except (sa.exc.ArgumentError, ValueError):
        raise UsageError(
            f"{setting} is {redacted(url)!r}: expected a SQLAlchemy URL such as "
            "sqlite:///folder/warehouse.db or postgresql://user@host/database"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        _check_sqlite(parsed, schema, setting)
    elif "@" in f"{parsed.host}{parsed.database}":  # a part of a password, which the server's messages would tell
        raise UsageError(f"{setting} has several @: write those in a user, password or database as %40, and / as %2F")
    if schema is not None and len(schema.encode()) > _LONGEST_NAME:  # PostgreSQL would cut it, and name another one
        raise UsageError(f"warehouse.schema is longer than {_LONGEST_NAME} bytes: shorten it")
    # SQLAlchemy 2.0 would look for psycopg2.
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _check_sqlite(url: sa.URL, schema: str | None, setting: str) -> None:
    is_path = url.database and url.database != ":memory:" and not url.database.startswith("file:")
    if not is_path or url.host or url.username or has_long_name(str(url.database)):
        raise UsageError(f"{setting} is {redacted(str(url))}: expected a file, as in sqlite:///folder/warehouse.db")
    if schema is not None:
        raise UsageError(f"warehouse.schema is {schema!r}, but SQLite has no schemas: leave it unset")


def database_file(url: sa.URL) -> Path | None:
    """The file of an SQLite database; None for a server."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def open_engine(url: sa.URL) -> sa.Engine:
    """An engine that keeps no connection open: transactions are few, and workers are forked between them.

    Raises:
        UsageError: the driver is not installed, or of another kind than ours.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    try:
        engine = sa.create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=_connect_args(url))
    except sa.exc.ArgumentError as error:
        raise UsageError(f"{redacted(str(url))} asks for what SQLAlchemy does not know: {error}; take it out") from None
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the driver of {url.drivername} is not installed ({error.name}); "
            "for PostgreSQL: pip install 'ecner[postgres]'"
        ) from None
    if engine.dialect.is_async:
        raise UsageError(f"{url.drivername} is a driver for asyncio: expected another, such as postgresql+psycopg")
    if is_sqlite:
        _take_over_transactions(engine)
    elif engine.dialect.name == "postgresql":
        _prepare_transactions(engine)
    return engine


def _connect_args(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"timeout": _BUSY_SECONDS}
    # psycopg and psycopg2 hand them to libpq; what the URL says goes first.
    return {} if "psycopg" not in url.drivername else {k: v for k, v in _KEEPALIVES.items() if k not in url.query}


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
    statement, connection = "PRAGMA journal_mode = WAL", engine.raw_connection()
    try:
        connection.cursor().execute(statement)  # SQLAlchemy would begin a transaction, in which this cannot be done
    except sqlite3.OperationalError as error:
        raise sa.exc.OperationalError(statement, None, error) from error
    finally:
        connection.close()


def _take_over_transactions(engine: sa.Engine) -> None:
    """sqlite3 begins none for DDL and SELECT, so SQLAlchemy begins them (a recipe of its documentation)."""

    @sa.event.listens_for(engine, "connect")
    def leave_them_to_us(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _prepare_transactions(engine: sa.Engine) -> None:
    """On PostgreSQL: times in UTC, no endless wait for a lock, cursors that are read to their end."""
    settings = {
        "TimeZone": "UTC",
        "lock_timeout": f"{_BUSY_SECONDS}s",
        "cursor_tuple_fraction": "1",
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "6",
    }
    local = sa.select(*(sa.func.set_config(name, value, sa.true()) for name, value in settings.items()))

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.execute(local)

    @sa.event.listens_for(engine, "handle_error")
    def close_cursor(failure: sa.engine.ExceptionContext) -> None:
        """SQLAlchemy leaves that of a lost connection open, which psycopg warns of."""
        if failure.is_disconnect and (context := failure.execution_context) and context.cursor is not None:
            context.cursor.close()


def look_up_names_in(schema: str, connection: sa.Connection) -> None:
    """Lets names without a schema, as in sql/views, mean this one of PostgreSQL until the transaction ends."""
    path = '"{}"'.format(schema.replace('"', '""'))
    connection.execute(sa.select(sa.func.set_config("search_path", path, sa.true())))


def first_line(error: sa.exc.DBAPIError) -> str:
    """The database's own message, cut to a line."""
    return next(iter(str(error.orig).splitlines()), type(error.orig).__name__)


@contextmanager
def explained(url: sa.URL, what: str = "the warehouse") -> Iterator[None]:
    """Turns errors of the database into a message that names the warehouse, or what it is, without its password.

    Raises:
        TransientError: the connection was lost or refused, or another process is in the way.
        RunError: the database is damaged, full, or refuses a statement.
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        message = first_line(error)
        hint = next((f"; {hint}" for part, hint in _HINTS.items() if part in message), "")
        kind = TransientError if _is_passing(error) else RunError
        raise kind(f"{what} {redacted(str(url))} failed: {message}{hint}") from error


def _is_passing(error: sa.exc.DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _PASSING_CODES
    if state := getattr(error.orig, "sqlstate", None):
        return _PASSING_STATES.match(state) is not None
    is_refused = isinstance(error, sa.exc.OperationalError) and "connection" in str(error.orig)
    is_fatal = "FATAL" in str(error.orig) and not _PASSING_REFUSALS.search(str(error.orig))
    return error.connection_invalidated or (is_refused and not is_fatal)
