from collections import Counter
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecner.data.hashes import hash_texts
from ecner.nightly import buckets, parquet
from ecner.nightly import plan as module
from ecner.nightly.changes import CHANGED
from ecner.nightly.rows import REJECTED
from ecner.nightly.scope import Selection
from tests.nightly.house import BY_WATERMARK
from tests.nightly.oracle import hashed
from tests.nightly.reviews import make_reviews, write

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WATERMARK = {"watermark_column": "updated_at", "lookback": timedelta(hours=2)}


def review(review_id="a", text="小米手机", **more: Any):
    return {
        "review_id": review_id, "text": text, "product_id": None, "rating": None, "created_at": AT, "updated_at": AT,
        **more,
    }  # fmt: skip


@pytest.fixture
def plan(house, tmp_path):
    """Plans a night over some rows, without running it: the plan, and its files as frames."""

    def make(rows, selection=BY_WATERMARK, path=None, **sections: Any):
        night = house.prepare(write(path or tmp_path / "plan.parquet", rows), selection, **sections)
        with night.ledger():
            made = night.plan()
        read = house.lake.read
        changed = pl.concat([pl.DataFrame(schema=CHANGED), *map(read, made.changed)])
        rejected = pl.concat([pl.DataFrame(schema=REJECTED), *map(read, made.rejected)])
        shards = [dict(read(shard).select("text_hash", "text").iter_rows()) for shard in made.shards]
        return made, changed.sort("review_id"), rejected.sort("source_row"), shards

    return make


@pytest.fixture
def night(house, tmp_path):
    """Runs a night over some rows."""

    def run(rows, selection=BY_WATERMARK, **sections: Any):
        return house.night(write(tmp_path / "night.parquet", rows), selection, **sections)

    return run


@pytest.fixture
def clock(monkeypatch):
    """Sets the time at which plans are made."""

    def at(moment):
        fixed = type("Fixed", (datetime,), {"now": classmethod(lambda _, zone: moment.astimezone(zone))})
        monkeypatch.setattr(module, "datetime", fixed)

    return at


def published(house):
    return dict(house.read("review_coverage").select("review_id", "text_hash").iter_rows())


def settled(rows):
    """Of each id the newest, then the last."""
    oldest = datetime.min.replace(tzinfo=UTC)
    ranked = sorted(enumerate(rows), key=lambda pair: (pair[1]["updated_at"] or oldest, pair[0]))
    return {row["review_id"]: row["text"] for _, row in ranked}


@pytest.mark.parametrize("shards", [1, 3])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.builds(
            review,
            st.sampled_from("abcdef"),
            st.sampled_from(["小米", "手机", "a1", "好"]),
            updated_at=st.sampled_from([None, AT, AT + HOUR]),
        ),
        min_size=1,
        max_size=20,
    ),
    batch_rows=st.sampled_from([3, 1000]),
)
def test_of_an_id_the_newest_counts(plan, rows, batch_rows, shards):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_BATCH_ROWS", batch_rows)
        made, changed, rejected, found = plan(rows, run={"shards": shards})
    expected = settled(rows)
    assert dict(changed.select("review_id", "text_hash").iter_rows()) == {k: hashed(v) for k, v in expected.items()}
    assert set(rejected["reason"]) <= {"repeated_id"}
    assert made.reviews_in == len(rows)
    assert made.reviews_rejected == len(rejected) == len(rows) - len(expected)
    assert rejected["source_row"].is_unique().all()
    assert Counter(hash_ for shard in found for hash_ in shard) == Counter(set(map(hashed, expected.values())))
    assert made.texts_inferred == made.texts_unique == len(set(expected.values()))


def test_the_last_of_equals_wins(plan):
    _, changed, rejected, _ = plan([review(text="x"), review(text="y"), review(text="z", updated_at=None)])
    assert changed["text_hash"].to_list() == [hashed("y")]
    assert rejected["source_row"].to_list() == [0, 2]
    assert rejected["detail"].null_count() == 0


