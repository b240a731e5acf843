"""Copies of the tables in the lake, a Parquet file a day, week or month, for analysts who cannot reach the warehouse.

The transaction in the warehouse is the truth: it marks the days that it touches in ``stale_copies``, copies follow
after the commit, and what a killed run has left to do, the next one does.
"""

import uuid
from collections.abc import Iterable, Mapping
from datetime import date
from itertools import chain

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ecner.config import Settings
from ecner.errors import RunError
from ecner.lake import Lake
from ecner.nightly.periods import Period, moved_by
from ecner.schema import TABLES
from ecner.storage.lease import Lease
from ecner.storage.transaction import Reader
from ecner.storage.warehouse import Warehouse

TABLES_FOLDER, SAMPLE_FOLDER = "tables", "sample"
_OWNER = "warehouse.id"
_LAYOUT = b" 2"  # of the copies: those of another one are made anew
COPIED = ("mentions", "review_coverage", "entity_daily", "entity_pairs_daily")
PERIODS_COPIED = ("entity_periods", "type_periods", "pair_periods", "entity_movements")
_BY = "review_date"


def copies_folder(settings: Settings) -> str:
    """Where the copies lie: those of the shipped sample apart, as its warehouse does."""
    return SAMPLE_FOLDER if settings.source.is_sample and settings.warehouse.url is None else TABLES_FOLDER


def write_copies(warehouse: Warehouse, lake: Lake, folder: str, lease: Lease) -> None:
    """Brings the copies up to date, in folders as other programs expect them.

    Those are tables/TABLE/review_date=DAY/ and tables/TABLE/period=week/period_start=DAY/. A lake that has none of this
    warehouse, as it is new or somebody removed them, gets those of all days.

    Args:
        warehouse: the truth.
        lake: where the copies go.
        folder: the folder of it, as ``copies_folder`` says.
        lease: of the run.

    Raises:
        LeaseError: another run has taken over, and copies what is left.
        RunError: the warehouse or the lake failed; what is not done stays marked.
    """
    lake.sweep(folder)
    _make_own(warehouse, lake, folder)
    if not any(name.endswith(".parquet") for name in lake.names(folder)):
        with warehouse.begin() as transaction:
            transaction.append_missing("stale_copies", pl.DataFrame({_BY: sorted(_all_days(transaction))}))
    with warehouse.connect() as reader:
        stale = reader.read("stale_copies", order_by=[_BY])[_BY]
    periods = _of_last_days(stale)
    for day in stale:
        lease.check()
        with warehouse.connect() as reader:
            for table in COPIED:
                _copy(reader, lake, folder, table, {_BY: day})
            for period in periods.get(day, ()):
                for table in PERIODS_COPIED:
                    _copy(reader, lake, folder, table, {"period": period.kind, "period_start": period.start})
        _clear_mark(warehouse, lease, day)


def _of_last_days(stale: Iterable[date]) -> Mapping[date, list[Period]]:
    """The periods that stale days have moved, each under the last of them: it is copied before all marks are gone."""
    last = {period: day for day in sorted(stale) for period in moved_by([day])}
    days: dict[date, list[Period]] = {}
    for period, day in last.items():
        days.setdefault(day, []).append(period)
    return days


def _make_own(warehouse: Warehouse, lake: Lake, folder: str) -> None:
    """Removes the copies of another warehouse that was given the same lake: they would mix with these unseen."""
    with warehouse.begin() as transaction:
        transaction.append_missing("warehouse_facts", pl.DataFrame({"name": ["id"], "value": [uuid.uuid4().hex]}))
        own = transaction.read("warehouse_facts", where={"name": "id"})["value"].item().encode() + _LAYOUT
    name = f"{folder}/{_OWNER}"
    if not lake.exists(name) or lake.read_bytes(name) != own:
        lake.remove(folder)
        lake.write_bytes(name, own)


def _clear_mark(warehouse: Warehouse, lease: Lease, day: date) -> None:
    """A day is done, unless a run that has taken over meanwhile may have written its copy first."""
    mark = pl.Series(_BY, [day])
    try:
        with warehouse.begin() as transaction, lease.held(transaction):
            transaction.delete("stale_copies", _BY, mark)
    except RunError:
        with warehouse.begin() as transaction:
            transaction.append_missing("stale_copies", mark.to_frame())
        raise


def _all_days(reader: Reader) -> set[date]:
    days = set[date]()
    for page in reader.stream("review_coverage", columns=[_BY]):
        days.update(page[_BY].unique())
    return days


def _copy(reader: Reader, lake: Lake, folder: str, table: str, part: Mapping[str, object]) -> None:
    """Writes a part of a table's rows in the order of its key, or removes the copy of one that has none."""
    columns = [column for column in TABLES[table].polars_schema if column not in part]  # folders tell the others
    key = [column for column in TABLES[table].key if column not in part]
    place = "/".join([folder, table, *(f"{column}={value}" for column, value in part.items())])
    pages = (page for page in reader.stream(table, columns=columns, where=part, order_by=key) if len(page))
    first = next(pages, None)
    if first is None:
        lake.remove(place)
        return
    with lake.new_file(f"{place}/part-0.parquet") as path:
        schema = _arrow(first).schema
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for page in chain([first], pages):
                writer.write_table(_arrow(page))


def _arrow(page: pl.DataFrame) -> pa.Table:
    """As programs read it that do not know of views."""
    return page.to_arrow(compat_level=pl.CompatLevel.oldest())
