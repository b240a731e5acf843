"""``--full`` over a period: its reviews are read anew by the champion, each text once, and nothing else moves."""

from datetime import date

import polars as pl
import pytest

from ecner.inference.reader import Reader
from ecner.nightly.scope import Selection
from ecner.schema import TABLES
from tests.nightly.reviews import make_reviews, write
from tests.tables import assert_equal_tables

CHAMPION = {"ref": "champion", "device": "cpu"}
MAIN = ("mentions", "review_coverage", "entity_daily", "entity_pairs_daily")
FIRST, LAST = date(2026, 10, 30), date(2026, 11, 1)


@pytest.fixture
def read(monkeypatch):
    """The texts that went through a model, in order."""
    texts, original = [], Reader.read

    def logged(self, given):
        texts.extend(given)
        return original(self, given)

    monkeypatch.setattr(Reader, "read", logged)
    return texts


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "reviews.parquet", make_reviews(90))


def promote(house, model, source):
    """Registers a model by a night that selects nothing, and makes it champion; returns its version."""
    empty = Selection(date(1999, 1, 1), date(1999, 1, 1))
    version = house.night(source, empty, model={"ref": str(model), "device": "cpu"}).plan.model.version
    with house.warehouse.begin() as transaction:
        transaction.update("model_versions", {"status": "champion"}, {"status": "archived"})
        transaction.update("model_versions", {"version": version}, {"status": "champion"})
    return version


def figures_of(house, report):
    return house.read("drift_metrics", run_id=report.plan.run_id)


def texts_of(house, first, last):
    days = house.read("review_coverage").filter(pl.col("review_date").is_between(first, last))
    return set(days["text_hash"])


def test_a_period_is_read_anew_by_the_champion(houses, other_model, source, read):
    house = houses()
    old = house.night(source).plan.model.version
    new = promote(house, other_model, source)
    before = house.tables()
    read.clear()
    assert house.night(source, model=CHAMPION).plan.texts_inferred == len(read) == 0

    report = house.night(source, Selection(FIRST, LAST, full=True), model=CHAMPION)
    wanted = texts_of(house, FIRST, LAST)
    assert len(read) == len(set(read)) == len(wanted) == report.plan.texts_inferred
    inside = pl.col("review_date").is_between(FIRST, LAST)
    for name in ("mentions", "review_coverage"):
        rows, was = house.read(name), before[name]
        assert set(rows.filter(inside)["model_version"]) == {new}
        assert set(rows.filter(~inside)["model_version"]) == {old}
        assert rows.filter(~inside).drop("run_id").sort("review_id").shape == was.filter(~inside).shape
    assert set(house.read("review_coverage").filter(inside)["run_id"]) == {report.plan.run_id}

    longer = house.night(source, Selection(FIRST, date(2026, 11, 3), full=True), model=CHAMPION)
    rest = texts_of(house, FIRST, date(2026, 11, 3)) - wanted
    assert longer.plan.texts_inferred == len(rest) > 0
    assert len(read) == len(set(read)) == len(wanted | rest)
    assert house.run(longer)["watermark_high"] is None

    all_days = house.night(source, Selection(full=True), model=CHAMPION)
    assert all_days.plan.texts_inferred == len(texts_of(house, date.min, date.max) - wanted - rest)
    at_once = houses()
    at_once.night(source, model={"ref": str(other_model), "device": "cpu"})
    left, right = house.tables(), at_once.tables()
    assert_equal_tables({n: left[n] for n in MAIN}, {n: right[n] for n in MAIN}, but=tuple(set(left) - set(MAIN)))


def test_a_period_is_as_if_two_houses_were_one(houses, other_model, source):
    """Inside it the rows are those of a house of the new model alone, outside those of the old one."""
    house, olds, news = houses(), houses(), houses()
    house.night(source)
    promote(house, other_model, source)
    house.night(source, Selection(FIRST, LAST, full=True), model=CHAMPION)
    olds.night(source)
    news.night(source, model={"ref": str(other_model), "device": "cpu"})
    inside = pl.col("review_date").is_between(FIRST, LAST)
    got, old, new = (each.tables() for each in (house, olds, news))
    both = {name: pl.concat([old[name].filter(~inside), new[name].filter(inside)]) for name in MAIN}
    in_order = [{name: tables[name].sort(TABLES[name].key) for name in MAIN} for tables in (got, both)]
    assert_equal_tables(*in_order, but=tuple(set(old) - set(MAIN)))


def test_a_backfill_is_no_drift_and_no_baseline(house, other_model, tmp_path):
    """Its names are counted already: nights after it are compared with nights, and the first ones with nothing."""
    drift = {"min_runs": 1, "min_reviews": 1, "min_mentions": 0, "never_seen_share": 0.1}
    reviews = make_reviews(90)
    source = write(tmp_path / "reviews.parquet", reviews[:60])
    house.night(source, drift=drift)
    promote(house, other_model, source)
    for first, last in ((None, FIRST), (FIRST, LAST), (LAST, None), (None, None)):
        report = house.night(source, Selection(first, last, full=True), model=CHAMPION, drift=drift)
        assert figures_of(house, report).is_empty()
    for row in reviews[60:]:
        row["text"] += f" {row['review_id']}小米"
    night = house.night(write(source, reviews), model=CHAMPION, drift=drift)
    figures = figures_of(house, night)
    assert set(figures["baseline_runs"]) == {0}
    assert night.drift.is_empty()


def test_the_first_load_of_a_period_is_a_baseline(house, source):
    """Whatever chose them, reviews that no run has published before count, and only these."""
    drift = {"min_reviews": 1}
    first = house.night(source, Selection(None, FIRST), drift=drift)
    second = house.night(source, Selection(None, LAST, full=True), drift=drift)
    for report, inside in ((first, pl.col("review_date") <= FIRST), (second, pl.col("review_date") > FIRST)):
        sizes = figures_of(house, report).filter(metric="reviews")
        assert sizes["value"].to_list() == [len(house.read("review_coverage").filter(inside))]
        assert sizes["baseline_runs"].to_list() == [0 if report is first else 1]