@pytest.mark.parametrize(
    ("before", "after", "wins"),
    [
        (AT, AT - HOUR, False),
        (AT, AT, True),
        (AT, AT + HOUR, True),
        (AT, None, False),
        (None, AT, True),
        (None, None, True),
    ],
)
def test_an_older_row_changes_nothing(night, house, before, after, wins):
    night([review(text="小米", updated_at=before)])
    report = night([review(text="华为", updated_at=after, rating=1.0)])
    assert published(house) == {"a": hashed("华为" if wins else "小米")}
    assert report.plan.texts_inferred == wins
    assert report.plan.reviews_in == 1
    assert report.plan.reviews_rejected == 0


def test_unchanged_rows_are_not_planned(night, plan):
    rows = make_reviews(30)
    night(rows)
    made, changed, _, shards = plan(rows)
    assert changed.is_empty()
    assert shards == []
    assert made.texts_inferred == 0
    assert made.texts_unique == made.texts_cached == len({row["text"] for row in rows})


@pytest.mark.parametrize(
    "change", [{"rating": 1.0}, {"product_id": "p"}, {"created_at": AT - 30 * HOUR}, {"updated_at": AT + HOUR}]
)
def test_changed_facts_keep_the_reading(night, house, other_model, change):
    night([review(), review("b")])
    before = house.read("review_coverage", review_id="a").row(0, named=True)
    report = night([review(**change), review("b")], model={"ref": str(other_model), "device": "cpu"})
    after = house.read("review_coverage", review_id="a").row(0, named=True)
    assert report.plan.texts_inferred == 0
    assert {name: after[name] for name in change} == change
    for name in ("text_hash", "fingerprint", "model_version", "mention_count"):
        assert after[name] == before[name]
    assert after["run_id"] == report.plan.run_id
    assert house.read("review_coverage", review_id="b")["run_id"].item() != report.plan.run_id
    assert set(house.read("mentions", review_id="a")["run_id"]) == {report.plan.run_id}


def test_the_date_of_a_review(plan, tmp_path, clock):
    clock(datetime(2026, 11, 20, 17, tzinfo=UTC))  # the 21st in Shanghai
    at = datetime(2026, 11, 1, 16, 30, tzinfo=UTC)
    rows = [review("a", created_at=at), review("b", created_at=None)]
    run = {"time_zone": "Asia/Shanghai"}
    _, changed, *_ = plan(rows, run=run)
    assert changed["review_date"].to_list() == [date(2026, 11, 2), date(2026, 11, 21)]
    _, changed, *_ = plan(rows)
    assert changed["review_date"].to_list() == [date(2026, 11, 1), date(2026, 11, 20)]
    _, changed, *_ = plan(rows, path=tmp_path / "date=2026-10-05" / "x.parquet", run=run)
    assert changed["review_date"].to_list() == [date(2026, 11, 2), date(2026, 10, 5)]


def test_the_day_first_read_stays(night, house, clock):
    for day in (3, 4):
        clock(datetime(2026, 11, day, tzinfo=UTC))
        night([review(created_at=None, rating=float(day))])
    row = house.read("review_coverage").row(0, named=True)
    assert row["rating"] == 4
    assert row["review_date"] == date(2026, 11, 3)


def test_a_partition_dates_what_had_no_date(house, tmp_path, clock):
    clock(datetime(2026, 11, 3, tzinfo=UTC))
    rows = [review(created_at=None)]
    for path, day in (("a.parquet", 3), ("date=2026-11-01/a.parquet", 1), ("a.parquet", 1)):
        house.night(write(tmp_path / path, rows))
        assert house.read("review_coverage")["review_date"].item() == date(2026, 11, day)
        assert set(house.read("entity_daily")["review_date"]) == {date(2026, 11, day)}


def test_dates_are_inclusive(plan):
    rows = [review(str(day), created_at=datetime(2026, 11, day, 23, 59, tzinfo=UTC)) for day in range(1, 8)]

    def chosen(first, last):
        days = [date(2026, 11, day) if day else None for day in (first, last)]
        made, changed, *_ = plan(rows, Selection(*days))
        assert made.reviews_in == len(changed)
        assert made.watermark_low is None
        assert made.watermark_high is None
        return "".join(changed["review_id"])

    assert chosen(3, 5) == "345"
    assert chosen(3, 3) == "3"
    assert chosen(6, None) == "67"
    assert chosen(None, 2) == "12"


