import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pytest

from ecner.config import ModelSettings
from ecner.inference.reader import Reader
from ecner.nightly import parquet
from ecner.nightly import publish as module
from ecner.nightly.names import Lexicon
from ecner.nightly.rules import Rules
from ecner.nightly.run import run_night
from ecner.nightly.scope import Selection
from ecner.resources import resource
from ecner.storage.transaction import Transaction
from tests.nightly.oracle import LABELS, expected_tables, read_texts
from tests.nightly.reviews import make_reviews, write
from tests.tables import assert_equal_tables

LEXICON = Lexicon.read(resource("configs/lexicon.yaml"))
OF_THE_NIGHT = ("extraction_runs", "rejected_reviews", "drift_metrics")


@pytest.fixture(scope="session")
def found(model):
    """Mentions in all texts of the tests here, each read on its own."""
    return read_texts(model, [row["text"] for seed in range(3) for row in make_reviews(90, seed)])


def assert_published(house, reviews, found, canonical=LEXICON.canonical, **rules: Any):
    """The tables say what plain Python makes of these reviews, and surfaces stand where they are said to."""
    tables = house.tables()
    expected = expected_tables(reviews, found, canonical, **rules)
    got = {name: tables[name].select(frame.columns) for name, frame in expected.items()}
    calendar = expected.pop("calendar")
    assert_equal_tables(got, expected, but=tuple(set(tables) - set(expected)))
    assert not calendar.join(got["calendar"], on=calendar.columns, how="anti").height  # days once touched stay in it
    texts = {review["review_id"]: review["text"] for review in reviews}
    for row in tables["mentions"].to_dicts():
        assert texts[row["review_id"]][row["start_char"] : row["end_char"]] == row["surface"]
    return tables


@pytest.mark.parametrize(
    "how", [{}, {"shards": 1}, {"shards": 3}, {"shards": 16}, {"max_batch_chars": 512}, {"order": 1}, {"rows": 7}]
)
def test_tables_are_those_of_plain_python(house, source, tmp_path, found, how, monkeypatch):
    """Whatever the cut into shards, batches, buckets and row groups, and the order of rows."""
    reviews = make_reviews(90)
    if "order" in how:
        shuffled = Random(how.pop("order")).sample(reviews, len(reviews))  # noqa: S311
        source = write(tmp_path / "shuffled.parquet", shuffled, row_group_size=11)
    if "rows" in how:
        monkeypatch.setattr(parquet, "_BATCH_ROWS", how["rows"])
        monkeypatch.setattr(module, "_REVIEWS_AT_ONCE", how.pop("rows"))
    house.night(source, run=how)
    tables = assert_published(house, reviews, found)
    assert len(tables["mentions"]) > 90
    assert len(tables["entity_pairs_daily"]) > 20
    assert {"😀", "𠮷"} & set("".join(row["text"] for row in reviews))
    assert set(tables["entity_daily"]["model_version"]) == set(tables["mentions"]["model_version"])


def test_several_nights_make_the_tables_of_one(houses, tmp_path, found):
    reviews = make_reviews(90)
    one, many = houses(), houses()
    one.night(write(tmp_path / "all.parquet", reviews))
    for number, upto in enumerate([20, 21, 60, 90]):
        many.night(write(tmp_path / f"{number}.parquet", reviews[:upto][::-1]))
    days = houses()
    source = write(tmp_path / "all.parquet", reviews)
    for first, last in [(None, date(2026, 10, 30)), (date(2026, 11, 2), None), (date(2026, 10, 31), date(2026, 11, 1))]:
        days.night(source, Selection(first, last))
    for other in (many, days):
        assert_equal_tables(other.tables(), one.tables(), but=OF_THE_NIGHT)
    assert_published(days, reviews, found)


def test_changed_reviews_take_the_place_of_what_was(house, tmp_path, found):
    """Edited texts, moved days, other products and ratings: as if the last state had been the first."""
    random = Random(3)  # noqa: S311
    reviews = make_reviews(90)
    house.night(write(tmp_path / "a.parquet", reviews))
    others = make_reviews(90, seed=1)
    for review, other in zip(reviews, others, strict=True):
        review.update(
            {name: other[name] for name in ("text", "created_at", "rating", "product_id") if random.random() < 0.3}
        )
    moved = {review["created_at"].date() for review in reviews if review["created_at"].day == 30}
    assert moved  # and a day that is left by all of its reviews has no rows
    for review in reviews:
        if review["created_at"].date() in moved:
            review["created_at"] += timedelta(days=100)
    report = house.night(write(tmp_path / "b.parquet", reviews))
    tables = assert_published(house, reviews, found)
    assert not moved & {*tables["review_coverage"]["review_date"], *tables["entity_daily"]["review_date"]}
    assert 0 < report.plan.texts_inferred < report.plan.texts_unique


