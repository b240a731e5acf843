"""What is done inside a transaction, in Polars frames. Names and values all go through SQLAlchemy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ecner.schema import TABLES

# Below SQLite's 32,766 and PostgreSQL's 65,535 parameters a statement.
_IDS_AT_ONCE = 5_000
ROWS_AT_ONCE = 20_000
_INSERTS: Mapping[str, Callable[[sa.Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}

Where = Mapping[str, object]


class Reader:
    """Reads tables of the schema within one transaction; frames have the schema's dtypes, also when empty.

    ``where`` maps columns to the value that they must have; None is null.
    """

    def __init__(self, connection: sa.Connection, metadata: sa.MetaData) -> None:
        self.connection = connection
        self._tables = {table.name: table for table in metadata.sorted_tables}

    def read(
        self,
        table_name: str,
        *,
        where: Where | None = None,
        columns: Sequence[str] | None = None,
        order_by: Sequence[str] = (),
    ) -> pl.DataFrame:
        """Rows of a table, all in memory: for the small ones."""
        table = self._tables[table_name]
        order = [table.c[name] for name in order_by]
        return self._fetch(table_name, self._select(table, columns, where).order_by(*order))

    def lookup(
        self,
        table_name: str,
        column: str,
        values: pl.Series,
        *,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
    ) -> pl.DataFrame:
        """Rows whose ``column`` is among ``values``, in no order."""
        table = self._tables[table_name]
        query = self._select(table, columns, where)
        pages = [self._fetch(table_name, query.where(table.c[column].in_(ids))) for ids in _chunks(values)]
        return pl.concat(pages) if pages else self._fetch(table_name, query.where(sa.false()))

    def pages(
        self,
        table_name: str,
        *,
        columns: Sequence[str] | None = None,
        where: Where | None = None,
        size: int = 50_000,
    ) -> Iterator[pl.DataFrame]:
        """Rows of a table in the order of its key, at most ``size`` at a time, so that any table can be read.

        Each page starts behind the last key of the one before (keyset pagination): an offset is counted anew.
        """
        table, key = self._tables[table_name], TABLES[table_name].key
        wanted = list(columns or table.c.keys())
        query = self._select(table, list(dict.fromkeys([*wanted, *key])), where)
        query = query.order_by(*(table.c[name] for name in key)).limit(size)
        page = self._fetch(table_name, query)
        while not page.is_empty():
            yield page.select(wanted)
            behind = sa.tuple_(*(table.c[name] for name in key)) > page.select(key).row(-1)
            page = self._fetch(table_name, query.where(behind))

    @staticmethod
    def _select(table: sa.Table, columns: Sequence[str] | None, where: Where | None) -> sa.Select[Any]:
        wanted = [table.c[name] for name in columns or table.c.keys()]
        return sa.select(*wanted).where(*_conditions(table, where or {}))

    def _fetch(self, table_name: str, query: sa.Select[Any]) -> pl.DataFrame:
        dtypes = TABLES[table_name].polars_schema
        schema = {column.name: dtypes[column.name] for column in query.selected_columns}
        rows = [tuple(row) for row in self.connection.execute(query)]
        return pl.DataFrame(rows, schema=schema, orient="row")


class Transaction(Reader):
    """Reads and writes; all of it is committed together, or none of it."""

    def append(self, table_name: str, frame: pl.DataFrame) -> None:
        """Adds rows whose keys are new.

        Raises:
            ValueError: the frame does not hold rows of the table.
        """
        self._execute(sa.insert(self._tables[table_name]), TABLES[table_name].validate(frame))

    def append_missing(self, table_name: str, frame: pl.DataFrame) -> None:
        """Adds the rows whose keys are new; where a key is there already, the row there stays as it is.

        Raises:
            ValueError: the frame does not hold rows of the table.
        """
        rows = TABLES[table_name].validate(frame)
        table, key = self._tables[table_name], TABLES[table_name].key
        if self.connection.dialect.name in _INSERTS:
            insert = _INSERTS[self.connection.dialect.name](table)
            self._execute(insert.on_conflict_do_nothing(index_elements=key), rows)
            return
        most_telling = max(key, key=lambda name: rows[name].n_unique())
        present = self.lookup(table_name, most_telling, rows[most_telling], columns=key)
        self._execute(sa.insert(table), rows.join(present, on=key, how="anti"))

    def delete(self, table_name: str, column: str, values: pl.Series) -> None:
        """Removes the rows whose ``column`` is among ``values``."""
        table = self._tables[table_name]
        for ids in _chunks(values):
            self.connection.execute(sa.delete(table).where(table.c[column].in_(ids)))

    def update(self, table_name: str, where: Where, values: Mapping[str, object]) -> int:
        """Sets columns of the rows that match; returns how many did."""
        table = self._tables[table_name]
        statement = sa.update(table).where(*_conditions(table, where)).values(**values)
        return self.connection.execute(statement).rowcount

    def _execute(self, statement: sa.Insert | sa.Delete, rows: pl.DataFrame) -> None:
        for chunk in rows.iter_slices(ROWS_AT_ONCE):
            self.connection.execute(statement, chunk.to_dicts())


def _conditions(table: sa.Table, where: Where) -> list[sa.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in where.items()]


def _chunks(values: pl.Series) -> Iterator[list[Any]]:
    distinct = values.drop_nulls().unique()
    for start in range(0, distinct.len(), _IDS_AT_ONCE):
        yield distinct.slice(start, _IDS_AT_ONCE).to_list()
