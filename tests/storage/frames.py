"""Random frames of the tables."""

from datetime import UTC, datetime

import polars as pl
from hypothesis import strategies as st

from ecner.schema import Column, Table

_VALUES = {
    "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "date": st.dates(),
    "time": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
}


def _values(column: Column):
    return st.none() | _VALUES[column.kind] if column.nullable else _VALUES[column.kind]


def frames(table: Table, max_size: int = 6) -> st.SearchStrategy[pl.DataFrame]:
    rows = st.lists(
        st.fixed_dictionaries({column.name: _values(column) for column in table.columns}),
        unique_by=(lambda row: tuple(row[name] for name in table.key)) if table.key else None,
        max_size=max_size,
    )
    return rows.map(lambda values: pl.DataFrame(values, schema=table.polars_schema))
