"""The copies of a house's tables in its lake."""

import polars as pl
from polars.testing import assert_frame_equal

from ecner.nightly.copies import COPIED, PERIODS_COPIED
from ecner.schema import TABLES
from tests.nightly.house import House


def assert_copied(house: House) -> None:
    """Every day of every table has its file, as other programs read it, and no other day has one."""
    for table in COPIED:
        rows, key = house.read(table), TABLES[table].key
        days = {name.split("review_date=")[1].split("/")[0] for name in house.lake.names(f"tables/{table}")}
        assert days == {str(day) for day in rows["review_date"].unique()}, table
        copied = pl.read_parquet(f"{house.folder}/lake/tables/{table}/**/*.parquet", hive_partitioning=True)
        assert_frame_equal(copied.select(rows.columns).sort(key), rows.sort(key))
    for table in PERIODS_COPIED:
        rows, key = house.read(table), TABLES[table].key
        names = house.lake.names(f"tables/{table}")
        parts = rows.select(pl.format("period={}/period_start={}", "period", "period_start")).unique()
        assert names == sorted(f"tables/{table}/{part}/part-0.parquet" for (part,) in parts.iter_rows()), table
        if names:
            copied = pl.read_parquet(f"{house.folder}/lake/tables/{table}/**/*.parquet", hive_partitioning=True)
            assert_frame_equal(copied.select(rows.columns).sort(key), rows.sort(key))
    assert house.read("stale_copies").is_empty()
