"""Copies of the tables in the lake, a Parquet file a day, for analysts who have no way into the warehouse.

The transaction in the warehouse is the truth: it marks the days that it touches in ``stale_copies``, copies follow
after the commit, and what a killed run has left to do, the next one does.
"""

import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from ecner.errors import LeaseError
from ecner.lake import Lake
from ecner.schema import TABLES
from ecner.storage.lease import Lease
from ecner.storage.transaction import Reader
from ecner.storage.warehouse import Warehouse

FOLDER = "tables"
COPIED = ("mentions", "review_coverage", "entity_daily", "entity_pairs_daily")
_BY = "review_date"


def write_copies(warehouse: Warehouse, lake: Lake, lease: Lease) -> int:
    """Brings the copies up to date, in folders as other programs expect them: tables/TABLE/review_date=DAY/.

    A lake that has none at all, as it is new or somebody removed them, gets those of all days. Returns the number of
    days written.

    Args:
        warehouse: the truth.
        lake: where the copies go.
        lease: of the run.

    Raises:
        LeaseError: another run has taken over, and copies what is left.
        RunError: the warehouse or the lake failed; what is not done stays marked.
    """
    if not lake.entries(FOLDER):
        with warehouse.begin() as transaction:
            transaction.append_missing("stale_copies", pl.DataFrame({_BY: sorted(_all_days(transaction))}))
    with warehouse.connect() as reader:
        stale = reader.read("stale_copies", order_by=[_BY])[_BY]
    for day in stale:
        lease.check()
        with warehouse.connect() as reader:
            for table in COPIED:
                _copy(reader, lake, table, day)
        _clear_mark(warehouse, lease, day)
    return len(stale)


def _clear_mark(warehouse: Warehouse, lease: Lease, day: date) -> None:
    """A day is done, unless a run that has taken over meanwhile may have written its copy first."""
    mark = pl.Series(_BY, [day])
    try:
        with warehouse.begin() as transaction, lease.held(transaction):
            transaction.delete("stale_copies", _BY, mark)
    except LeaseError:
        with warehouse.begin() as transaction:
            transaction.append_missing("stale_copies", mark.to_frame())
        raise


def _all_days(reader: Reader) -> set[date]:
    days = set[date]()
    for page in reader.stream("review_coverage", columns=[_BY]):
        days.update(page[_BY].unique())
    return days


def _copy(reader: Reader, lake: Lake, table: str, day: date) -> None:
    """Writes a table's rows of a day in the order of its key, or removes the copy of a day that has none."""
    columns = [column for column in TABLES[table].polars_schema if column != _BY]  # the folder tells it
    key = [column for column in TABLES[table].key if column != _BY]
    pages = reader.stream(table, columns=columns, where={_BY: day}, order_by=key)
    folder = f"{FOLDER}/{table}/{_BY}={day}"
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "part-0.parquet"
        if _write(path, pages):
            lake.put(path, f"{folder}/{path.name}")
        else:
            lake.remove(folder)


def _write(path: Path, pages: Iterator[pl.DataFrame]) -> int:
    """Writes pages to one file; returns the number of rows."""
    rows, writer = 0, None
    try:
        for page in pages:
            if page.is_empty():
                continue
            arrow = page.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(path, arrow.schema, compression="zstd")
            writer.write_table(arrow)
            rows += len(page)
    finally:
        if writer is not None:
            writer.close()
    return rows
