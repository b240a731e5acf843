"""Writes the shipped sample's Parquet file, which the nightly job reads, from its labelled JSONL: run after an edit.

python -m tests.sample.build
"""

from pathlib import Path

import polars as pl

from ecner.resources import asset

COLUMNS = {
    "review_id": pl.String,
    "product_id": pl.String,
    "rating": pl.Int8,
    "text": pl.String,
    "created_at": pl.Datetime("us", "UTC"),
    "updated_at": pl.Datetime("us", "UTC"),
}


def sample_frame(labelled: Path) -> pl.DataFrame:
    """The sample's reviews as a source would give them, without labels."""
    rows = pl.read_ndjson(labelled).with_columns(
        created_at=pl.col("created_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    )
    return rows.with_columns(updated_at="created_at").select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())


if __name__ == "__main__":
    sample_frame(asset("sample/reviews.jsonl")).write_parquet(asset("sample/reviews.parquet"))
