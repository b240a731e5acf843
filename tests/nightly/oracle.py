"""What the tables must hold, worked out in plain Python from the reviews and the model's mentions in each text."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint
from ecner.schema import TABLES

LABELS = {"HCCX": "product", "HPPX": "brand", "XH": "model_number", "MISC": "misc"}
Row = dict[str, Any]
Found = Mapping[str, Sequence[tuple[str, int, int, float]]]  # text to (label, start, end, confidence)


def read_texts(model: Path, texts: Iterable[str]) -> Found:
    """Each text read on its own."""
    reader = Reader(Checkpoint.load(model), device="cpu")
    found = {}
    for text in set(texts):
        r = reader.read([text])
        spans = zip(r.label.tolist(), r.start.tolist(), r.end.tolist(), r.confidence.tolist(), strict=True)
        found[text] = [(reader.tag_set.labels[label], start, end, share) for label, start, end, share in spans]
    return found


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def expected_tables(
    reviews: Sequence[Row],
    found: Found,
    canonical: Callable[[str, str], str],
    *,
    labels: Mapping[str, str] = LABELS,
    floors: Mapping[str, float] = {},
    zone: str = "UTC",
) -> dict[str, pl.DataFrame]:
    """The published tables but for model_version, fingerprint and run_id."""
    mentions, coverage = [], []
    for review in reviews:
        day = review["created_at"].astimezone(ZoneInfo(zone)).date()
        shared = {"review_id": review["review_id"], "product_id": review["product_id"], "review_date": day}
        spans = [
            (labels.get(label, label), *rest)
            for label, *rest in found[review["text"]]
            if rest[-1] >= floors.get(labels.get(label, label), 0)
        ]
        for number, (kind, start, end, confidence) in enumerate(spans, 1):
            surface = review["text"][start:end]
            mentions.append({
                **shared, "mention_no": number, "entity_type": kind, "surface": surface,
                "canonical": canonical(kind, surface), "start_char": start, "end_char": end,
                "confidence": confidence, "text_hash": hashed(review["text"]),
            })  # fmt: skip
        coverage.append({
            **shared, "rating": review["rating"], "created_at": review["created_at"],
            "updated_at": review["updated_at"], "chars": len(review["text"]), "chars_read": len(review["text"]),
            "mention_count": len(spans), "text_hash": hashed(review["text"]),
        })  # fmt: skip
    tables = {
        "mentions": mentions,
        "review_coverage": coverage,
        "entity_daily": _entities(mentions, {review["review_id"]: review["rating"] for review in reviews}),
        "entity_pairs_daily": _pairs(mentions),
        "calendar": _calendar({row["review_date"] for row in coverage}),
    }
    return {name: _frame(name, rows) for name, rows in tables.items()}


def _entities(mentions: Sequence[Row], ratings: Mapping[str, float | None]) -> list[Row]:
    groups = defaultdict(list)
    for mention in mentions:
        groups[mention["review_date"], mention["entity_type"], mention["canonical"]].append(mention)
    rows = []
    for (day, kind, name), group in groups.items():
        reviews = {mention["review_id"] for mention in group}
        rated = [ratings[review] for review in reviews if ratings[review] is not None]
        rows.append({
            "review_date": day, "entity_type": kind, "canonical": name, "mention_count": len(group),
            "review_count": len(reviews), "unique_text_count": len({mention["text_hash"] for mention in group}),
            "product_count": len({mention["product_id"] for mention in group} - {None}),
            "mean_confidence": fmean(mention["confidence"] for mention in group),
            "mean_rating": fmean(rated) if rated else None, "first_review_id": min(reviews, key=str.encode),
        })  # fmt: skip
    return rows


def _pairs(mentions: Sequence[Row]) -> list[Row]:
    names = defaultdict(set)
    for mention in mentions:
        names[mention["review_date"], mention["review_id"], mention["entity_type"]].add(mention["canonical"])
    counts: dict[tuple[Any, ...], int] = defaultdict(int)
    for day, review, kind in list(names):
        if kind == "brand":
            for right in ("product", "model_number"):
                for pair in product(names[day, review, kind], names.get((day, review, right), ())):
                    counts[day, kind, pair[0], right, pair[1]] += 1
    columns = ("review_date", "left_type", "left_name", "right_type", "right_name")
    return [{**dict(zip(columns, key, strict=True)), "review_count": count} for key, count in counts.items()]


def _calendar(days: Iterable[date]) -> list[Row]:
    around = {day + timedelta(days=offset) for day in days for offset in range(-7, 8)}
    return [
        {"date": day, "week_start": day - timedelta(days=day.weekday()), "month_start": day.replace(day=1)}
        for day in around
    ]


def _frame(name: str, rows: Sequence[Row]) -> pl.DataFrame:
    schema = {column: dtype for column, dtype in TABLES[name].polars_schema.items() if not rows or column in rows[0]}
    return pl.DataFrame(rows, schema=schema, orient="row").sort(TABLES[name].key)
