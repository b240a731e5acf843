"""The overlap sample: recent reviews that two models read, so that what they find can be compared."""

from collections.abc import Collection, Iterator
from datetime import date
from itertools import chain

import polars as pl

from ecner.config import Settings
from ecner.data.hashes import hash_texts
from ecner.nightly.rows import TIME, check, local_date
from ecner.nightly.source import Source, open_source
from ecner.nightly.tombstones import FORGOTTEN, buried

_ROWS = pl.Schema(
    {
        "review_id": pl.String(),
        "text": pl.String(),
        "review_date": pl.Date(),
        "updated_at": TIME,
        "source_row": pl.Int64(),
        "deleted": pl.Boolean(),
    }
)


def recent_reviews(settings: Settings, count: int) -> pl.DataFrame:
    """The most recent reviews of the source: review_id, text, review_date (null where the source has none).

    Newest first, those without a date last, within a day by a hash of the id: the same source gives the same sample,
    whatever the order of its rows. Of rows that share an id one counts, as in a night, and none where that one says
    that the review was deleted; forgotten ones are passed over. The source is read twice, or a few times more where
    such rows are of different days, or many were deleted; memory follows ``count``, and the deleted ones of its days.

    Raises:
        UsageError, DataError, RunError: the source cannot be opened, or read to its end.
    """
    source, forgotten = open_source(settings.source), buried(settings.warehouse_at, FORGOTTEN)
    settled, candidates = pl.DataFrame(schema=_ROWS), count
    while True:
        unsettled = (rows.join(settled, on="review_id", how="anti") for rows in _rows(settings, source, forgotten))
        leading = _leading(chain([settled.filter(~pl.col("deleted"))], unsettled), candidates)
        fresh = leading.join(settled, on="review_id", how="anti")
        settled = pl.concat([settled, _settled(_rows(settings, source, forgotten), fresh)])
        leading, candidates = leading.head(count), 2 * candidates
        by = ["review_id", "review_date"]  # a review whose row that counts is of an earlier day has to find its place
        there = settled.filter(~pl.col("deleted"))
        sample = leading.join(there, on=by, nulls_equal=True, maintain_order="left")
        if len(sample) == len(leading):
            return sample.select("review_id", "text", "review_date")


def _rows(settings: Settings, source: Source, forgotten: Collection[str]) -> Iterator[pl.DataFrame]:
    """The source's rows that the night's rules let pass (schema _ROWS), batch by batch, but for forgotten reviews."""
    first_row = 0
    for batch in source.batches():
        rows = check(batch, first_row=first_row, time_zone=settings.source.time_zone).rows
        first_row += batch.num_rows
        day = pl.coalesce(local_date(pl.col("created_at"), settings.run.time_zone), "partition_date")
        known = rows.with_columns(review_date=day).select(_ROWS.names())
        yield known.filter(~hash_texts(known["review_id"]).is_in(forgotten)) if forgotten else known


def _leading(batches: Iterator[pl.DataFrame], count: int) -> pl.DataFrame:
    """The first ``count`` review_ids in the sample's order, each by the newest review_date of its rows."""
    best = pl.DataFrame(schema={"review_id": pl.String(), "review_date": pl.Date()})
    for batch in batches:
        both = pl.concat([best, batch.select(best.columns)])
        newest = both.group_by("review_id").agg(pl.col("review_date").max())
        place = pl.col("review_date").fill_null(date.min).rank("min", descending=True)
        near = newest.filter(place <= count)  # hashing is slow: only what may get in
        tied = near.with_columns(tie=hash_texts(near["review_id"]))
        order = tied.sort("review_date", "tie", descending=[True, False], nulls_last=True)
        best = order.head(count).drop("tie")
    return best


def _settled(batches: Iterator[pl.DataFrame], wanted: pl.DataFrame) -> pl.DataFrame:
    """The row that counts of each wanted review_id: the newest updated_at, then the last in the source."""
    found = pl.DataFrame(schema=_ROWS)
    for batch in batches:
        both = pl.concat([found, batch.join(wanted, on="review_id", how="semi")])
        ordered = both.sort("updated_at", "source_row", nulls_last=False)
        found = ordered.unique("review_id", keep="last", maintain_order=True)
    return found
