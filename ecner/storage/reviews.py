"""Raw reviews from a database: any that SQLAlchemy knows, a table, a view or a query, as a stream of Arrow batches."""

import hashlib
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from ecner.config import SourceColumns, SourceSettings, redacted
from ecner.data.reviews import expected
from ecner.errors import UsageError
from ecner.storage.engine import database_file, explained, first_line, for_reading, open_engine, parse_url
from ecner.storage.values import arrow_type, as_batch

_FETCHED_ROWS = 256  # at once: each may hold a text of a megabyte
_BATCH_ROWS = 32_768
_BATCH_BYTES = 64 << 20
_MARGIN = timedelta(days=1)  # beyond any time zone's distance from UTC
_ORDER = ("review_id", "updated_at", "text")
Types = Mapping[str, sa.types.TypeEngine[Any]]


@dataclass(frozen=True)
class DatabaseSource:
    """A table or query whose columns were found to do; every reading is one statement over one state of it."""

    url: sa.URL = field(repr=False)
    name: str
    rows_from: sa.FromClause
    columns: Mapping[str, str]  # ours to the source's; only those that are there
    types: Types  # by the source's names; NullType where nothing is known

    def batches(self, since: datetime | None = None) -> Iterator[pa.RecordBatch]:
        """The reviews in order of their ids, then of updated_at and text, under our names.

        Args:
            since: rows whose watermark is older are left out, where the database can tell.

        Raises:
            TransientError, RunError: the database failed on the way.
        """
        theirs = list(dict.fromkeys(self.columns.values()))
        places = {ours: theirs.index(name) for ours, name in self.columns.items()}
        with _connect(self.url) as connection:
            driver = connection.connection.driver_connection
            if isinstance(driver, sqlite3.Connection):
                driver.text_factory = bytes  # it holds any bytes as text, and would stop at those that are not UTF-8
            streamed = self._select(theirs, since).execution_options(yield_per=_FETCHED_ROWS)
            parts = connection.execute(streamed).partitions()
            for rows in _gathered(parts, places["text"]):
                values = list(zip(*rows, strict=True))
                yield as_batch({ours: values[place] for ours, place in places.items()})

    def rows(self) -> None:
        """Not known: to count may take as long as to read."""

    def size(self) -> None:
        """Not known."""

    def _select(self, theirs: Sequence[str], since: datetime | None) -> sa.Select[Any]:
        chosen = [self._value(name).label(f"ecner_{number}") for number, name in enumerate(theirs)]
        first = [self.columns[ours] for ours in _ORDER if ours in self.columns]
        order = dict.fromkeys([*first, *theirs])
        statement = sa.select(*chosen).select_from(self.rows_from).order_by(*map(sa.column, order))
        watermark = self.columns.get("watermark")
        if (
            since is None
            or watermark is None
            or not self._is_time(watermark)
            or self.url.get_backend_name() == "sqlite"
        ):
            return statement
        column = sa.column(watermark, sa.DateTime())
        low = (since.astimezone(UTC) - _MARGIN).replace(tzinfo=None)
        return statement.where(sa.or_(column.is_(None), column >= low))

    def _value(self, name: str) -> sa.ColumnElement[Any]:
        """A column as its driver gives it; PostgreSQL's times as text, for psycopg stops at those beyond Python's."""
        column: sa.ColumnElement[Any] = sa.column(name)
        is_cast = self.url.get_backend_name() == "postgresql" and self._is_time(name)
        return sa.cast(column, sa.Text()) if is_cast else column

    def _is_time(self, name: str) -> bool:
        return isinstance(self.types.get(name), sa.DateTime | sa.Date)


def open_reviews(settings: SourceSettings) -> DatabaseSource:
    """Finds the table, or tries the query, and checks names and types of the columns; no row is read.

    Raises:
        UsageError: no such database or table, a query that is wrong or not one SELECT, neither of both; a column is
            missing, or of a type that cannot hold what it should.
        TransientError, RunError: the database cannot be reached.
    """
    url = parse_url(settings.location, None, "source.uri")
    file = database_file(url)
    if file is not None and not file.is_file():  # to connect would make it
        raise UsageError(
            f"source.uri is {redacted(settings.location)}: there is no such database; name an existing one"
        )
    if url.get_backend_name() == "postgresql":  # whatever the URL names: its cursors on the server take one statement
        url = url.set(drivername="postgresql+psycopg")
    if not settings.table and not settings.query:
        raise UsageError("source.uri is a database: expected source.table or source.query; set one of them")
    with _connect(url) as connection:
        if settings.query:
            rows_from, types = _try_query(connection, settings.query)
        else:
            rows_from, types = _find_table(connection, settings.table or "")
    name = _name(url, settings)
    return DatabaseSource(url, name, rows_from, _columns(name, settings, types), types)


