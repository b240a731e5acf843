"""Random contents of a warehouse, small but with what the views must tell apart."""

from datetime import UTC, date, datetime, timedelta
from random import Random

import polars as pl

from ecner.nightly.aggregate import MENTION_COLUMNS, DailyCounts

FIRST, DAYS = date(2024, 1, 25), 45
SILENT_WEEK = date(2024, 2, 12)
NAMES = {
    "brand": ["华为", "小米", "apple", "Ａ"],
    "product": ["手机", "面霜"],
    "model_number": ["p40", "x1"],
    "misc": ["七夕"],
}


def night(seed: int) -> dict[str, pl.DataFrame]:
    """A frame for each table that the views read."""
    random = Random(seed)  # noqa: S311
    reviews = [_review(random, number) for number in range(300)]
    mentions = [mention for review in reviews for mention in _mentions(random, review)]
    counts = {review["review_id"]: 0 for review in reviews}
    for mention in mentions:
        counts[mention["review_id"]] += 1
    covered = pl.DataFrame(
        [{**review, "mention_count": counts[review["review_id"]]} for review in reviews], infer_schema_length=None
    )
    mentioned = pl.DataFrame(mentions, infer_schema_length=None)
    counted = DailyCounts()
    counted.add(mentioned.select(MENTION_COLUMNS), covered)
    return {
        "calendar": calendar(),
        "review_coverage": covered,
        "mentions": mentioned,
        "entity_daily": counted.entity_daily(),
        "entity_pairs_daily": _pairs(random),
        **_runs(random),
        **_models(random),
    }


def calendar() -> pl.DataFrame:
    days = pl.date_range(FIRST, FIRST + timedelta(days=DAYS - 1), eager=True)
    return pl.DataFrame({"date": days, "week_start": days.dt.truncate("1w"), "month_start": days.dt.truncate("1mo")})


def _review(random: Random, number: int) -> dict[str, object]:
    day = FIRST + timedelta(days=random.randrange(DAYS))
    if SILENT_WEEK <= day < SILENT_WEEK + timedelta(days=7):
        day = FIRST
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
        "text_hash": str(random.randrange(6)),
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
            "surface": "x",
            "canonical": random.choice(NAMES[kind]),
            "start_char": 0,
            "end_char": 1,
            "confidence": 0.5,
            "run_id": "r",
        }
        for number, kind in enumerate(kinds)
    ]


def _pairs(random: Random) -> pl.DataFrame:
    keys = {
        (
            FIRST + timedelta(days=random.randrange(DAYS)),
            random.choice(NAMES["brand"]),
            kind,
            random.choice(NAMES[kind]),
        )
        for kind in random.choices(["product", "model_number"], k=60)
    }
    return pl.DataFrame(
        [
            {
                "review_date": day,
                "left_type": "brand",
                "left_name": brand,
                "right_type": kind,
                "right_name": name,
                "review_count": random.randrange(1, 9),
            }
            for day, brand, kind, name in sorted(keys)
        ]
    )


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
    versions = pl.DataFrame({"version": ["1", "2"], "created_at": datetime(2024, 1, 1, tzinfo=UTC)}).with_columns(
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
                "dataset": "dev",
                "metric": metric,
                "entity_type": kind,
                "value": random.random(),
                "support": random.choice([None, 7]),
            }
            for version in "12"
            for metric in ("strict_f1", "strict_recall")
            for kind in ("all", "brand")
        ]
    )
    return {"model_versions": versions, "model_evaluations": evaluations}