def highest(house, source):
    runs = house.read("extraction_runs", status="succeeded", source=str(source))
    return runs["watermark_high"].max()


def test_the_watermark(house, tmp_path):
    path = tmp_path / "source.parquet"

    def night(rows, selection=BY_WATERMARK, **sections: Any):
        return house.night(write(path, rows), selection, source=WATERMARK, **sections).plan

    first = night([review("a"), review("b", updated_at=None), review("c", text=None, updated_at=AT + HOUR)])
    assert (first.watermark_low, first.watermark_high) == (None, AT + HOUR)
    assert first.reviews_in == 3

    # Rows under the watermark less the lookback are passed over; those without a watermark are not.
    rows = [
        review("a", text="x", updated_at=AT - HOUR - timedelta(microseconds=1)),
        review("b", text="x", updated_at=None),
        review("d", updated_at=AT - HOUR),
        review("e", text=None, updated_at=AT - 2 * HOUR),
        review("f", text=None, updated_at=None),
    ]
    second = night(rows)
    assert second.watermark_low == AT + HOUR
    assert second.watermark_high == AT - HOUR
    assert (second.reviews_in, second.reviews_rejected) == (3, 1)
    assert set(published(house)) == {"a", "b", "d"}
    assert published(house)["a"] == hashed("小米手机")
    assert highest(house, path) == AT + HOUR  # a night of old rows does not put it back

    # --from, --to and --full look at everything, and leave the watermark as it is.
    later = [*rows, review("g", updated_at=AT + 5 * HOUR)]
    for selection in (Selection(first=date(2026, 1, 1)), Selection(last=date(2027, 1, 1)), Selection(full=True)):
        assert night(later, selection).reviews_in == 6
        assert highest(house, path) == AT + HOUR
    assert night(later).watermark_low == AT + HOUR
    assert highest(house, path) == AT + 5 * HOUR


def test_a_watermark_belongs_to_a_source(house, tmp_path):
    for name, at in (("one", AT + 9 * HOUR), ("two", AT)):
        path = write(tmp_path / f"{name}.parquet", [review(name, updated_at=at)])
        made = house.night(path, source=WATERMARK).plan
        assert made.watermark_low is None
        assert highest(house, path) == at
    assert set(published(house)) == {"one", "two"}


def test_a_source_is_the_file_and_not_the_way_there(house, tmp_path, monkeypatch):
    for folder, at in (("one", AT + 9 * HOUR), ("two", AT)):
        write(tmp_path / folder / "r.parquet", [review(folder, updated_at=at)])
        monkeypatch.chdir(tmp_path / folder)
        assert house.night("r.parquet", source=WATERMARK).plan.watermark_low is None
    assert house.night(tmp_path / "two" / "r.parquet", source=WATERMARK).plan.watermark_low == AT
    assert set(published(house)) == {"one", "two"}


def test_a_watermark_belongs_to_a_column(house, tmp_path):
    path = write(tmp_path / "x.parquet", [review("a", updated_at=AT + 9 * HOUR, created_at=AT)])
    house.night(path, source=WATERMARK)
    by_created = WATERMARK | {"watermark_column": "created_at"}
    assert house.night(path, source=by_created).plan.watermark_low is None
    assert house.night(path, source=by_created).plan.watermark_low == AT
    assert house.night(path, source=WATERMARK).plan.watermark_low == AT + 9 * HOUR