@contextmanager
def _connect(url: sa.URL) -> Iterator[sa.Connection]:
    """A connection that reads alone, of one state of the database where that can be had."""
    file, address = database_file(url), url
    if file is not None:  # its log's files must be made beside it to read; where they cannot be, nobody writes either
        is_frozen = not os.access(file.parent, os.W_OK) and not file.with_name(f"{file.name}-wal").exists()
        options = {"uri": "true", "mode": "ro"} | ({"immutable": "1"} if is_frozen else {})
        address = url.set(database=file.resolve().as_uri(), query=options)
    with explained(url, "the source"), for_reading(open_engine(address)).connect() as connection:
        yield connection


def _find_table(connection: sa.Connection, table: str) -> tuple[sa.FromClause, Types]:
    inspector = sa.inspect(connection)
    schema, _, name = ("", "", table) if inspector.has_table(table) else table.rpartition(".")
    if (schema and schema not in inspector.get_schema_names()) or not inspector.has_table(name, schema or None):
        raise UsageError(
            f"the source has no table or view {table!r}; set source.table, with its schema where that is another: "
            "schema.table"
        )
    columns = inspector.get_columns(name, schema or None)
    return sa.table(name, schema=schema or None), {column["name"]: column["type"] for column in columns}


def _try_query(connection: sa.Connection, query: str) -> tuple[sa.FromClause, Types]:
    """The query as a subquery: so it is one SELECT, whatever it holds."""
    text = query.strip().rstrip(";").replace(":", r"\:")  # no parameters
    if ";" in text and connection.dialect.name not in {"sqlite", "postgresql"}:  # others may run what follows it
        raise UsageError("source.query holds a semicolon: expected one SELECT; such text can come from a view")
    rows_from = sa.text(f"\n{text}\n").columns().subquery("reviews")
    try:
        tried = sa.select(sa.text("*")).select_from(rows_from).where(sa.false())
        # by a cursor on the server, which takes one statement: another would run what follows a semicolon
        with connection.execute(tried.execution_options(stream_results=True)) as result:
            described = result.cursor.description if result.cursor else ()
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        raise UsageError(f"source.query failed: {first_line(error)}; expected one SELECT without parameters") from None
    names = [re.sub(r":\d+$", "", column[0]) for column in described]  # SQLite numbers those that are repeated
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"source.query has several columns {', '.join(repeated)}: name each with 'as'")
    if connection.dialect.name != "postgresql":
        return rows_from, dict.fromkeys(names, sa.types.NullType())
    known = connection.dialect.ischema_names  # type: ignore[attr-defined]
    kinds = {code: connection.scalar(sa.select(sa.func.format_type(code, None))) for _, code, *_ in described}
    return rows_from, {name: known.get(kinds[code], sa.types.NullType)() for name, code, *_ in described}


def _name(url: sa.URL, settings: SourceSettings) -> str:
    """What a watermark goes by: the same whatever the password, the driver, and the folder that a night starts in."""
    file = database_file(url)
    database = str(Path(file).absolute()) if file else url.database
    bare = sa.URL.create(url.get_backend_name(), url.username, None, url.host, url.port, database, url.query)
    digest = hashlib.sha256((settings.query or "").encode()).hexdigest()[:16]
    return f"{redacted(bare.render_as_string())}#{settings.table or f'query-{digest}'}"


def _columns(name: str, settings: SourceSettings, types: Types) -> dict[str, str]:
    wanted = {ours: getattr(settings.columns, ours) for ours in SourceColumns.model_fields}
    if settings.watermark_column is not None:
        wanted["watermark"] = settings.watermark_column
    required = {"review_id", "text", "watermark"} | settings.columns.model_fields_set
    columns = {ours: theirs for ours, theirs in wanted.items() if theirs in types}
    problems = [f"it lacks the column(s) {wanted[ours]}" for ours in wanted if ours in required - columns.keys()]
    for ours, theirs in columns.items():
        if due := expected(ours, arrow_type(types[theirs], is_loose=name.startswith("sqlite"))):
            problems.append(f"{theirs} is {types[theirs]!r}: expected {due}")
    if problems:
        raise UsageError(
            f"{name} cannot be used: {'; '.join(problems)}; it has the columns {', '.join(sorted(types))}; set "
            "source.columns to the source's names"
        )
    return columns


def _gathered(parts: Iterator[Sequence[Any]], text_at: int) -> Iterator[list[Any]]:
    """Rows in lists of bounded length and bytes."""
    rows: list[Any] = []
    held = 0
    for part in parts:
        rows += part
        held += sum(sys.getsizeof(row[text_at]) for row in part)
        if len(rows) >= _BATCH_ROWS or held >= _BATCH_BYTES:
            yield rows
            rows, held = [], 0
    if rows:
        yield rows
