"""Random contents of a warehouse, small but with what the views must tell apart."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from random import Random

import polars as pl
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ecner.nightly.recompute import recompute
from ecner.schema import BANDS, TABLES
from ecner.storage.transaction import Transaction
from ecner.storage.warehouse import Warehouse

FIRST, DAYS = date(2024, 1, 25), 45
EVALUATED_ON = "dev"
SILENT_WEEK = date(2024, 2, 12)
NAMES = {
    "brand": ["华为", "小米", "apple", "Ａ"],
    "product": ["手机", "面霜"],
    "model_number": ["p40", "x1"],
    "misc": ["七夕"],
}


# Each is a whole warehouse, so a few have to do; every run of the suite draws others.
A_FEW_NIGHTS = settings(max_examples=2, suppress_health_check=[*HealthCheck], phases=[Phase.explicit, Phase.generate])


def nights() -> SearchStrategy[dict[str, pl.DataFrame]]:
    """Random nights, told by their seeds."""
    return st.integers(0, 2**32).map(night)


def publish(place: tuple[str, str | None], tables: Mapping[str, pl.DataFrame]) -> None:
    """Makes a warehouse and fills it."""
    warehouse = Warehouse(*place)
    warehouse.migrate()
    with warehouse.begin() as transaction:
        fill(transaction, tables)


def night(seed: int) -> dict[str, pl.DataFrame]:
    """A frame for each table that a night writes and views read, but for those that are computed from them."""
    random = Random(seed)  # noqa: S311
    reviews = [_review(random, number) for number in range(300)]
    mentions = [mention for review in reviews for mention in _mentions(random, review)]
    counts = {review["review_id"]: 0 for review in reviews}
    for mention in mentions:
        counts[mention["review_id"]] += 1
    covered = [{**review, "mention_count": counts[review["review_id"]]} for review in reviews]
    return {
        "calendar": calendar(),
        "review_coverage": pl.DataFrame(covered, infer_schema_length=None),
        "mentions": pl.DataFrame(mentions, infer_schema_length=None),
        "text_clusters": _clusters(),
        "text_spans": _spans(random, mentions),
        **_links(random),
        **_runs(random),
        **_models(random),
    }


def fill(transaction: Transaction, tables: Mapping[str, pl.DataFrame]) -> None:
    """Writes the tables, and computes the others from them as a night does."""
    for name, frame in tables.items():
        transaction.append(name, frame)
    recompute(transaction, set(tables["review_coverage"]["review_date"]), [EVALUATED_ON])


def calendar() -> pl.DataFrame:
    days = pl.date_range(FIRST, FIRST + timedelta(days=DAYS - 1), eager=True)
    return pl.DataFrame({"date": days, "week_start": days.dt.truncate("1w"), "month_start": days.dt.truncate("1mo")})


def _review(random: Random, number: int) -> dict[str, object]:
    day = FIRST + timedelta(days=random.randrange(DAYS))
    if SILENT_WEEK <= day < SILENT_WEEK + timedelta(days=7):
        day = FIRST
    if number == 0:
        day = FIRST + timedelta(days=DAYS - 1)
    return {
        "review_id": str(number),
        "product_id": random.choice([None, "p1", "p2", "p3"]),
        "rating": random.choice([None, 1.0, 4.5]),
        "created_at": None,
        "updated_at": None,
        "review_date": day,
        "chars": random.randrange(100),
        "chars_read": random.randrange(100),
        "windows": 1,
        "text_hash": str(random.randrange(60)),
        "fingerprint": "f",
        "model_version": "m",
        "run_id": "r",
    }


def _mentions(random: Random, review: dict[str, object]) -> list[dict[str, object]]:
    kinds = random.choices(list(NAMES), k=random.randrange(4))
    shared = {name: review[name] for name in ("review_id", "product_id", "review_date", "text_hash", "model_version")}
    return [
        {
            **shared,
            "mention_no": number,
            "entity_type": kind,
            "surface": random.choice(["x", "y"]),
            "canonical": random.choice(NAMES[kind]),
            "start_char": number,
            "end_char": number + 1,
            "confidence": random.choice([0.5, 0.75]),
            "run_id": "r",
        }
        for number, kind in enumerate(kinds)
    ]


def _clusters() -> pl.DataFrame:
    """Sixty texts, of which some are nearly the same, some alone, and the last ten have no sketch."""
    numbers = pl.DataFrame({"number": range(50)}).select(
        text_hash=pl.col("number").cast(pl.String), cluster_id=(pl.col("number") // 3 * 3).cast(pl.String)
    )
    return numbers.with_columns(pl.lit(0, pl.Int64).alias(band) for band in BANDS)


def _spans(random: Random, mentions: list[dict[str, object]]) -> pl.DataFrame:
    """The spans that mentions are of, some without their context."""
    spans = {(mention["text_hash"], mention["start_char"]): mention for mention in mentions}
    rows = [
        {
            "fingerprint": "f",
            "text_hash": text_hash,
            "span_no": number,
            "label": "HPPX",
            "start_char": start,
            "end_char": 1,
            "confidence": 0.5,
            "surface": mention["surface"],
            "left_context": random.choice(["买的", "", None]),
            "right_context": random.choice(["不错", "。"]),
        }
        for number, ((text_hash, start), mention) in enumerate(spans.items(), 1)
    ]
    return pl.DataFrame(rows, schema=TABLES["text_spans"].polars_schema)


def _links(random: Random) -> dict[str, pl.DataFrame]:
    names = [*NAMES["brand"], "lenovo"]
    pairs = [(left, right) for left in names for right in names if left != right]
    suggested = [
        {
            "entity_type": kind,
            "alias": alias,
            "canonical": canonical,
            "kind": "spelling",
            "score": random.random(),
            **dict.fromkeys(["alias_count", "canonical_count", "together_count", "adjacent_count", "shared_slots"], 1),
            "alias_example": random.choice([None, "买的[x]不错"]),
            "canonical_example": None,
            "suggested_at": datetime(2024, 2, 1, tzinfo=UTC),
        }
        for kind in ("brand", "product")
        for alias, canonical in random.sample(pairs, 8)
    ]
    decided = [
        {
            "decision_no": number,
            "decided_at": datetime(2024, 2, number, tzinfo=UTC),
            "decided_by": random.choice("ab"),
            "action": random.choice(["accept", "reject"]),
            "entity_type": "brand",
            "alias": alias,
            "canonical": canonical,
        }
        for number, (alias, canonical) in enumerate(random.sample(pairs, 6), 1)
    ]
    return {
        name: pl.DataFrame(rows, schema=TABLES[name].polars_schema)
        for name, rows in (("link_suggestions", suggested), ("link_decisions", decided))
    }


def _runs(random: Random) -> dict[str, pl.DataFrame]:
    counts = ["reviews_in", "reviews_rejected", "texts_unique", "texts_cached", "texts_inferred", "mentions_out"]
    runs = pl.DataFrame(
        [
            {
                "run_id": str(number),
                "source": "sample",
                "status": "running" if number else "succeeded",
                "started_at": datetime(2024, 2, 1 + number, 3, 4, 5, 678, tzinfo=UTC),
                "finished_at": None if number else datetime(2024, 2, 1, 4, tzinfo=UTC),
                "watermark_column": None,
                "watermark_low": None,
                "watermark_high": None,
                **{name: random.randrange(50) if number else 0 for name in counts},
                "model_version": "m",
                "error": None,
                "publish_hash": None,
                "reviews_deleted": number or None,
            }
            for number in range(4)
        ]
    )
    rejected = pl.DataFrame(
        [
            {
                "run_id": str(random.randrange(4)),
                "source_row": row,
                "review_id": None,
                "reason": random.choice(["null_text", "bad_id"]),
                "detail": None,
            }
            for row in range(20)
        ]
    )
    return {"extraction_runs": runs, "rejected_reviews": rejected, "drift_metrics": _drift(random)}


def _drift(random: Random) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "run_id": str(number),
                "entity_type": kind,
                "metric": metric,
                "value": random.choice([None, 0.0, 0.25, random.random()]),
                "baseline": random.choice([None, 0.0, 0.5, random.random()]),
                "baseline_runs": random.randrange(15),
                "allowed": random.choice([None, 0.3]),
                "drifted": random.randrange(2),
            }
            for number in range(4)
            for kind in ("all", "brand")
            for metric in ("mean_confidence", "never_seen_share")
        ],
        infer_schema_length=None,
    )


def _models(random: Random) -> dict[str, pl.DataFrame]:
    versions = pl.DataFrame({"version": ["m", "2"], "created_at": datetime(2024, 1, 1, tzinfo=UTC)}).with_columns(
        status=pl.lit("champion"),
        architecture=pl.lit("hybrid"),
        base=pl.lit("default"),
        data_fingerprint=None,
        parent=None,
        uri=pl.lit("x"),
        reason=None,
    )
    evaluations = pl.DataFrame(
        [
            {
                "version": version,
                "dataset": EVALUATED_ON,
                "metric": metric,
                "entity_type": kind,
                "value": random.uniform(0.2, 1),
                "support": None if metric == "strict_f1" else 7,
            }
            for version in "m2"
            for metric in ("strict_f1", "strict_precision", "strict_recall")
            for kind in ("all", "brand", "product", "misc")
        ]
    )
    return {"model_versions": versions, "model_evaluations": evaluations}