def test_a_failed_run_does_not_move_the_watermark(house, tmp_path, monkeypatch):
    path = write(tmp_path / "x.parquet", [review()])
    with monkeypatch.context() as patched:
        patched.setattr("ecner.nightly.run.publish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            house.night(path, source=WATERMARK)
    assert house.night(path, source=WATERMARK).plan.watermark_low is None
    assert set(published(house)) == {"a"}


def test_a_time_in_the_future_hides_nothing(house, tmp_path, clock):
    clock(AT + HOUR)
    path = tmp_path / "x.parquet"
    typo = review("typo", updated_at=AT + timedelta(days=3650))
    for rows in ([typo], [typo, review("b", updated_at=AT)]):
        made = house.night(write(path, rows), source=WATERMARK).plan
        assert made.watermark_high == AT + HOUR
    assert set(published(house)) == {"typo", "b"}


def test_another_model_reads_anew_only_when_asked(night, house, other_model, model):
    rows = make_reviews(30)
    other = {"ref": str(other_model), "device": "cpu"}
    night(rows[:20])
    old = house.read("review_coverage")["fingerprint"].unique().item()
    assert night(rows[:20], model=other).plan.texts_inferred == 0

    # New reviews are read by the new model, their texts too where the old one had read them.
    new = night(rows, model=other).plan
    assert new.texts_inferred == len({row["text"] for row in rows[20:]})
    coverage = house.read("review_coverage").sort("review_id")
    assert coverage["fingerprint"].to_list() == [old] * 20 + [new.model.fingerprint] * 10
    assert coverage["model_version"].n_unique() == 2

    full = night(rows, Selection(full=True), model=other).plan
    assert full.texts_inferred == len({row["text"] for row in rows} - {row["text"] for row in rows[20:]})
    assert set(house.read("review_coverage")["fingerprint"]) == {new.model.fingerprint}
    assert set(house.read("mentions")["model_version"]) == {new.model.version}

    made = night(rows, Selection(full=True), model=other).plan
    assert made.texts_inferred == 0
    assert made.changed == ()
    back = night(rows, Selection(full=True)).plan  # the first model has read all but the last ten
    assert back.texts_inferred == len({row["text"] for row in rows[20:]} - {row["text"] for row in rows[:20]})
    assert set(house.read("review_coverage")["fingerprint"]) == {old}


def test_full_within_dates_reads_those_alone(night, house, other_model):
    rows = make_reviews(30)
    night(rows)
    day = date(2026, 11, 2)
    report = night(rows, Selection(day, day, full=True), model={"ref": str(other_model), "device": "cpu"})
    again = house.read("review_coverage", fingerprint=report.plan.model.fingerprint)
    assert set(again["review_date"]) == {day}
    assert len(again) == len(house.read("review_coverage", review_date=day)) > 1


@pytest.mark.parametrize("shards", [1, 3, 16])
def test_shards_hold_each_text_once(plan, shards):
    rows = make_reviews(60)
    made, _, _, found = plan(rows, run={"shards": shards})
    texts = {hashed(row["text"]): row["text"] for row in rows}
    assert sum(map(len, found)) == len(texts) == made.texts_inferred
    assert {text_hash: text for shard in found for text_hash, text in shard.items()} == texts
    assert len(found) <= shards
    assert max(map(len, found)) < len(texts) or shards == 1


def test_the_order_of_rows_does_not_matter(plan):
    rows = make_reviews(60)
    _, changed, _, shards = plan(rows)
    Random(1).shuffle(rows)  # noqa: S311
    _, shuffled, _, reshuffled = plan(rows)
    assert shuffled.equals(changed)
    assert [list(shard.items()) for shard in reshuffled] == [list(shard.items()) for shard in shards]


def test_memory_is_that_of_a_bucket(plan, house, monkeypatch):
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 10)
    monkeypatch.setattr(buckets, "_ROWS_A_BUCKET", 12)
    monkeypatch.setattr(buckets, "_BYTES_AT_ONCE", 1)
    made, *_ = plan(make_reviews(95), run={"shards": 2})
    names = house.lake.names(f"runs/{made.run_id}/rows")
    assert len({name.split("/")[3] for name in names}) == 8
    pieces = [len(house.lake.read(name)) for name in names]
    assert sum(pieces) == 95
    assert max(pieces) <= 10


def test_hashes_are_of_the_text_alone():
    texts = pl.Series(["好", "", "好", "\0", "😀"])
    assert hash_texts(texts).to_list() == [hashed(text) for text in texts]
    assert hash_texts(texts.clear()).dtype == pl.String
