"""The copies in the lake are the tables, day by day, whatever stopped the runs before."""

import shutil
from datetime import timedelta

import pytest

from ecner.config import SourceSettings, WarehouseSettings
from ecner.errors import LeaseError
from ecner.nightly import copies
from ecner.nightly.copies import COPIED, PERIODS_COPIED, copies_folder
from ecner.storage.lease import Lease
from tests.nightly.copied import assert_copied
from tests.nightly.house import House
from tests.nightly.reviews import make_reviews, write


@pytest.fixture(params=["sqlite", "postgresql"])
def place_of(request, tmp_path, model, new_place):
    (tmp_path / "house").mkdir()
    return House(tmp_path / "house", model, *new_place(request.param))


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
    def stop(lease):
        if len(house.lake.names("tables/mentions")) == 3:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Lease, "check", stop)
        with pytest.raises(ZeroDivisionError):
            house.night(source)
    assert len(house.read("stale_copies")) == 7
    assert house.read("extraction_runs")["status"].to_list() == ["succeeded"]
    house.night(write(tmp_path / "nothing new.parquet", make_reviews(1)))
    assert_copied(house)


@pytest.mark.parametrize("last", [COPIED[-1], PERIODS_COPIED[-1]])
def test_a_run_that_is_overtaken_while_it_copies_leaves_the_day_to_the_next(house, source, monkeypatch, last):
    """What it had read of the day may be older than what the other run has written meanwhile."""
    copy, done = copies._copy, []

    def overtaken(reader, lake, folder, table, part):
        copy(reader, lake, folder, table, part)
        if not done and table == last:
            done.append(house.read("stale_copies")["review_date"].min())
            with house.warehouse.begin() as transaction:  # as after a long silence
                transaction.update("leases", {}, {"holder": "another", "token": 99, "process": None})
                transaction.delete("stale_copies", "review_date", house.read("stale_copies")["review_date"])

    with monkeypatch.context() as patch:
        patch.setattr(copies, "_copy", overtaken)
        with pytest.raises(LeaseError):
            house.night(source)
    assert house.read("stale_copies")["review_date"].to_list() == done


def test_copies_of_an_earlier_layout_are_made_anew(house, source):
    house.night(source)
    owner = house.folder / "lake/tables/warehouse.id"
    owner.write_bytes(owner.read_bytes().split()[0])
    shutil.rmtree(house.folder / "lake/tables/entity_periods")
    house.night(source)
    assert_copied(house)


def test_copies_of_two_warehouses_in_one_lake_never_mix(house, source, tmp_path):
    other = House(house.folder, house.model, f"sqlite:///{tmp_path}/other.db")
    days = write(tmp_path / "others.parquet", make_reviews(20, seed=3))
    for each, reviews in ((house, source), (other, days), (house, source)):
        each.night(reviews)
        assert_copied(each)


def test_the_sample_s_copies_lie_apart(house, source, tmp_path):
    settings = house.settings(source)
    sample = settings.model_copy(update={"source": SourceSettings(), "warehouse": WarehouseSettings()})
    assert (copies_folder(settings), copies_folder(sample)) == ("tables", "sample")


def test_a_lake_without_copies_gets_those_of_all_days(house, source):
    house.night(source)
    shutil.rmtree(house.folder / "lake/tables")
    house.night(source)
    assert_copied(house)
