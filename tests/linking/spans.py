"""Random cached spans, by two models, of texts with and without reviews."""

from datetime import date
from random import Random

import polars as pl

from ecner.config import ModelSettings
from ecner.nightly.names import Lexicon
from ecner.nightly.recompute import recompute
from ecner.nightly.rules import Rules

NAMES = ["联想", "lenovo", "Lenove", "小米", "xiaomi", "华为"]


def publish_spans(warehouse, seed, texts=60):
    """Fills text_spans and review_coverage; returns the reviews."""
    random = Random(seed)  # noqa: S311
    hashes = sorted(f"{random.getrandbits(128):032x}" for _ in range(texts))
    spans = [
        {
            "fingerprint": fingerprint, "text_hash": text, "span_no": number, "label": random.choice(["HPPX", "XH"]),
            "start_char": 4 * number, "end_char": 4 * number + 3, "confidence": 0.9, "surface": random.choice(NAMES),
            "left_context": random.choice(["买了", "新的"]), "right_context": random.choice(["很好", "手机"]),
        }
        for text in hashes
        for fingerprint in ("former", "now")
        for number in range(random.randint(0, 4))
    ]  # fmt: skip
    reviews = pl.DataFrame({"text_hash": hashes[: texts - 9]}).with_columns(
        review_id="text_hash",
        fingerprint=pl.lit("now"),
        model_version=pl.lit("m"),
        run_id=pl.lit("r"),
        review_date=date(2026, 11, 1),
        chars=20,
        chars_read=20,
        windows=1,
        mention_count=1,
        **dict.fromkeys(("product_id", "rating", "created_at", "updated_at")),
    )
    with warehouse.begin() as transaction:
        transaction.append("text_spans", pl.DataFrame(spans))
        transaction.append("review_coverage", reviews)
    return reviews


def publish_mentions(warehouse):
    """The mentions that the spans of the reviews' present readings make, and what is computed from them."""
    rules = Rules(ModelSettings(), Lexicon({}))
    with warehouse.begin() as transaction:
        reviews, spans = transaction.read("review_coverage"), transaction.read("text_spans")
        transaction.append("mentions", rules.mentions(reviews, spans).with_columns(run_id=pl.lit("r")))
        recompute(transaction, {*reviews["review_date"]}, [])
