"""The figures themselves are held against plain Python in test_publish; here are the rules at their edges."""

from datetime import date
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ecner.nightly import aggregate
from ecner.nightly.aggregate import TYPE, PeriodCounts, calendar, whole_reviews
from ecner.schema import TABLES

DAY = date(2026, 11, 2)
NO_RATINGS = pl.DataFrame(schema={"review_id": pl.String, "rating": pl.Float64})


def mentions(*rows: Any):
    """review_id, entity_type, canonical, and what else differs."""
    numbers = {}
    full = []
    for review_id, entity_type, canonical, more in rows:
        numbers[review_id] = numbers.get(review_id, 0) + 1
        full.append({
            "review_id": review_id, "mention_no": numbers[review_id], "product_id": None, "review_date": DAY,
            "entity_type": entity_type, "surface": canonical, "canonical": canonical, "start_char": 0, "end_char": 1,
            "confidence": 0.5, "text_hash": review_id, "model_version": "m", "run_id": "r", **more,
        })  # fmt: skip
    return pl.DataFrame(full, schema=TABLES["mentions"].polars_schema, orient="row")


def counted(frame, reviews, size=1000):
    """Counts of mentions that come in pages."""
    ordered = frame.sort("review_id", maintain_order=True)
    counts = PeriodCounts()
    for page in whole_reviews(ordered.with_columns(cluster=pl.col("text_hash").str.slice(0, 1)).iter_slices(size)):
        counts.add(page, reviews)
    return counts


def daily(*rows: Any, **ratings: Any):
    """The one row of the day."""
    reviews = pl.DataFrame(
        {"review_id": list(ratings), "rating": list(ratings.values())},
        schema={"review_id": pl.String, "rating": pl.Float64},
    )
    return counted(mentions(*rows), reviews).entities().row(0, named=True)


def test_a_review_that_says_it_twice_is_rated_once():
    row = daily(
        ("a", "brand", "x", {}), ("a", "brand", "x", {"confidence": 1.0}), ("b", "brand", "x", {}), a=1.0, b=4.0
    )
    assert (row["mention_count"], row["review_count"], row["mean_rating"]) == (3, 2, 2.5)
    assert row["mean_confidence"] == pytest.approx(2 / 3)


def test_copies_of_a_text_count_once_beside_the_raw_count():
    row = daily(("a", "brand", "x", {"text_hash": "t"}), ("b", "brand", "x", {"text_hash": "t"}), a=None, b=None)
    assert (row["review_count"], row["unique_text_count"], row["mean_rating"]) == (2, 1, None)


def test_products_that_are_known():
    rows = [("a", "brand", "x", {"product_id": p}) for p in ("p", "q", "p", None)]
    assert daily(*rows, a=1.0)["product_count"] == 2
    assert daily(("a", "brand", "x", {}), a=1.0)["product_count"] == 0


def test_several_models_of_a_day_show():
    assert (
        daily(("a", "brand", "x", {}), ("b", "brand", "x", {"model_version": "n"}), a=1.0, b=1.0)["model_version"]
        == "mixed"
    )
    assert daily(("a", "brand", "x", {}), ("b", "brand", "x", {}), a=1.0, b=1.0)["model_version"] == "m"


def test_pairs_have_the_brand_on_the_left_and_count_reviews():
    frame = counted(
        mentions(
            ("a", "brand", "x", {}), ("a", "brand", "x", {}), ("a", "product", "p", {}), ("a", "model_number", "1", {}),
            ("b", "product", "p", {}), ("b", "brand", "x", {}), ("b", "misc", "z", {}),
            ("c", "brand", "x", {}), ("d", "product", "p", {}),
        ),
        NO_RATINGS,
    ).pairs()  # fmt: skip
    assert frame.rows() == [("brand", "x", "model_number", "1", 1, 1, 1), ("brand", "x", "product", "p", 2, 2, 2)]


def test_nothing_said():
    assert counted(mentions(), NO_RATINGS).is_empty
    assert not counted(mentions(("a", "brand", "x", {})), NO_RATINGS).is_empty


