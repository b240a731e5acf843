"""A week of nights over reviews that come late, are edited, deleted and come back, against a run on the last state."""

# ruff: noqa: S311 - nothing here is secret
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from ecner.nightly.scope import Selection
from tests.nightly.reviews import BRIDGE, ENDS, make_reviews, write
from tests.tables import assert_equal_tables

START = datetime(2026, 11, 2, tzinfo=UTC)
NIGHTS = 7
LATEST = timedelta(days=2)  # by which a row may be late
BY_WATERMARK = {"watermark_column": "updated_at", "lookback": LATEST}
OF_THE_NIGHTS = (
    "extraction_runs", "rejected_reviews", "drift_metrics", "text_readings", "text_spans", "calendar",
)  # fmt: skip


def versions(seed: int) -> list[list[dict[str, Any]]]:
    """Rows by the night in which they come to the source; no two of a review have the same updated_at."""
    random, texts = Random(seed), [row["text"] for row in make_reviews(40, seed)] + [BRIDGE, *ENDS] * 4
    nights: list[list[dict[str, Any]]] = [[] for _ in range(NIGHTS)]
    for number in range(50):
        times = sorted(random.sample(range(NIGHTS * 24 * 60), random.choice([1, 1, 2, 3, 4])))
        for minute in times:
            written = START + timedelta(minutes=minute)
            deleted = minute != times[0] and random.random() < 0.4
            row = {
                "review_id": f"R{number}",
                "text": None if deleted and random.random() < 0.5 else random.choice(texts),
                "product_id": random.choice([None, "p1", "p2"]),
                "rating": random.choice([None, 1.0, 4.0]),
                "created_at": START - timedelta(days=random.choice([number % 9, number % 9, 1])),
                "updated_at": written,
                "deleted": deleted,
            }
            arrives = written + LATEST * random.choice([0, 0, random.random()])
            nights[min(NIGHTS - 1, (arrives - START).days)].append(row)
    for rows in nights:
        random.shuffle(rows)
    return nights


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 12))])
@pytest.mark.parametrize("source", ["all rows", "new rows", "last state"])
def test_a_week_of_nights_ends_as_one_run(houses, tmp_path, seed, source):
    week, once = houses(), houses()
    nights = versions(seed)
    come: list[dict[str, Any]] = []
    for number, rows in enumerate(nights):
        come += rows
        if source == "new rows":
            week.night(write(tmp_path / f"{number}.parquet", rows))
        elif source == "all rows":
            week.night(write(tmp_path / "log.parquet", come), source=BY_WATERMARK)
        else:
            week.night(write(tmp_path / "state.parquet", last_state(come)), source=BY_WATERMARK)
    once.night(write(tmp_path / "all.parquet", come))
    assert_equal_tables(week.tables(), once.tables(), but=OF_THE_NIGHTS)
    alive = {row["review_id"] for row in last_state(come) if not row["deleted"]}
    assert {*once.read("review_coverage")["review_id"]} == alive
    assert len(once.read("tombstones")) == len(last_state(come)) - len(alive) > 5
    run = week.read("extraction_runs").sort("started_at").row(-1, named=True)
    assert run["reviews_deleted"] > 0


def last_state(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        newest[row["review_id"]] = max(newest.get(row["review_id"], row), row, key=lambda r: r["updated_at"])
    return list(newest.values())


def test_a_row_older_than_the_deletion_does_not_bring_it_back(house, tmp_path):
    row = make_reviews(1)[0] | {"deleted": False}
    gone = row | {"deleted": True, "updated_at": row["updated_at"] + timedelta(hours=2)}
    house.night(write(tmp_path / "a.parquet", [row]))
    report = house.night(write(tmp_path / "b.parquet", [gone]))
    assert (report.plan.reviews_in, report.plan.reviews_deleted) == (1, 1)
    for table in ("mentions", "review_coverage", "entity_daily", "entity_pairs_daily"):
        assert house.read(table).is_empty(), table
    late = row | {"text": "小米手机", "updated_at": row["updated_at"] + timedelta(hours=1)}
    report = house.night(write(tmp_path / "c.parquet", [late]), Selection(full=True))
    assert (report.plan.reviews_in, report.plan.reviews_deleted) == (1, 1)
    assert house.read("review_coverage").is_empty()
    back = late | {"updated_at": row["updated_at"] + timedelta(hours=3)}
    house.night(write(tmp_path / "d.parquet", [back]))
    assert house.read("review_coverage")["review_id"].to_list() == [row["review_id"]]
    assert house.read("tombstones").is_empty()


def test_a_deletion_that_is_older_changes_nothing(house, tmp_path):
    row = make_reviews(1)[0] | {"deleted": False}
    house.night(write(tmp_path / "a.parquet", [row]))
    for updated_at in (row["updated_at"] - timedelta(hours=1), None):
        house.night(write(tmp_path / "b.parquet", [row | {"deleted": True, "updated_at": updated_at}]))
        assert len(house.read("review_coverage")) == 1
        assert house.read("tombstones").is_empty()


def test_a_source_that_knows_no_times_deletes_too(house, tmp_path):
    row = {"review_id": "a", "text": "小米手机", "deleted": 0}
    house.night(write(tmp_path / "a.parquet", [row]))
    house.night(write(tmp_path / "b.parquet", [row | {"deleted": 1}]))
    assert house.read("review_coverage").is_empty()
    house.night(write(tmp_path / "c.parquet", [row]))
    assert len(house.read("review_coverage")) == 1
