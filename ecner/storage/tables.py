"""SQLAlchemy tables, built from ``ecner.schema``."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from ecner.schema import TABLES, Kind, Table


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A time in UTC: ``timestamptz`` on PostgreSQL, ISO text of fixed width on SQLite, so both compare."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        """The time as the driver takes it: SQLite's drops the zone, so it must be UTC by then."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        """The time with its zone: SQLite's driver knows none, a session on PostgreSQL is in UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


# Ids and names are ordered by bytes: SQLite's default, on PostgreSQL a collation of its own.
SQL_TYPES: Mapping[Kind, sa.types.TypeEngine[Any]] = {
    "text": sa.Text().with_variant(sa.Text(collation="C"), "postgresql"),
    "int": sa.BigInteger(),
    "float": sa.Double(),
    "date": sa.Date(),
    "time": UtcTime(),
}


@lru_cache(maxsize=8)  # nothing is ever added to them
def sql_tables(schema: str | None = None) -> sa.MetaData:
    """The tables of ``ecner.schema.TABLES`` in a database schema; None is the connection's default one."""
    metadata = sa.MetaData(schema=schema)
    for table in TABLES.values():
        _sql_table(table, metadata)
    return metadata


def _sql_table(table: Table, metadata: sa.MetaData) -> sa.Table:
    columns = [
        sa.Column(
            column.name,
            SQL_TYPES[column.kind],
            primary_key=column.key,
            nullable=column.nullable,
            autoincrement=False,
        )
        for column in table.columns
    ]
    indexes = [sa.Index(f"ix_{table.name}_{'_'.join(names)}", *names) for names in table.indexes]
    return sa.Table(table.name, metadata, *columns, *indexes)