def test_a_type_counts_a_review_with_two_of_its_names_once():
    rows = [("a", "brand", "x", {}), ("a", "brand", "y", {}), ("b", "brand", "x", {"text_hash": "a2"})]
    counts = counted(mentions(*rows, ("b", "misc", "z", {"text_hash": "a2"})), NO_RATINGS)
    names = ("entity_type", "mention_count", "review_count", "unique_text_count", "cluster_count", "probability_mass")
    assert counts.types().select(names).rows() == [("brand", 3, 2, 2, 1, 1.5), ("misc", 1, 1, 1, 1, 0.5)]
    assert counts.by_version(TYPE).sort(TYPE).rows() == [("brand", "m", 3), ("misc", "m", 1)]


def test_near_copies_of_a_text_are_one_cluster():
    row = daily(*((hash_[0], "brand", "x", {"text_hash": hash_}) for hash_ in ("a1", "a2", "b1")), a=None, b=None)
    assert (row["unique_text_count"], row["cluster_count"]) == (3, 2)


def test_parts_make_the_counts_of_the_whole():
    rows = [(f"r{n}", "brand", "xy"[n % 2], {"text_hash": f"{n % 3}", "model_version": "mn"[n % 2]}) for n in range(20)]
    rows += [(f"r{n}", "product", "p", {"text_hash": f"{n % 3}"}) for n in range(0, 20, 3)]
    whole, parts = counted(mentions(*rows), NO_RATINGS), PeriodCounts()
    for ids in (range(9), range(9, 20)):
        parts.absorb(counted(mentions(*(row for row in rows if int(row[0][1:]) in ids)), NO_RATINGS))
    parts.absorb(PeriodCounts())
    assert_frame_equal(parts.entities(), whole.entities())
    assert_frame_equal(parts.types(), whole.types())
    assert_frame_equal(parts.pairs(), whole.pairs())
    assert_frame_equal(parts.by_version().sort(pl.all()), whole.by_version().sort(pl.all()))


def test_the_order_of_rows_does_not_matter():
    rows = [(f"r{n % 7}", "brand", "xy"[n % 2], {"confidence": n / 99, "mention_no": n}) for n in range(60)]
    reviews = pl.DataFrame({"review_id": [f"r{n}" for n in range(7)], "rating": [n / 3 for n in range(7)]})
    frame = mentions(*rows)
    whole = counted(frame, reviews)
    assert_frame_equal(whole.entities(), counted(frame.reverse(), reviews.reverse()).entities())


@pytest.mark.parametrize("size", [1, 3, 7])
def test_pages_make_the_counts_of_the_whole(size, monkeypatch):
    monkeypatch.setattr(aggregate, "_ROWS_HELD", 5)
    kinds = ["brand", "product", "model_number"]
    rows = [
        (
            f"r{n % 11}",
            kinds[n % 3],
            "xyz"[n % 2],
            {"text_hash": f"t{n % 5}", "product_id": [None, "p", "q"][n % 3], "model_version": "mn"[n % 2]},
        )
        for n in range(80)
    ]
    reviews = pl.DataFrame({"review_id": [f"r{n}" for n in range(11)], "rating": [None, *(n / 3 for n in range(10))]})
    whole, paged = counted(mentions(*rows), reviews), counted(mentions(*rows), reviews, size)
    assert_frame_equal(paged.entities(), whole.entities())
    assert_frame_equal(paged.types(), whole.types())
    assert_frame_equal(paged.pairs(), whole.pairs())


def test_the_calendar_covers_the_weeks_beside():
    frame = calendar(pl.Series([date(2026, 1, 1), date(2026, 1, 3)]))
    assert frame["date"].to_list() == sorted({*frame["date"]})
    assert (frame["date"].min(), frame["date"].max()) == (date(2025, 12, 25), date(2026, 1, 10))
    first = frame.filter(date=date(2026, 1, 1)).row(0, named=True)
    assert (first["week_start"], first["month_start"]) == (date(2025, 12, 29), date(2026, 1, 1))
    assert calendar(pl.Series([], dtype=pl.Date)).is_empty()
