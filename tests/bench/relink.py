"""Rename a million mentions, and ask every view: one decision, entered as ecner link accept does.

    python -m tests.bench.relink [--mentions 1000000] [--days 60] [--database postgresql]

Fills a warehouse with random mentions, none of whose texts is anywhere, and times the decision on the most frequent
name: over 60 s for all of it is a failure. Then times each view, all of its rows and columns worked out in the
database: over 2 s is a failure.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import date, timedelta

import numpy as np
import polars as pl

from ecner.config import Settings
from ecner.linking.decide import Decision, decide
from ecner.nightly.recompute import recompute
from ecner.storage.query import run_query
from ecner.storage.views import view_names
from ecner.storage.warehouse import Warehouse
from tests.postgresql import running_server

FIRST = date(2026, 1, 5)
_A_REVIEW = 3  # mentions
_TYPES = ("brand", "product", "model_number")
_NAMES = 20_000  # of each type, as frequent as words are


def main() -> None:
    """Fills, decides and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mentions", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        on_server = options.database == "postgresql"
        url = stack.enter_context(running_server()).url() if on_server else f"sqlite:///{folder}/warehouse.db"
        settings = Settings.model_validate({
            "warehouse": {"url": url}, "lake": {"uri": f"{folder}/lake"}, "source": {"uri": "nowhere"},
        })  # fmt: skip
        began = time.perf_counter()
        fill(Warehouse(url), options.mentions, options.days)
        print(
            f"filled with {options.mentions:,} mentions of {options.days} days in {time.perf_counter() - began:.0f} s"
        )
        began = time.perf_counter()
        decided = decide(settings, Decision("accept", "brand", "brand1", "brand2", "bench"))
        seconds = time.perf_counter() - began
        print(f"{decided.to_text()}: {seconds:.1f} s, day copies included")
        times = {view: _seconds(url, view) for view in view_names()}
    print("views, the slowest first:")
    for view, spent in sorted(times.items(), key=lambda item: -item[1]):
        print(f"  {view:<24}{spent:.2f} s")
    sys.exit(seconds > 60 or max(times.values()) > 2)


def _seconds(url: str, view: str) -> float:
    """Of a count of each column: the database has to make all of them, and to send one row."""
    columns = run_query(url, None, f"select * from {view} limit 0").columns  # noqa: S608
    counts = ", ".join(f"count({name}) as {name}" for name in columns)
    began = time.perf_counter()
    run_query(url, None, f"select count(*) as all_rows, {counts} from {view}")  # noqa: S608
    return time.perf_counter() - began


def fill(warehouse: Warehouse, mentions: int, days: int) -> None:
    random, reviews = np.random.default_rng(0), mentions // _A_REVIEW
    texts = random.integers(0, reviews // 2 or 1, reviews)
    coverage = pl.DataFrame({"review": np.arange(reviews), "text": texts}).select(
        review_id=pl.col("review").cast(pl.String),
        product_id=(pl.col("text") % 5_000).cast(pl.String),
        rating=pl.lit(4.0),
        created_at=pl.lit(None, pl.Datetime("us", "UTC")),
        updated_at=pl.lit(None, pl.Datetime("us", "UTC")),
        review_date=pl.lit(FIRST) + pl.duration(days=pl.col("review") % days),
        chars=40,
        chars_read=40,
        windows=1,
        mention_count=_A_REVIEW,
        text_hash=pl.col("text").cast(pl.String).str.zfill(32),
        fingerprint=pl.lit("f"),
        model_version=pl.lit("m"),
        run_id=pl.lit("r"),
    )
    shared = ["review_id", "product_id", "review_date", "text_hash", "model_version", "run_id"]
    warehouse.migrate()
    with warehouse.begin() as transaction:
        transaction.append("review_coverage", coverage)
        for number, kind in enumerate(_TYPES, 1):
            names = pl.Series(np.minimum(random.zipf(1.3, reviews), _NAMES)).cast(pl.String)
            rows = coverage.select(shared).with_columns(
                mention_no=pl.lit(number),
                entity_type=pl.lit(kind),
                surface=pl.lit(kind) + names,
                canonical=pl.lit(kind) + names,
                start_char=4 * number,
                end_char=4 * number + 2,
                confidence=pl.lit(0.9),
            )
            transaction.append("mentions", rows)
        recompute(transaction, {FIRST + timedelta(days=day) for day in range(days)}, [])


if __name__ == "__main__":
    main()
