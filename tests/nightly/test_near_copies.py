"""Copies of a text, and texts that are nearly the same, from the source to the counts of days, weeks and months."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ecner.forget import forget
from ecner.nightly.recompute import recompute
from ecner.nightly.scope import Selection
from tests.nightly.house import House
from tests.nightly.reviews import BRIDGE, ENDS, write
from tests.tables import assert_equal_tables

TEXT = "买了小米手机真好用，不错不错，真cd，买了用了好，用了真好，不错"
NEAR = TEXT.replace("真cd", "真cc")
OTHER = "华为耳机不用了。cdcd不好用，真真真了不"
START = datetime(2026, 10, 28, tzinfo=UTC)
OF_THE_NIGHTS = (
    "extraction_runs", "rejected_reviews", "drift_metrics", "text_readings", "text_spans", "tombstones", "calendar",
)  # fmt: skip


@pytest.fixture
def make_two(tmp_path, model, new_place):
    """Makes two houses on a database: one is told night by night, the other at once."""

    def make(database="sqlite"):
        for name in ("by night", "at once"):
            (tmp_path / name).mkdir()
            yield House(tmp_path / name, model, *(new_place("postgresql") if database == "postgresql" else ()))

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def two_houses(request, make_two):
    """Those of each database."""
    return [*make_two(request.param)]


def reviews(*texts: str):
    return [
        {
            "review_id": f"r{number}", "product_id": "p", "rating": 3, "text": text,
            "created_at": START + timedelta(hours=number), "updated_at": START + timedelta(hours=number),
        }
        for number, text in enumerate(texts)
    ]  # fmt: skip


def counts(house):
    daily = house.read("entity_daily", entity_type="brand", canonical="小米").row(0, named=True)
    weekly = house.read("entity_periods", period="week", entity_type="brand", canonical="小米").row(0, named=True)
    names = ("review_count", "unique_text_count", "cluster_count")
    assert [daily[name] for name in names] == [weekly[name] for name in names]
    return [daily[name] for name in names]


def test_copies_and_near_copies_count_once(house, tmp_path):
    rows = reviews(TEXT, TEXT, NEAR, OTHER)
    house.night(write(tmp_path / "a.parquet", rows[:2]))
    assert counts(house) == [2, 1, 1]
    house.night(write(tmp_path / "b.parquet", rows))
    assert counts(house) == [3, 2, 1]
    assert house.read("text_clusters")["cluster_id"].n_unique() == 2
    voices = house.read("period_coverage", period="day", model_version="*").row(0, named=True)
    assert (voices["review_count"], voices["unique_text_count"], voices["cluster_count"]) == (4, 3, 2)


def test_texts_of_an_earlier_version_get_their_sketches_when_they_are_seen_again(two_houses, tmp_path):
    source = write(tmp_path / "a.parquet", reviews(TEXT, NEAR))
    for house in two_houses:
        house.night(source)
    house, whole = two_houses
    with house.warehouse.begin() as transaction:
        transaction.delete_all("text_clusters")
        recompute(transaction, {START.date()}, ["test"])
    assert counts(house)[-1] == 2
    house.night(source, Selection(full=True))
    assert counts(house)[-1] == 1
    assert_equal_tables(house.tables(), whole.tables(), but=("extraction_runs", "drift_metrics"))


def bridge(text=BRIDGE, *, hours=0, deleted=False, name="bridge"):
    """A row of the review between the two ends, of another week."""
    created = START + timedelta(days=14)
    row = reviews(text)[0] | {"review_id": name, "created_at": created, "deleted": deleted}
    return row | {"updated_at": created + timedelta(hours=hours)}


@pytest.mark.parametrize(
    ("nights", "clusters"),
    [
        pytest.param([[bridge()], [bridge(OTHER, hours=1)]], 2, id="edited away"),
        pytest.param([[bridge()], [bridge(hours=1, deleted=True)]], 2, id="deleted"),
        pytest.param([[bridge(OTHER, hours=1)], [bridge()]], 2, id="older than what is there"),
        pytest.param([[bridge(hours=1, deleted=True)], [bridge()]], 2, id="older than the deletion"),
        pytest.param([[bridge(OTHER)], [bridge(hours=1)]], 1, id="edited in"),
        pytest.param([[bridge(), bridge(name="copy")], [bridge(hours=1, deleted=True)]], 1, id="still in a copy"),
        pytest.param([[bridge()], [bridge(BRIDGE.upper(), hours=1)]], 1, id="edited into another bridge"),
    ],
)
def test_what_joins_others_counts_only_while_a_review_has_it(make_two, tmp_path, nights, clusters):
    house, whole = make_two()
    rows = [row | {"deleted": False} for row in reviews(*ENDS)]
    for number, night in enumerate(nights):
        rows += night
        house.night(write(tmp_path / f"{number}.parquet", night if number else rows))
    whole.night(write(tmp_path / "all.parquet", rows))
    assert_equal_tables(house.tables(), whole.tables(), but=OF_THE_NIGHTS)
    assert counts(house) == [2, 2, clusters]


def test_what_a_forgotten_review_joined_falls_apart(two_houses, tmp_path):
    house, whole = two_houses
    source = write(tmp_path / "a.parquet", [*reviews(*ENDS), bridge() | {"deleted": None}])
    house.night(source)
    assert counts(house) == [2, 2, 1]
    forgotten = forget(house.settings(source), "bridge")
    assert forgotten.days == (START.date(), bridge()["created_at"].date())
    whole.night(write(tmp_path / "b.parquet", reviews(*ENDS)))
    assert_equal_tables(house.tables(), whole.tables(), but=OF_THE_NIGHTS)
    assert counts(house) == [2, 2, 2]


def test_spans_keep_the_words_around_them(house, tmp_path):
    house.night(write(tmp_path / "a.parquet", reviews(TEXT, "小米\0手机")))
    spans = house.read("text_spans").filter(pl.col("surface") == "小米").sort("start_char")
    assert spans["left_context"].to_list() == ["", "买了"]
    assert spans["right_context"].to_list() == [" 手机", TEXT[4:16]]
