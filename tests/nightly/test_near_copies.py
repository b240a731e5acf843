"""Copies of a text, and texts that are nearly the same, from the source to the counts of days, weeks and months."""

from datetime import UTC, datetime, timedelta

import polars as pl

from ecner.nightly.scope import Selection
from tests.nightly.reviews import write

TEXT = "买了小米手机真好用，不错不错，真cd，买了用了好，用了真好，不错"
NEAR = TEXT.replace("真cd", "真cc")
OTHER = "华为耳机不用了。cdcd不好用，真真真了不"
START = datetime(2026, 10, 28, tzinfo=UTC)


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


def test_texts_of_an_earlier_version_get_their_sketches_when_they_are_seen_again(house, tmp_path):
    source = write(tmp_path / "a.parquet", reviews(TEXT, NEAR))
    house.night(source)
    with house.warehouse.begin() as transaction:
        transaction.delete_all("text_clusters")
    house.night(source, Selection(full=True))
    assert house.read("text_clusters").height == 2


def test_spans_keep_the_words_around_them(house, tmp_path):
    house.night(write(tmp_path / "a.parquet", reviews(TEXT, "小米\0手机")))
    spans = house.read("text_spans").filter(pl.col("surface") == "小米").sort("start_char")
    assert spans["left_context"].to_list() == ["", "买了"]
    assert spans["right_context"].to_list() == [" 手机", TEXT[4:16]]