def test_a_review_that_lost_its_mentions(house, tmp_path):
    row = make_reviews(1)[0]
    later = row["updated_at"] + timedelta(hours=1)
    house.night(write(tmp_path / "a.parquet", [row | {"text": "小米手机"}]))
    assert len(house.read("entity_daily")) == 2
    house.night(write(tmp_path / "b.parquet", [row | {"text": "好", "updated_at": later}]))
    for table in ("mentions", "entity_daily", "entity_pairs_daily"):
        assert house.read(table).is_empty()
    assert house.read("review_coverage")["mention_count"].to_list() == [0]


@pytest.fixture
def unread(monkeypatch):
    """From now on, reading a text fails the test."""
    return lambda: monkeypatch.setattr(Reader, "read", lambda *_: pytest.fail("a text was read"))


def test_thresholds_apply_when_publishing(house, source, found, unread, monkeypatch):
    house.night(source)
    before = house.tables()
    unread()
    shutil.rmtree(house.folder / "lake")
    monkeypatch.setattr(module, "_REVIEWS_AT_ONCE", 13)
    for floors in ({"brand": 0.9}, {"brand": 0.9, "model_number": 0.99, "misc": 1.0}):
        report = house.night(source, model={"ref": str(house.model), "device": "cpu", "min_confidence": floors})
        tables = assert_published(house, make_reviews(90), found, floors=floors)
        assert 0 < len(tables["mentions"]) < len(before["mentions"])
        assert report.plan.texts_inferred == 0
        assert report.mentions == len(tables["mentions"])
        assert set(house.read("mentions")["run_id"]) == {report.plan.run_id}
    assert house.night(source).plan.texts_inferred == 0
    assert_equal_tables(house.tables(), before, but=OF_THE_NIGHT)


def test_labels_apply_when_publishing(house, source, found, unread):
    house.night(source)
    unread()
    labels = {"HCCX": "brand", "HPPX": "maker"}
    report = house.night(source, model={"ref": str(house.model), "device": "cpu", "labels": labels})
    tables = assert_published(house, make_reviews(90), found, labels=labels)
    assert set(tables["mentions"]["entity_type"]) == {"brand", "maker", "XH", "MISC"}
    assert report.plan.texts_inferred == 0


def with_lexicon(house, source, lexicon, **settings: Any):
    night = house.prepare(source, **settings)
    return run_night(replace(night, rules=Rules(night.settings.model, lexicon)))


def test_a_new_lexicon_names_the_whole_history(house, source, found, unread):
    house.night(source)
    before = house.tables()
    unread()
    lexicon = Lexicon({"brand": {"小米": "华为"}, "product": {"耳机": "耳机"}})
    report = with_lexicon(house, source, lexicon)
    tables = assert_published(house, make_reviews(90), found, lexicon.canonical)
    assert "小米" not in set(tables["entity_daily"].filter(entity_type="brand")["canonical"])
    assert report.mentions == len(tables["mentions"])
    again = with_lexicon(house, source, lexicon)
    assert again.mentions == 0
    assert set(house.read("mentions")["run_id"]) == {report.plan.run_id}
    house.night(source)
    assert_equal_tables(house.tables(), before, but=OF_THE_NIGHT)


def test_a_new_lexicon_beside_new_reviews(houses, tmp_path, found):
    """Each review is published once by that night, and the history keeps the readings of its own models."""
    reviews = make_reviews(90)
    lexicon = Lexicon({"brand": {"小米": "华为"}})
    house = houses()
    house.night(write(tmp_path / "a.parquet", reviews[:50]))
    report = with_lexicon(house, write(tmp_path / "b.parquet", reviews[40:]), lexicon)
    tables = assert_published(house, reviews, found, lexicon.canonical)
    assert report.mentions == len(tables["mentions"])


def test_the_history_keeps_its_models(house, other_model, source, tmp_path, unread):
    """Re-publishing reviews that several models read mixes nothing up."""
    reviews = make_reviews(90)
    other = {"ref": str(other_model), "device": "cpu"}
    house.night(write(tmp_path / "a.parquet", reviews[:50]))
    house.night(source, model=other)
    before = house.tables()
    assert "mixed" in set(before["entity_daily"]["model_version"])
    unread()
    house.night(source, model=other | {"min_confidence": {"brand": 0.5}})
    house.night(source, model=other)
    assert_equal_tables(house.tables(), before, but=OF_THE_NIGHT)


def test_a_failing_publish_leaves_the_old_tables(house, source, tmp_path, monkeypatch):
    """An error at any statement of the transaction leaves all as it was, and the next night goes through."""
    reviews = make_reviews(90)
    house.night(write(tmp_path / "a.parquet", reviews[:50]))
    before = house.tables()
    publishing = module.publish
    calls = {"made": 0, "fail_at": 0}

    def counted(method):
        def call(*args: Any, **options: Any):
            calls["made"] += 1
            if calls["made"] == calls["fail_at"]:
                raise OSError("pulled the plug")
            return method(*args, **options)

        return call

    def publish(*args: Any, **options: Any):
        calls["made"] = 0
        with pytest.MonkeyPatch.context() as patch:
            for name in ("append", "append_missing", "delete", "update"):
                patch.setattr(Transaction, name, counted(getattr(Transaction, name)))
            publishing(*args, **options)

    monkeypatch.setattr("ecner.nightly.run.publish", publish)
    monkeypatch.setattr("ecner.nightly.run.make_report", lambda *_: None)
    steps = 1
    while True:
        calls["fail_at"] = steps
        try:
            house.night(source)
        except OSError:
            assert_equal_tables(house.tables(), before)
            steps += 7
        else:
            break
    assert steps > 12
    assert house.tables()["review_coverage"].height == 90
    failed = house.read("extraction_runs", status="failed")
    assert set(failed["error"]) == {"pulled the plug"}


