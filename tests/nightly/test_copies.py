"""The copies in the lake are the tables, day by day, whatever stopped the runs before."""

import shutil
from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ecner.nightly import run
from ecner.nightly.copies import COPIED, write_copies
from ecner.schema import TABLES
from tests.nightly.house import House
from tests.nightly.reviews import make_reviews, write


@pytest.fixture(params=["sqlite", "postgresql"])
def place_of(request, tmp_path, model, new_place):
    (tmp_path / "house").mkdir()
    return House(tmp_path / "house", model, *new_place(request.param))


def assert_copied(house):
    """Every day of every table has its file, as other programs read it, and no other day has one."""
    for table in COPIED:
        rows, key = house.read(table), TABLES[table].key
        days = {name.split("review_date=")[1].split("/")[0] for name in house.lake.names(f"tables/{table}")}
        assert days == {str(day) for day in rows["review_date"].unique()}, table
        copied = pl.read_parquet(f"{house.folder}/lake/tables/{table}/**/*.parquet", hive_partitioning=True)
        assert_frame_equal(copied.select(rows.columns).sort(key), rows.sort(key))
    assert house.read("stale_copies").is_empty()


def test_copies_follow_the_tables(place_of, tmp_path):
    house, reviews = place_of, make_reviews(60)
    house.night(write(tmp_path / "a.parquet", reviews))
    assert_copied(house)
    first = min(review["created_at"] for review in reviews).date()
    for review in reviews:  # the first day is left by all of its reviews
        if review["created_at"].date() == first:
            review["created_at"] += timedelta(days=3)
    untouched = house.folder / "lake/tables/mentions" / f"review_date={first + timedelta(days=5)}" / "part-0.parquet"
    before = untouched.stat().st_mtime_ns
    house.night(write(tmp_path / "b.parquet", reviews))
    assert_copied(house)
    assert str(first) not in "".join(house.lake.names("tables"))
    assert untouched.stat().st_mtime_ns == before


@pytest.fixture
def house(tmp_path, model):
    return House(tmp_path, model)  # other programs would take other folders for a glob


def test_what_a_stopped_run_left_is_mended_by_the_next(house, source, tmp_path, monkeypatch):
    def half(warehouse, lake, check):
        write_copies(warehouse, lake, stop)

    def stop():
        if len(house.lake.names("tables/mentions")) == 3:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_copies", half)
        with pytest.raises(ZeroDivisionError):
            house.night(source)
    assert len(house.read("stale_copies")) == 6
    assert house.read("extraction_runs")["status"].to_list() == ["succeeded"]
    house.night(write(tmp_path / "nothing new.parquet", make_reviews(1)))
    assert_copied(house)


def test_a_lake_without_copies_gets_those_of_all_days(house, source):
    house.night(source)
    shutil.rmtree(house.folder / "lake/tables")
    house.night(source)
    assert_copied(house)
