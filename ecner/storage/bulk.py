"""Many rows at once, by the fastest way that a database has; any but SQLite and PostgreSQL by psycopg go the plain one.

Rows are turned column by column into what a driver takes, and back: a loop over values in Python costs more than the
database does.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.base import PGDialect

from ecner.schema import TABLES
from ecner.storage.tables import UtcTime

ROWS_AT_ONCE = 20_000
_FETCHED_AT_ONCE = 2_000  # few enough to stay in the processor's cache while they are turned
_BYTES_AT_ONCE = 16 * 2**20
_STAGED_FROM = 1_000  # rows below which making a table for them costs more than it saves
_UNPARAMETRED = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call] # psycopg's own doubles each %
_DAY, _TIME = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.6f"


class Wire(NamedTuple):
    """How values of a type travel where the driver's own objects would be slow."""

    selected: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]
    received: pl.DataType
    typed: Callable[[pl.Expr], pl.Expr]
    stored: Callable[[pl.Expr], pl.Expr]


def _whole(text: pl.Expr) -> pl.Expr:
    """Times as this package writes them, of people who leave out fractions of seconds, or all behind the day."""
    return text + pl.lit(" 00:00:00.000000").str.slice(text.str.len_chars() - len("2026-11-01"))


Wires = Mapping[type[sa.types.TypeEngine[Any]], Wire]


