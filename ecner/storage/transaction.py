"""What is done inside a transaction, in Polars frames. Names and values all go through SQLAlchemy."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from ecner.schema import TABLES
from ecner.storage.bulk import ROWS_AT_ONCE, way_of
from ecner.storage.tables import UtcTime

Where = Mapping[str, object]


class Reader:
    """Reads tables of the schema within one transaction; frames have the schema's dtypes, also when empty.

    ``where`` maps columns to the value that they must have; None is null, a pair the ends of a range, both inclusive.
    """

    def __init__(self, connection: sa.Connection, metadata: sa.MetaData) -> None:
        self.connection = connection
        self._tables = {table.name: table for table in metadata.tables.values()}
        self._way = way_of(connection.dialect)

    def now(self) -> datetime:
        """The time by the clock that all users of the database share: on PostgreSQL the server's, else this machine's.

        Not that of the transaction, which stands still.
        """
        if self.connection.dialect.name != "postgresql":
            return datetime.now(UTC)
        return self.connection.execute(sa.select(sa.func.clock_timestamp(type_=UtcTime()))).scalar_one()

    def read(
        self,
        table_name: str,
        *,
        where: Where | None = None,
        columns: Sequence[str] | None = None,
        order_by: Sequence[str] = (),
    ) -> pl.DataFrame:
        """Rows of a table, all in memory: for the small ones."""
        return self._whole(table_name, self._select(table_name, columns, where, order_by))

    def lookup(
        self,
        table_name: str,
        column: str,
        values: pl.Series,
        *,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> pl.DataFrame:
        """Rows whose ``column`` is among ``values``, in no order, all in memory."""
        query = self._select(table_name, columns, where)
        conditions = self._way.among(self._tables[table_name].c[column], values)
        return self._whole(table_name, *(query.where(condition) for condition in conditions), empty=query)

    def distinct(self, table_name: str, columns: Sequence[str], *, where: Where | None = None) -> pl.DataFrame:
        """What different values some columns have, all in memory."""
        return self._whole(table_name, self._select(table_name, columns, where).distinct())

    def orphans(self, table_name: str, column: str, of: str) -> pl.Series:
        """Different values of ``column`` that no row of the table ``of`` has."""
        query = self._select(table_name, [column], None).where(self._unowned(table_name, column, of)).distinct()
        return self._whole(table_name, query)[column]

    def stream(
        self,
        table_name: str,
        *,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
        order_by: Sequence[str] = (),
        size: int = ROWS_AT_ONCE,
    ) -> Iterator[pl.DataFrame]:
        """Rows of a table by one statement, at most ``size`` at a time in memory; none is an empty iterator.

        Write to other tables meanwhile, not to this one: SQLite would let the cursor see some of it.
        """
        query = self._select(table_name, columns, where, order_by)
        return self._way.frames(self.connection, self._tables[table_name], query, size)

    def pages(
        self,
        table_name: str,
        *,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
        size: int = 50_000,
    ) -> Iterator[pl.DataFrame]:
        """Rows of a table in the order of its key, at most ``size`` at a time; the table may change between pages.

        Each page starts behind the last key of the one before (keyset pagination): an offset is counted anew.
        """
        table, key = self._tables[table_name], TABLES[table_name].key
        wanted = list(columns or table.c.keys())
        query = self._select(table_name, list(dict.fromkeys([*wanted, *key])), where, key).limit(size)
        page = self._whole(table_name, query)
        while not page.is_empty():
            yield page.select(wanted)
            behind = sa.tuple_(*(table.c[name] for name in key)) > page.select(key).row(-1)
            page = self._whole(table_name, query.where(behind))

    def _select(
        self, table_name: str, columns: Sequence[str] | None, where: Where | None, order_by: Sequence[str] = ()
    ) -> sa.Select[Any]:
        table = self._tables[table_name]
        wanted = [table.c[name] for name in columns or table.c.keys()]
        return sa.select(*wanted).where(*_conditions(table, where)).order_by(*(table.c[name] for name in order_by))

    def _unowned(self, table_name: str, column: str, of: str) -> sa.ColumnElement[bool]:
        table, owners = self._tables[table_name], self._tables[of]
        return ~sa.select(owners).where(owners.c[column] == table.c[column]).correlate(table).exists()

    def _whole(self, table_name: str, *queries: sa.Select[Any], empty: sa.Select[Any] | None = None) -> pl.DataFrame:
        columns = (queries[0] if empty is None else empty).selected_columns.keys()
        frames = [pl.DataFrame(schema={name: TABLES[table_name].polars_schema[name] for name in columns})]
        for query in queries:
            frames.extend(self._way.frames(self.connection, self._tables[table_name], query))
        return pl.concat(frames)


class Transaction(Reader):
    """Reads and writes; all of it is committed together, or none of it."""

    def append(self, table_name: str, frame: pl.DataFrame) -> None:
        """Adds rows whose keys are new.

        Raises:
            ValueError: the frame does not hold rows of the table.
        """
        if not (rows := TABLES[table_name].validate(frame)).is_empty():
            self._way.insert(self.connection, self._tables[table_name], rows)

    def append_missing(self, table_name: str, frame: pl.DataFrame) -> None:
        """Adds the rows whose keys are new; where a key is there already, the row there stays as it is.

        Raises:
            ValueError: the frame does not hold rows of the table.
        """
        if not (rows := TABLES[table_name].validate(frame)).is_empty():
            self._way.insert_missing(self.connection, self._tables[table_name], rows)

    def delete(self, table_name: str, column: str, values: pl.Series, *, where: Where | None = None) -> None:
        """Removes the rows whose ``column`` is among ``values``."""
        table = self._tables[table_name]
        for condition in self._way.among(table.c[column], values):
            self.connection.execute(sa.delete(table).where(condition, *_conditions(table, where)))

    def delete_all(self, table_name: str, where: Where | None = None) -> int:
        """Removes all rows, or those that match; returns how many did."""
        table = self._tables[table_name]
        return self.connection.execute(sa.delete(table).where(*_conditions(table, where))).rowcount

    def delete_orphans(self, table_name: str, column: str, of: str) -> int:
        """Removes the rows whose ``column`` has a value that no row of the table ``of`` has; returns how many."""
        unowned = self._unowned(table_name, column, of)
        return self.connection.execute(sa.delete(self._tables[table_name]).where(unowned)).rowcount

    def update(self, table_name: str, where: Where, values: Mapping[str, object]) -> int:
        """Sets columns of the rows that match; returns how many did."""
        table = self._tables[table_name]
        statement = sa.update(table).where(*_conditions(table, where)).values(**values)
        return self.connection.execute(statement).rowcount

    def rename(self, table_name: str, column: str, renamed: pl.DataFrame, *, touching: str) -> pl.Series:
        """Gives a column other values, in one statement, however many rows that is.

        Args:
            table_name: the table.
            column: the column that changes.
            renamed: ``to``, the new values, and beside it columns of the table, which tell the rows that get them:
                each combination once.
            touching: a column.

        Returns:
            Different values that the column ``touching`` has in the rows that changed.
        """
        table = self._tables[table_name]
        told_by = [table.c[name] for name in renamed.columns if name != "to"]
        to = sa.Column("to", table.c[column].type)
        with self._way.staged(self.connection, table_name, [*told_by, to], renamed) as staged:
            same = [staged.c[c.name] == c for c in told_by]
            touched = self._whole(table_name, sa.select(table.c[touching]).where(*same).distinct())
            self.connection.execute(sa.update(table).values({column: staged.c.to}).where(*same))
        return touched[touching]

    def lock(self, table_name: str, where: Where) -> None:
        """Keeps others from changing the rows that match, until the end; waits for those who do.

        A column set to itself locks a row on every database; not each of them knows ``select for update``.
        """
        column = next(iter(self._tables[table_name].c))
        self.update(table_name, where, {column.name: column})


def _conditions(table: sa.Table, where: Where | None) -> list[sa.ColumnElement[bool]]:
    return [
        table.c[name].between(*value) if isinstance(value, tuple) else table.c[name] == value
        for name, value in (where or {}).items()
    ]
