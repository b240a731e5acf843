import re
from datetime import UTC, datetime

import polars as pl
import pytest

from ecner.nightly.extract import Extracted
from ecner.nightly.report import make_report
from tests.nightly.reviews import make_reviews, write


@pytest.fixture
def night(house, source):
    return house.night(source)


def test_it_says_what_the_tables_say(house, night):
    text = night.to_text()
    daily = house.read("entity_daily")
    for entity_type, top in night.top.items():
        rows = (
            daily.filter(entity_type=entity_type)
            .group_by("canonical")
            .agg(pl.col("mention_count", "review_count").sum())
        )
        ranked = sorted(rows.to_dicts(), key=lambda row: (-row["review_count"], row["canonical"].encode()))[:10]
        expected = [(row["canonical"], row["mention_count"], row["review_count"]) for row in ranked]
        assert top.select("canonical", "mentions", "reviews").rows() == expected
        assert len(top) > 1
    assert re.search(r"top brands \(reviews\)\n  \S+ \d+   ", text)
    assert f"tables     {house.warehouse.location}" in text
    assert "95 in, 5 rejected (2 bad_id, 1 blank_text, 1 null_id, 1 null_text)" in text
    assert "90 reviews, 2026-10-28 to 2026-11-05" in text
    assert f"mentions   {len(house.read('mentions')):,} published by this run" in text
    assert re.search(r"characters in \d+\.\d s, [\d,]+ a second: \d+% in the model's forward pass", text)


def test_what_moved(house, night):
    assert night.to_text().endswith("moved by more than chance against the week before (reviews)\n  nothing")
    with house.warehouse.begin() as transaction:
        moved = transaction.read("entity_movements").filter(period="week")
        week = moved["period_start"].max()
        names = moved.filter(period_start=week, entity_type="brand")["canonical"].sort()
        for place, name in enumerate(names):
            where = {"period_start": week, "entity_type": "brand", "canonical": name}
            figures = {"previous_cluster_count": 0, "previous_review_count": 0, "review_count": 1000 + place}
            transaction.update("entity_movements", where, figures | {"q_value": 0.05 - place / 1000})
    report = make_report(house.settings("x"), house.warehouse, night.plan, [])
    assert report.movers["canonical"].to_list() == names.to_list()[::-1]
    assert re.search(rf"  {names[-1]} +0 -> {999 + len(names):,} +rise\n  {names[-2]} ", report.to_text())


def test_a_first_week_has_nothing_to_compare(house, tmp_path):
    days = [review | {"created_at": datetime(2026, 11, 3, tzinfo=UTC)} for review in make_reviews(5)]
    assert "moved" not in house.night(write(tmp_path / "x.parquet", days)).to_text()


def test_a_second_night(house, night, source):
    text = house.night(source).to_text()
    assert "0 read" in text
    assert "no text had to be read" in text
    assert "0 published by this run" in text


def test_markdown_and_rows(night):
    lines = night.to_markdown().splitlines()
    places = [line for line in lines if re.match(r"\| \d+ \|", line)]
    assert len(places) == max(map(len, night.top.values()))
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in places)
    assert night.to_rows()[0] == {"type": "brand", "place": 1, **night.top["brand"].row(0, named=True)}
    assert len(night.to_rows()) == sum(map(len, night.top.values()))


def test_nothing_was_found(house, tmp_path):
    report = house.night(write(tmp_path / "x.parquet", [make_reviews(1)[0] | {"text": None}]))
    assert "0 reviews, none published yet" in report.to_text()
    assert report.to_text().count("none\n") >= 2
    assert report.to_markdown().splitlines()[-1].startswith("|---|")
    assert report.to_rows() == []


def test_customers_words_do_no_harm(house, night):
    with house.warehouse.begin() as transaction:
        rows = transaction.read("entity_daily").filter(entity_type="brand").head(1)
        name = "a|b\x1b[31m\u202e`*_"
        transaction.append(
            "entity_daily",
            rows.with_columns(canonical=rows["canonical"].replace(rows["canonical"], [name]), review_count=10**6),
        )
    report = make_report(house.settings("x"), house.warehouse, night.plan, [])
    for shown in (report.to_text(), report.to_markdown()):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert "a|b\ufffd[31m\ufffd`*_ 1,000,000" in report.to_text()
    assert "a\\|b\ufffd\\[31m\ufffd\\`\\*\\_ (1,000,000)" in report.to_markdown()


def test_the_speed_is_that_of_what_was_read(house, night):
    parts = [
        Extracted("a", 2, 300, {"total": 2.0, "forward": 1.5, "decode": 0.5}),
        Extracted("b", 1, 10**9, {"total": 0.0, "forward": 0.0, "decode": 0.0}),  # taken up from an earlier run
        Extracted("c", 1, 100, {"total": 2.0, "forward": 1.5, "decode": 0.1}),
    ]
    report = make_report(house.settings("x"), house.warehouse, night.plan, parts)
    assert report.speed == "400 characters in 4.0 s, 100 a second: 75% in the model's forward pass, 15% in decoding"