class Plain:
    """Statements with parameters, which every dialect of SQLAlchemy takes."""

    values_at_once = 1_000  # some databases take no more in a list
    temporary = "temp"  # the schema of a connection's own tables
    wires: ClassVar[Wires] = {}

    def insert(self, connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
        """Adds rows whose keys are new."""
        for part in rows.iter_slices(ROWS_AT_ONCE):
            connection.execute(sa.insert(table), part.to_dicts())

    def insert_missing(self, connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
        """Adds the rows whose keys are not there yet."""
        key = TABLES[table.name].key
        most_telling = max(key, key=lambda name: rows[name].n_unique())
        keys = sa.select(*(table.c[name] for name in key))
        there = [rows.select(key).clear()]
        for found in self.among(table.c[most_telling], rows[most_telling]):
            there.extend(self.frames(connection, table, keys.where(found)))
        self.insert(connection, table, rows.join(pl.concat(there), on=key, how="anti"))

    @contextmanager
    def staged(
        self, connection: sa.Connection, name: str, columns: Iterable[sa.Column[Any]], rows: pl.DataFrame
    ) -> Iterator[sa.Table]:
        """Rows in a table of the connection's own, while a statement needs them."""
        made = [sa.Column(column.name, column.type) for column in columns]
        table = sa.Table(f"staged_{name}", sa.MetaData(), *made, schema=self.temporary, prefixes=["temporary"])
        table.create(connection, checkfirst=False)
        self.insert(connection, table, rows)
        yield table
        table.drop(connection, checkfirst=False)

    def among(self, column: sa.Column[Any], values: pl.Series) -> Iterator[sa.ColumnElement[bool]]:
        """Conditions of which one holds where the column is among the values."""
        distinct = values.drop_nulls().unique()
        for start in range(0, distinct.len(), self.values_at_once):
            yield self._is_in(column, distinct.slice(start, self.values_at_once))

    def frames(
        self, connection: sa.Connection, table: sa.Table, query: sa.Select[Any], size: int = ROWS_AT_ONCE
    ) -> Iterator[pl.DataFrame]:
        """What a query of columns of a table finds, at most ``size`` rows at a time, as the database sends them."""
        columns, dtypes = list(query.selected_columns), TABLES[table.name].polars_schema
        wires = self._wires(columns)
        schema = {c.name: wires[c.name].received if c.name in wires else dtypes[c.name] for c in columns}
        query = query.with_only_columns(
            *(wires[c.name].selected(c).label(c.name) if c.name in wires else c for c in columns)
        )
        at_once = min(size, _FETCHED_AT_ONCE)
        with connection.execute(query, execution_options={"yield_per": at_once}) as result:
            parts = (
                pl.DataFrame(dict(zip(schema, zip(*rows, strict=True), strict=True)), schema=schema)
                for rows in result.partitions()
            )
            while frames := list(islice(parts, max(1, size // at_once))):
                frame = pl.concat(frames, rechunk=True)
                yield frame.with_columns(wire.typed(pl.col(name)) for name, wire in wires.items())

    def _is_in(self, column: sa.Column[Any], values: pl.Series) -> sa.ColumnElement[bool]:
        return column.in_(values.to_list())

    def _stored(self, table: sa.Table, rows: pl.DataFrame) -> pl.DataFrame:
        """The table's columns, in order, as the database takes them."""
        wires = self._wires(table.c)
        return rows.select(wires[c.name].stored(pl.col(c.name)) if c.name in wires else c.name for c in table.c)

    def _wires(self, columns: Iterable[sa.ColumnElement[Any]]) -> dict[str, Wire]:
        return {c.name: self.wires[type(c.type)] for c in columns if type(c.type) in self.wires}


class SQLite(Plain):
    """Rows as tuples of what the file holds, values as one list in JSON."""

    values_at_once = 100_000
    wires: ClassVar[Wires] = {
        sa.Date: Wire(
            lambda column: sa.type_coerce(column, sa.Text),
            pl.String(),
            lambda text: text.str.to_date(_DAY),
            lambda day: day.dt.strftime(_DAY),
        ),
        UtcTime: Wire(
            lambda column: sa.type_coerce(column, sa.Text),
            pl.String(),
            lambda text: _whole(text).str.to_datetime(_TIME, time_unit="us", time_zone="UTC"),
            lambda time: time.dt.strftime(_TIME),
        ),
    }

    def insert(self, connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
        """Adds rows whose keys are new."""
        self._insert(connection, sa.insert(table), table, rows)

    def insert_missing(self, connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
        """Adds the rows whose keys are not there yet."""
        self._insert(connection, sqlite.insert(table).on_conflict_do_nothing(), table, rows)

    def _insert(self, connection: sa.Connection, statement: sa.Insert, table: sa.Table, rows: pl.DataFrame) -> None:
        sql = str(statement.compile(dialect=connection.dialect, column_keys=table.c.keys()))
        for part in rows.iter_slices(_FETCHED_AT_ONCE):
            connection.exec_driver_sql(sql, self._stored(table, part).rows())

    def _is_in(self, column: sa.Column[Any], values: pl.Series) -> sa.ColumnElement[bool]:
        wire = self.wires.get(type(column.type))
        stored = values.to_frame().select(wire.stored(pl.first())).to_series() if wire else values
        listed = sa.func.json_each(json.dumps(stored.to_list(), ensure_ascii=False)).table_valued("value")
        return column.in_(sa.select(sa.type_coerce(listed.c.value, column.type)))


class PostgreSQL(Plain):
    """COPY, into a table of its own where keys may be there already, and values as one array."""

    values_at_once = 100_000
    temporary = "pg_temp"
    wires: ClassVar[Wires] = {
        UtcTime: Wire(
            lambda column: sa.cast(sa.extract("epoch", column) * 1_000_000, sa.BigInteger),
            pl.Int64(),
            lambda number: number.cast(pl.Datetime("us", "UTC")),
            lambda time: time.dt.replace_time_zone(None),  # the session is in UTC
        )
    }

    def insert(self, connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
        """Adds rows whose keys are new."""
        preparer = _UNPARAMETRED.identifier_preparer
        names = ", ".join(preparer.quote(column.name) for column in table.c)
        sql = f"copy {preparer.format_table(table)} ({names}) from stdin (format csv)"
        at_once = max(1, int(rows.height * _BYTES_AT_ONCE / (rows.estimated_size() + 1)))
        cursor: Any = connection.connection.cursor()
        with _driver_errors(connection, sql), cursor, cursor.copy(sql) as copy:
            for part in rows.iter_slices(at_once):
                # All text is quoted: what stands between two commas without is null.
                copy.write(self._stored(table, part).write_csv(include_header=False, quote_style="non_numeric"))

    def insert_missing(self, connection: sa.Connection, table: sa.Table, rows: pl.DataFrame) -> None:
        """Adds the rows whose keys are not there yet."""
        merge, key = postgresql.insert(table), TABLES[table.name].key
        if rows.height < _STAGED_FROM:
            connection.execute(merge.on_conflict_do_nothing(index_elements=key), rows.to_dicts())
            return
        with self.staged(connection, table.name, table.c, rows) as staged:
            merge = merge.from_select(table.c.keys(), sa.select(staged))
            connection.execute(merge.on_conflict_do_nothing(index_elements=key))

    def _is_in(self, column: sa.Column[Any], values: pl.Series) -> sa.ColumnElement[bool]:
        return column == sa.any_(sa.literal(values.to_list(), postgresql.ARRAY(column.type)))


def way_of(dialect: sa.Dialect) -> Plain:
    """The fastest way of a dialect."""
    ways = {("sqlite", "pysqlite"): SQLite, ("postgresql", "psycopg"): PostgreSQL}
    return ways.get((dialect.name, dialect.driver), Plain)()


@contextmanager
def _driver_errors(connection: sa.Connection, sql: str) -> Iterator[None]:
    """Turns errors of what is done past SQLAlchemy into those of SQLAlchemy, as it does itself."""
    dialect, driver = connection.dialect, connection.dialect.loaded_dbapi
    try:
        yield
    except driver.Error as error:
        is_lost = dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
        if is_lost:
            connection.invalidate(error)
        raise sa.exc.DBAPIError.instance(
            sql, None, error, driver.Error, hide_parameters=True, connection_invalidated=is_lost, dialect=dialect
        ) from error
