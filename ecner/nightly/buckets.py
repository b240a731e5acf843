"""Spread a source over buckets of review ids on disk, so that each can be settled in memory on its own."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from ecner.data.hashes import hash_texts
from ecner.nightly.rows import ROWS, TIME, Checked, check
from ecner.nightly.runfiles import RunFiles
from ecner.nightly.source import Source
from ecner.nightly.stopwatch import Stopwatch

HASHED = pl.Schema({**ROWS, "text_hash": pl.String()})
_ROWS_A_BUCKET, _BYTES_A_BUCKET = 50_000, 64_000_000
_BUCKETS_OF_UNKNOWN = 256  # of a source that cannot tell its size, and has filled the buffer
_BYTES_AT_ONCE = 64_000_000  # of rows that are held before they are written
_ROWS_AT_ONCE = 100_000  # of rejections, likewise


@dataclass
class Spread:
    """What was found on the way; ``rejected`` maps files to their numbers of rows."""

    rejected: dict[str, int] = field(default_factory=dict)
    watermark: datetime | None = None
    buckets: int = 0


def _bucket_count(source: Source, at_least: int, *, is_all: bool) -> int:
    """How many buckets keep each of them small; ``is_all``: the source has ended before the buffer was full."""
    if is_all:
        return at_least
    rows, size = source.rows(), source.size()
    if rows is None:
        return max(at_least, _BUCKETS_OF_UNKNOWN)
    return max(at_least, -(-rows // _ROWS_A_BUCKET), -(-(size or 0) // _BYTES_A_BUCKET))


def spread(
    source: Source,
    files: RunFiles,
    *,
    at_least: int,
    since: datetime | None,
    time_zone: str,
    forgotten: Collection[str],
    watch: Stopwatch,
) -> Spread:
    """Checks a source batch by batch and writes its rows, with hashes of their texts, to buckets; and the rejected.

    Args:
        source: what to read.
        files: where to write: pieces of ``rows``, and ``rejected``.
        at_least: number of buckets, of which a large source gets more.
        since: rows before this watermark are left out; those without one are not.
        time_zone: of times without one.
        forgotten: hashes of ids whose rows are rejected, and written nowhere.
        watch: counts ``read``, ``check``, ``hash`` and ``write``.
    """
    found, first_row = Spread(), 0
    rows = _Buffer(files, "rows", lambda is_all: _bucket_count(source, at_least, is_all=is_all))
    rejected = _Rejections(files, found)
    for batch in watch.each("read", source.batches(since)):
        with watch.on("check"):
            checked = _since(check(batch, first_row=first_row, time_zone=time_zone), since)
            checked = _without(checked, forgotten)
        first_row += batch.num_rows
        found.watermark = latest(found.watermark, *(frame["watermark"].max() for frame in checked))
        with watch.on("hash"):
            hashed = checked.rows.with_columns(text_hash=hash_texts(checked.rows["text"]))
        with watch.on("write"):
            rows.add(hashed)
            rejected.add(checked.rejected)
    with watch.on("write"):
        rows.flush(is_all=True)
        rejected.flush()
    found.buckets = rows.buckets
    return found


def latest(*times: Any) -> datetime | None:
    """The last of some times, of which any may be missing."""
    return max((time for time in times if time is not None), default=None)


def _since(checked: Checked, since: datetime | None) -> Checked:
    if since is None:
        return checked
    is_new = pl.col("watermark").is_null() | (pl.col("watermark") >= pl.lit(since, TIME))
    return Checked(*(frame.filter(is_new) for frame in checked))


def _without(checked: Checked, forgotten: Collection[str]) -> Checked:
    """Rejects rows of reviews that were forgotten, without the id, which is not to come back into the tables."""
    if not forgotten:
        return checked
    gone = [hash_texts(frame["review_id"]).is_in(forgotten).fill_null(value=False) for frame in checked]
    kept = [frame.filter(~is_gone) for frame, is_gone in zip(checked, gone, strict=True)]
    told = [
        frame.filter(is_gone).select(
            "source_row",
            review_id=pl.lit(None, pl.String),
            reason=pl.lit("forgotten"),
            detail=pl.lit("this review was removed for good by ecner forget"),
            watermark="watermark",
        )
        for frame, is_gone in zip(checked, gone, strict=True)
    ]
    return Checked(kept[0], pl.concat([kept[1], *told]))


class _Buffer:
    """Rows on their way to the buckets: written when there are many, so that pieces are few."""

    def __init__(self, files: RunFiles, kind: str, count: Callable[[bool], int]) -> None:
        self._files, self._kind, self._count = files, kind, count
        self.buckets = 0
        self._held: list[pl.DataFrame] = []
        self._bytes = self._pieces = 0

    def add(self, rows: pl.DataFrame) -> None:
        self._held.append(rows)
        self._bytes += int(rows.estimated_size())
        if self._bytes >= _BYTES_AT_ONCE:
            self.flush()

    def flush(self, *, is_all: bool = False) -> None:
        self.buckets = self.buckets or self._count(is_all)
        for bucket, part in self._parts():
            self._files.add(self._kind, bucket, self._pieces, part)
        self._held, self._bytes = [], 0
        self._pieces += 1

    def _parts(self) -> Iterator[tuple[int, pl.DataFrame]]:
        numbers = pl.col("review_id").hash(seed=0) % self.buckets
        rows = pl.concat([HASHED.to_frame(), *self._held]).with_columns(bucket=numbers)
        for (bucket,), part in rows.partition_by("bucket", as_dict=True, include_key=False).items():
            yield int(bucket), part


class _Rejections:
    """Rejected rows on their way to the lake."""

    def __init__(self, files: RunFiles, found: Spread) -> None:
        self._files, self._found = files, found
        self._held: list[pl.DataFrame] = []

    def add(self, rejected: pl.DataFrame) -> None:
        self._held.append(rejected)
        if sum(map(len, self._held)) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if any(map(len, self._held)):
            rows = pl.concat(self._held)
            name = self._files.write("rejected", f"{len(self._found.rejected):06d}", rows)
            self._found.rejected[name] = len(rows)
        self._held = []
