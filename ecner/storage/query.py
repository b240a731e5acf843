"""A look at the warehouse that cannot change it: a view by its name, or one SQL query."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime

import polars as pl
import sqlalchemy as sa
from polars import selectors as cs
from sqlalchemy.pool import NullPool

from ecner.errors import UsageError
from ecner.storage.engine import (
    database_file,
    explained,
    first_line,
    for_reading,
    look_up_names_in,
    open_engine,
    parse_url,
)

_NAME = re.compile(r"\w+")
_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})


def run_query(warehouse_url: str, schema: str | None, view_or_sql: str) -> pl.DataFrame:
    """All rows of a view or table, or of one SQL query. Days and times (UTC) are typed, on SQLite too.

    Raises:
        UsageError: no such warehouse or view; a query that is wrong, writes, or is more than one statement.
        RunError: the warehouse cannot be reached, or is damaged.
    """
    with open_queries(warehouse_url, schema) as ask:
        return ask(view_or_sql)


@contextmanager
def open_queries(warehouse_url: str, schema: str | None) -> Iterator[Callable[[str], pl.DataFrame]]:
    """As ``run_query``, for several queries that see one state of the warehouse."""
    url = parse_url(warehouse_url, schema)
    open_read_only = {"sqlite": _open_sqlite, "postgresql": _open_postgresql}.get(url.get_backend_name())
    if open_read_only is None:
        raise UsageError(
            f"ecner query reads SQLite and PostgreSQL, where it can be kept from writing; this warehouse is "
            f"{url.get_backend_name()}: use its own client"
        )
    with explained(url), open_read_only(url, schema) as connection:
        yield lambda view_or_sql: _answer(connection, schema, view_or_sql.strip())


def _answer(connection: sa.Connection, schema: str | None, view_or_sql: str) -> pl.DataFrame:
    if not view_or_sql:
        raise UsageError("the query is empty: expected a view or table by its name, or one query in SQL")
    sql = _as_sql(connection, schema, view_or_sql)
    with _only_reading(connection):
        return _fetch(connection, sql)


@contextmanager
def _open_sqlite(url: sa.URL, _schema: str | None) -> Iterator[sa.Connection]:
    file = database_file(url)
    if file is None or not file.is_file():
        raise UsageError(f"there is no warehouse {file}: ecner extract makes one; or check warehouse.url")
    # By the declared types of the columns, which views keep.
    sqlite3.register_converter("date", lambda day: date.fromisoformat(day.decode()))
    sqlite3.register_converter("datetime", lambda time: datetime.fromisoformat(f"{time.decode()}+00:00"))
    # Reading needs the log's files beside the database; where none can be made, nobody writes either.
    is_frozen = not os.access(file.parent, os.W_OK) and not file.with_name(f"{file.name}-wal").exists()
    address = f"{file.resolve().as_uri()}?mode=ro{'&immutable=1' if is_frozen else ''}"
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, detect_types=sqlite3.PARSE_DECLTYPES),
        poolclass=NullPool,
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.exec_driver_sql("BEGIN")  # sqlite3 begins none for SELECT
        yield connection


@contextmanager
def _open_postgresql(url: sa.URL, schema: str | None) -> Iterator[sa.Connection]:
    # psycopg, whatever the URL names: its server-side cursors take one statement, and only one that reads.
    engine = for_reading(open_engine(url.set(drivername="postgresql+psycopg")))
    with engine.connect() as connection:
        if schema is not None:
            look_up_names_in(schema, connection)
        yield connection


def _as_sql(connection: sa.Connection, schema: str | None, view_or_sql: str) -> str:
    inspector = sa.inspect(connection)
    views, tables = inspector.get_view_names(schema), inspector.get_table_names(schema)
    if not _NAME.fullmatch(view_or_sql):
        return view_or_sql
    if view_or_sql not in {*views, *tables}:
        raise UsageError(
            f"the warehouse has no view or table {view_or_sql!r}: expected {', '.join([*views, *tables])}, "
            "or a query in SQL"
        )
    rows = sa.select(sa.text("*")).select_from(sa.table(view_or_sql))
    return str(rows.compile(dialect=connection.dialect))


@contextmanager
def _only_reading(connection: sa.Connection) -> Iterator[None]:
    """SQLite's read-only mode still lets ATTACH and VACUUM INTO make other files: allow reading alone."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    driver.set_authorizer(lambda action, *_details: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY)
    try:
        yield
    finally:
        driver.set_authorizer(None)


def _fetch(connection: sa.Connection, sql: str) -> pl.DataFrame:
    try:
        result = connection.execution_options(no_parameters=True, stream_results=True).exec_driver_sql(sql)
        names, rows = list(result.keys()), [tuple(row) for row in result]
    except (sa.exc.DBAPIError, sa.exc.ResourceClosedError, ValueError) as error:
        message = first_line(error) if isinstance(error, sa.exc.DBAPIError) else str(error)
        raise UsageError(f"the query failed: {message}; expected one statement that reads") from None
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"the query has several columns {', '.join(repeated)}: name each with 'as'")
    frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None, strict=False)
    return frame.with_columns(cs.decimal().cast(pl.Float64))
