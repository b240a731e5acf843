from datetime import UTC, date, datetime, timedelta
from statistics import fmean
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ecner.config import DriftSettings
from ecner.nightly.drift import ALL, METRICS, REVIEWS, Sample, drift_metrics
from ecner.nightly.report import make_report
from ecner.schema import TABLES
from ecner.storage.warehouse import Warehouse
from tests.nightly.reviews import make_reviews, write

SETTINGS = DriftSettings(runs=3, min_runs=2, min_reviews=10, min_mentions=0)
COUNTS = ["reviews_in", "reviews_rejected", "texts_unique", "texts_cached", "texts_inferred", "mentions_out"]


def sample(reviews=10, chars=1000, unknown=10, **entities: Any):
    """A night of so many reviews; entities: name of a type to (canonical, confidence) of its mentions."""
    night = Sample()
    each = pl.DataFrame({"chars_read": [chars // reviews] * reviews})
    mentions = [(kind, *mention) for kind, named in entities.items() for mention in named]
    columns = {"entity_type": pl.String, "canonical": pl.String, "confidence": pl.Float64}
    frame = pl.DataFrame(mentions, schema=columns, orient="row")
    counted = pl.Series([unknown] + [0] * (reviews - 1), dtype=pl.Int64)
    for part in (slice(0, 3), slice(3, None)):
        night.add(each.with_columns(unknown_chars=counted)[part], frame[part])
    return night


class Ledger:
    """A warehouse with runs in its ledger, one a day, whose figures are written as drift_metrics finds them."""

    def __init__(self, folder) -> None:
        self.warehouse = Warehouse(f"sqlite:///{folder}/warehouse.db")
        self.warehouse.migrate()
        self.runs = 0

    def run(self, night, settings=SETTINGS, *, status="succeeded", source="s", model="m", **options: Any):
        self.runs += 1
        run = {
            "run_id": str(100 - self.runs), "source": source, "status": status, "model_version": model,
            "started_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=self.runs), **dict.fromkeys(COUNTS, 0),
        }  # fmt: skip
        with self.warehouse.begin() as transaction:
            transaction.append("extraction_runs", pl.DataFrame([run], schema=TABLES["extraction_runs"].polars_schema))
            rows = drift_metrics(transaction, run["run_id"], night, settings, **options)
            transaction.append("drift_metrics", rows)
        return {(row["entity_type"], row["metric"]): row for row in rows.to_dicts()}

    def count(self, *entities: tuple[str, str]):
        """Enters entities in entity_daily."""
        facts = {"mention_count": 1, "review_count": 1, "unique_text_count": 1, "product_count": 1, "mean_rating": None}
        rows = [
            {"review_date": date(2026, 1, 1), "entity_type": kind, "canonical": name, "mean_confidence": 1.0,
             "model_version": "m", **facts}
            for kind, name in entities
        ]  # fmt: skip
        with self.warehouse.begin() as transaction:
            transaction.append("entity_daily", pl.DataFrame(rows, schema=TABLES["entity_daily"].polars_schema))


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path)


BRANDS = [("a", 0.5), ("a", 0.7), ("b", 0.9)]


def test_the_figures_of_a_night(ledger):
    ledger.count(("brand", "a"), ("product", "b"))
    found = ledger.run(sample(brand=BRANDS, product=[("b", 1.0)]))
    assert {key: row["value"] for key, row in found.items()} == pytest.approx({
        ("brand", "mentions_per_1000_chars"): 3, ("brand", "mean_confidence"): 0.7, ("brand", "never_seen_share"): 0.5,
        ("product", "mentions_per_1000_chars"): 1, ("product", "mean_confidence"): 1,
        ("product", "never_seen_share"): 0, (ALL, "mentions_per_1000_chars"): 4, (ALL, "mean_confidence"): 3.1 / 4,
        (ALL, "never_seen_share"): 1 / 3, (ALL, "unknown_char_share"): 0.01, (ALL, REVIEWS): 10,
    })  # fmt: skip
    for row in found.values():
        assert (row["baseline"], row["baseline_runs"], row["allowed"], row["drifted"]) == (None, 0, None, 0)


def test_a_night_without_reviews_has_no_figures(ledger):
    assert ledger.run(Sample()) == {}


def test_a_night_without_mentions(ledger):
    found = ledger.run(sample())
    values = {metric: row["value"] for (_, metric), row in found.items()}
    assert values == dict.fromkeys(METRICS) | {
        "mentions_per_1000_chars": 0, "unknown_char_share": 0.01, REVIEWS: 10,
    }  # fmt: skip


def test_readings_that_counted_no_unknown_characters(ledger):
    night = sample(unknown=7)
    uncounted = pl.DataFrame({"chars_read": [9000], "unknown_chars": [None]}, schema_overrides={"unknown_chars": int})
    none = sample().entities.head(0)
    night.add(uncounted, none)
    assert ledger.run(night)[ALL, "unknown_char_share"]["value"] == pytest.approx(0.007)
    old = Sample()
    old.add(uncounted, none)
    assert ledger.run(old)[ALL, "unknown_char_share"]["value"] is None


def test_under_other_names_nothing_is_new(ledger):
    found = ledger.run(sample(brand=BRANDS), names_changed=True)
    assert found["brand", "never_seen_share"]["value"] is None
    assert found["brand", "mean_confidence"]["value"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("metric", "entity_type", "within", "beyond"),
    [
        ("mentions_per_1000_chars", "brand", {"chars": 1200}, {"chars": 700}),
        ("mentions_per_1000_chars", ALL, {"chars": 900}, {"chars": 1500}),
        ("mean_confidence", "brand", {"brand": [("a", 0.65)]}, {"brand": [("a", 0.62)]}),
        ("mean_confidence", ALL, {"brand": [("a", 0.75)]}, {"brand": [("a", 0.78)]}),
        ("never_seen_share", "brand", {"brand": [*BRANDS, ("c", 0.7)]}, {"brand": [*BRANDS, ("c", 0.7), ("d", 0.7)]}),
        ("unknown_char_share", ALL, {"unknown": 19}, {"unknown": 21}),
    ],
)
def test_each_threshold_both_ways(ledger, metric, entity_type, within, beyond):
    ledger.count(("brand", "a"))
    usual = {"brand": BRANDS}
    settings = SETTINGS.model_copy(update={"never_seen_share": 0.4})
    for _ in range(2):
        ledger.run(sample(**usual), settings)
    for changes, drifted in ((within, 0), (beyond, 1)):
        row = ledger.run(sample(**usual | changes), settings, status="failed")
        judged = row[entity_type, metric]
        assert judged["drifted"] == drifted
        assert judged["allowed"] == getattr(settings, metric)
        assert judged["baseline_runs"] == 2


def test_from_zero_and_to_zero(ledger):
    for _ in range(2):
        ledger.run(sample(unknown=0, brand=BRANDS))
    found = ledger.run(sample(unknown=1, product=[("p", 0.7)]))
    assert found[ALL, "unknown_char_share"]["drifted"] == 1
    gone = found["brand", "mentions_per_1000_chars"]
    assert (gone["value"], gone["baseline"], gone["drifted"]) == (0, 3, 1)
    assert found["brand", "mean_confidence"]["value"] is None
    new = found["product", "mentions_per_1000_chars"]
    assert (new["baseline_runs"], new["allowed"], new["drifted"]) == (0, None, 0)
    still = ledger.run(sample(unknown=0, brand=BRANDS))
    assert still["product", "mentions_per_1000_chars"]["value"] == 0


def test_the_baseline_is_of_the_last_runs_that_are_alike(ledger):
    ledger.run(sample(chars=100, brand=BRANDS))  # too long ago
    densities = []
    for chars in (1000, 2000, 3000):
        ledger.run(sample(chars=chars, brand=BRANDS))
        densities.append(3000 / chars)
        ledger.run(sample(chars=50, reviews=9, brand=BRANDS))
        for other in ({"status": "failed"}, {"status": "abandoned"}, {"source": "t"}, {"model": "n"}):
            ledger.run(sample(chars=50, brand=BRANDS), **other)
    row = ledger.run(sample(chars=1000, brand=BRANDS))["brand", "mentions_per_1000_chars"]
    assert row["baseline"] == pytest.approx(fmean(densities))
    assert row["baseline_runs"] == 3


def test_too_few_reviews_or_runs_are_not_judged(ledger):
    ledger.run(sample(brand=BRANDS))
    assert not any(row["drifted"] for row in ledger.run(sample(chars=100, brand=BRANDS)).values())
    few = ledger.run(sample(reviews=9, chars=90, brand=BRANDS))
    assert {(row["allowed"], row["drifted"]) for row in few.values()} == {(None, 0)}
    assert few["brand", "mentions_per_1000_chars"]["baseline_runs"] == 2
    assert ledger.run(sample(chars=10**6, brand=BRANDS))["brand", "mentions_per_1000_chars"]["drifted"] == 1


def test_a_label_of_the_name_of_the_whole(ledger):
    found = ledger.run(sample(all=[("x", 0.5)]))
    assert len(found) == len(METRICS) + 1


def test_nights_of_a_house(house, tmp_path):
    """Only new reviews count; what is told is what the tables say; a quiet night adds nothing."""
    drift = {"min_runs": 1, "min_reviews": 20, "min_mentions": 0, "mentions_per_1000_chars": 0.5}
    reviews = [row | {"review_id": f"{seed}-{row['review_id']}"} for seed in range(3) for row in make_reviews(30, seed)]
    source = tmp_path / "reviews.parquet"
    first = house.night(write(source, reviews[:30]), drift=drift)
    assert first.drift.is_empty()
    assert "rifted" not in first.to_text() + first.to_markdown()
    for row in reviews[60:]:
        row["text"] = "好\U0001f600" * 20
    second = house.night(write(source, reviews), drift=drift)
    rows = house.read("drift_metrics", run_id=second.plan.run_id)
    values = {(row["entity_type"], row["metric"]): row["value"] for row in rows.to_dicts()}
    assert values[ALL, REVIEWS] == 60
    mine = house.read("mentions", run_id=second.plan.run_id)
    chars = house.read("review_coverage", run_id=second.plan.run_id)["chars_read"].sum()
    brands = mine.filter(entity_type="brand")
    assert values["brand", "mentions_per_1000_chars"] == pytest.approx(1000 * len(brands) / chars)
    assert values["brand", "mean_confidence"] == pytest.approx(brands["confidence"].mean())
    assert values[ALL, "unknown_char_share"] > 0.1
    told = second.drift.select("entity_type", "metric").rows()
    assert (ALL, "unknown_char_share") in told
    assert second.drift["drifted"].unique().to_list() == [1]
    for shown in (second.to_text(), second.to_markdown()):
        assert "all: share of unknown characters " in shown
        assert "on average of 1 runs before (+" in shown
    before = house.read("drift_metrics")
    quiet = house.night(source, drift=drift, model={"ref": str(house.model), "min_confidence": {"brand": 0.9}})
    assert quiet.mentions > 0
    assert house.read("drift_metrics").equals(before)
    assert make_report(house.settings(source), house.warehouse, quiet.plan, []).drift.is_empty()


def test_a_night_of_another_lexicon_takes_nothing_for_new(house, tmp_path):
    reviews = make_reviews(40)
    house.night(write(tmp_path / "a.parquet", reviews[:20]))
    (tmp_path / "names.yaml").write_text("brand: {ours: [小米, 华为]}", "utf-8")
    model = {"ref": str(house.model), "lexicon": tmp_path / "names.yaml"}
    report = house.night(write(tmp_path / "b.parquet", reviews), model=model)
    shares = house.read("drift_metrics", run_id=report.plan.run_id, metric="never_seen_share")
    assert shares["value"].null_count() == len(shares) > 0
    sizes = house.read("drift_metrics", run_id=report.plan.run_id, metric=REVIEWS)
    assert sizes["value"].to_list() == [20]


def test_edited_reviews_do_not_count(houses, tmp_path):
    """A night has the figures that it would have without them."""
    reviews = make_reviews(60)
    edited = [row | {"text": f"{row['text']}😀华为"} for row in reviews[:30]]
    figures = []
    for house, night in ((houses(), edited + reviews[30:]), (houses(), reviews)):
        house.night(write(tmp_path / "reviews.parquet", reviews[:30]))
        report = house.night(write(tmp_path / "reviews.parquet", night))
        figures.append(house.read("drift_metrics", run_id=report.plan.run_id).drop("run_id"))
        assert report.mentions == len(house.read("mentions", run_id=report.plan.run_id))
    assert len(figures[0]) > len(METRICS)
    assert_frame_equal(*figures)  # but for the order of sums


def test_types_with_few_mentions_are_not_judged(ledger):
    settings = SETTINGS.model_copy(update={"min_mentions": 3})
    usual = sample(brand=[("a", 0.5)] * 3, product=[("b", 1.0)] * 2)
    ledger.run(usual, settings)
    ledger.run(usual, settings)
    found = ledger.run(sample(), settings)  # both have vanished: of brands three would have been there
    rate = "mentions_per_1000_chars"
    assert (found["brand", rate]["drifted"], found["product", rate]["drifted"]) == (1, 0)
    assert found["product", rate]["allowed"] is None
    enough = sample(chars=650, product=[("b", 1.0)] * 3)  # 1000 * 3 / 650 * 650 / 1000 is less than 3 in floats
    assert ledger.run(enough, settings)["product", rate]["drifted"] == 1


@pytest.mark.parametrize("few", [2, 3])
@pytest.mark.parametrize("falls", [False, True])
@pytest.mark.parametrize("metric", ["never_seen_share", "unknown_char_share"])
def test_shares_of_few_events_are_not_judged(ledger, metric, falls, few):
    """However many mentions there are: three new names or unknown characters must be found or expected."""
    settings = SETTINGS.model_copy(update={"min_mentions": 3, metric: 0.5})
    ledger.count(*(("brand", f"seen {number}") for number in range(10)))
    seen = [(f"seen {number}", 0.7) for number in range(10)]
    new = [(f"new {number}", 0.7) for number in range(few)]
    events = {"unknown": few} if metric == "unknown_char_share" else {"brand": new + seen[few:]}
    usual = {"unknown": 0, "brand": seen}
    without, having = sample(**usual), sample(**usual | events)
    for _ in range(2):
        ledger.run(having if falls else without, settings)
    found = ledger.run(without if falls else having, settings)
    for entity_type in {"brand", ALL} if metric == "never_seen_share" else {ALL}:
        row = found[entity_type, metric]
        assert (row["drifted"], row["allowed"]) == ((0, None) if few < 3 else (1, 0.5))


def test_few_new_names_of_one_type_among_many_of_others(ledger):
    """Each type has events of its own, and all types have theirs together."""
    settings = SETTINGS.model_copy(update={"min_mentions": 3, "never_seen_share": 0.5})
    ledger.count(("brand", "a"), ("product", "a"))
    usual = [("a", 0.7)] * 5
    for _ in range(2):
        ledger.run(sample(brand=usual, product=usual), settings)
    new = [*usual, ("b", 0.7), ("c", 0.7)]
    found = ledger.run(sample(brand=new, product=new), settings)
    drifted = {kind: found[kind, "never_seen_share"]["drifted"] for kind in ("brand", "product", ALL)}
    assert drifted == {"brand": 0, "product": 0, ALL: 1}
