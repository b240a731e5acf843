"""How fast a warehouse takes and gives rows of mentions: ``python -m tests.storage.bench URL SCHEMA ROWS``."""

import sys
import time
from datetime import date, timedelta

import polars as pl
import psutil

from ecner.schema import TABLES
from ecner.storage.warehouse import Warehouse


def mentions(rows: int) -> pl.DataFrame:
    """Two mentions a review, over thirty days."""
    number = pl.int_range(rows, dtype=pl.Int64)
    day = date(2026, 1, 1) + (number // 2 % 30) * timedelta(days=1)
    return pl.select(
        review_id=pl.lit("r") + (number // 2).cast(pl.String), mention_no=number % 2, review_date=day,
        product_id=pl.lit("p") + (number % 1000).cast(pl.String), entity_type=pl.lit("brand"),
        surface=pl.lit("华为手机"), canonical=pl.lit("名") + (number % 500).cast(pl.String), start_char=number % 50,
        end_char=number % 50 + 4, confidence=1 / (number + 2),
        text_hash=pl.lit("0" * 56) + (number // 2).cast(pl.String),
        model_version=pl.lit("20260101T000000-abcdef"), run_id=pl.lit("20260102T000000-abcdef"),
    )  # fmt: skip


class Timed:
    """Rows a second of a block, printed."""

    def __init__(self, what: str, rows: int) -> None:
        self.what, self.rows = what, rows

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        seconds = time.perf_counter() - self.start
        memory = psutil.Process().memory_info().rss / 2**20
        print(f"{self.what:16} {seconds:7.2f} s {self.rows / seconds:12,.0f} rows/s {memory:8,.0f} MiB", flush=True)


def main(url: str, schema: str, rows: int) -> None:
    frame = mentions(rows)
    ids = frame["review_id"].unique()
    some = ids.gather_every(5)
    warehouse = Warehouse(url, schema or None)
    warehouse.migrate()
    with Timed("validate", rows):
        TABLES["mentions"].validate(frame)
    with Timed("append", rows), warehouse.begin() as transaction:
        transaction.append("mentions", frame)
    with Timed("append_missing", rows), warehouse.begin() as transaction:
        transaction.append_missing("mentions", frame)
    with warehouse.connect() as reader:
        with Timed("lookup 1/5", some.len() * 2):
            assert reader.lookup("mentions", "review_id", some).height == some.len() * 2
        with Timed("pages", rows):
            assert sum(page.height for page in reader.pages("mentions")) == rows
        if hasattr(reader, "stream"):
            with Timed("stream", rows):
                assert sum(page.height for page in reader.stream("mentions", order_by=["review_id"])) == rows
    with Timed("delete 1/5", some.len() * 2), warehouse.begin() as transaction:
        transaction.delete("mentions", "review_id", some)
    with warehouse.begin() as transaction:
        transaction.delete("mentions", "review_id", ids)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