def test_a_reading_that_an_earlier_version_left(house, source, found):
    """It is taken up without the column that it lacks."""
    night = house.prepare(source)
    with night.ledger():
        plan = night.plan()
        extracted = [night.extract(shard, plan) for shard in plan.shards]
        for part in extracted:
            house.lake.write(part.path, house.lake.read(part.path).drop("unknown_chars"))
        night.publish(plan, extracted)
    assert_published(house, make_reviews(90), found)
    readings = house.read("text_readings")
    assert readings["unknown_chars"].null_count() == len(readings) > 0


def test_days_of_other_years(house, tmp_path):
    """The first and the last days that are accepted have their weeks and months."""
    rows = [row | {"text": "小米手机"} for row in make_reviews(3)]
    for row, (year, month) in zip(rows, ((1, 2), (2026, 12), (9999, 11)), strict=True):
        row["created_at"] = datetime(year, month, 15, tzinfo=UTC)
    house.night(write(tmp_path / "a.parquet", rows), run={"time_zone": "Pacific/Kiritimati"})
    assert len(house.read("entity_daily")) == 6
    assert LABELS.keys() >= {"HPPX"}


def test_counts_are_corrected_anew_where_a_model_was_evaluated_anew(house, source):
    def judge(recall):
        [version] = house.read("model_versions")["version"]
        figures = {"strict_precision": 0.9, "strict_recall": recall}
        rows = [
            {
                "version": version,
                "dataset": "all",
                "metric": name,
                "entity_type": kind,
                "value": value,
                "support": 100,
            }
            for name, value in figures.items()
            for kind in house.read("entity_daily")["entity_type"].unique()
        ]
        with house.warehouse.begin() as transaction:
            transaction.delete("model_evaluations", "version", pl.Series([version]))
            transaction.append("model_evaluations", pl.DataFrame(rows))

    def corrected():
        assert house.night(source).plan.texts_inferred == 0
        return house.read("entity_periods").sort("period", "period_start", "entity_type", "canonical")

    house.night(source)
    for recall in (0.6, 0.3):
        judge(recall)
        rows = corrected()
        assert (rows["corrected_count"] - rows["mention_count"] * 0.9 / recall).abs().max() < 1e-9
        assert set(rows["evaluated_on"]) == {"all"}
        assert corrected().equals(rows)


def test_mentions_are_numbered_by_their_place():
    rules = Rules(ModelSettings(labels={"L": "brand"}, min_confidence={"brand": 0.5}), Lexicon({}))
    facts = {"product_id": None, "review_date": date(2026, 1, 1), "model_version": "m", "fingerprint": "f"}
    reviews = pl.DataFrame([{"review_id": name, "text_hash": "t", **facts} for name in "ba"])
    spans = pl.DataFrame([
        {"fingerprint": "f", "text_hash": "t", "label": label, "start_char": at, "confidence": share, "surface": "X"}
        for label, at, share in [("L", 9, 0.5), ("L", 1, 0.9), ("L", 5, 0.49), ("Q", 7, 0.0)]
    ])  # fmt: skip
    got = rules.mentions(reviews, spans).select("review_id", "mention_no", "start_char", "entity_type", "canonical")
    each = [(1, 1, "brand", "x"), (2, 7, "Q", "x"), (3, 9, "brand", "x")]
    assert got.rows() == [(review, *row) for review in "ab" for row in each]


def test_the_digest_goes_by_the_rules(house, source):
    def digest(lexicon=LEXICON, **model: Any):
        return Rules(house.settings(source, model=model).model, lexicon).digest

    assert digest() == digest(decoder="beam", ref="elsewhere")
    others = [digest(min_confidence={"brand": 0.5}), digest(labels={"HPPX": "brand"}), digest(Lexicon({}))]
    assert len({digest(), *others}) == 4


def test_the_rules_of_the_tables_do_not_depend_on_a_clock(house, tmp_path):
    source = write(tmp_path / "reviews.parquet", make_reviews(30, 0))
    high = {"ref": str(house.model), "min_confidence": {"brand": 1.0}}
    first = house.night(source)
    before = house.tables()["mentions"]
    with house.warehouse.begin() as transaction:  # by another machine, whose clock is ahead
        ahead = {"finished_at": datetime(2999, 1, 1, tzinfo=UTC)}
        transaction.update("extraction_runs", {"run_id": first.plan.run_id}, ahead)
    house.night(source, model=high)
    assert len(house.tables()["mentions"]) < len(before)
    house.night(source)
    assert house.tables()["mentions"].equals(before)
