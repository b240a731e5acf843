"""Plan a night: read what is new or changed, settle it row by row, and lay out the texts that must be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from ecner.config import RunSettings, Settings, SourceSettings
from ecner.data.hashes import text_hash
from ecner.nightly import lake
from ecner.nightly.rows import REJECTED, ROWS, TIME, check, local_date
from ecner.nightly.source import ParquetSource
from ecner.storage.transaction import Reader
from ecner.storage.warehouse import Warehouse

# What a changed review's row holds when it goes to publish: the coverage row's own facts.
CHANGED = pl.Schema(
    {
        "review_id": pl.String(),
        "product_id": pl.String(),
        "rating": pl.Float64(),
        "created_at": TIME,
        "updated_at": TIME,
        "review_date": pl.Date(),
        "text_hash": pl.String(),
        "fingerprint": pl.String(),
        "model_version": pl.String(),
        "former_date": pl.Date(),
    }
)
_FACTS = ("text_hash", "product_id", "rating", "created_at", "updated_at", "review_date")


@dataclass(frozen=True)
class Selection:
    """Which reviews a run looks at: all that are new by the watermark, or those of some dates, or everything anew."""

    first: date | None = None
    last: date | None = None
    full: bool = False

    @property
    def by_watermark(self) -> bool:
        """Whether the run reads from the watermark on, and moves it."""
        return self.first is None and self.last is None and not self.full


@dataclass(frozen=True)
class ReadingModel:
    """The model that a run was pinned to when it started."""

    version: str
    folder: str
    fingerprint: str


@dataclass(frozen=True)
class Plan:
    """What plan hands to the other stages: paths and counts."""

    run_id: str
    model: ReadingModel
    changed: tuple[str, ...]
    shards: tuple[str, ...]
    rejected: tuple[str, ...]
    reviews_in: int = 0
    reviews_rejected: int = 0
    texts_unique: int = 0
    texts_inferred: int = 0
    watermark_low: datetime | None = None
    watermark_high: datetime | None = None

    @property
    def texts_cached(self) -> int:
        """Texts that this run's fingerprint, or for unchanged reviews an earlier one, had read before."""
        return self.texts_unique - self.texts_inferred


@dataclass
class _Tally:
    """Counts that grow while a plan is made."""

    accepted: int = 0
    rejected: int = 0
    watermark: datetime | None = None


@dataclass(frozen=True)
class _Night:
    """What every step of one plan needs."""

    run_id: str
    model: ReadingModel
    selection: Selection
    files: lake.RunFiles
    settings: RunSettings
    now: datetime
    tally: _Tally


def make_plan(
    settings: Settings,
    source: ParquetSource,
    warehouse: Warehouse,
    *,
    run_id: str,
    model: ReadingModel,
    selection: Selection,
) -> Plan:
    """Reads the source once, in batches, and writes the run's rows, rejections and shards.

    Memory follows the size of a bucket (the source's rows over run.shards), not that of the source or the history.

    Raises:
        RunError: the source or the warehouse failed on the way.
    """
    files = lake.Lake(Path(settings.lake.uri)).run(run_id)
    night = _Night(run_id, model, selection, files, settings.run, datetime.now(UTC), _Tally())
    has_watermark = settings.source.watermark_column is not None
    with warehouse.connect() as reader:
        low = _watermark(reader, source.name, settings.source) if has_watermark and selection.by_watermark else None
        rejected = list(_spread(night, settings, source, low))
        changed = []
        for bucket in range(settings.run.shards):
            rows, repeated = _settle(night, bucket)
            rejected.append(lake.write(files.whole("rejected", f"repeated-{bucket:04d}"), repeated))
            changed.append(lake.write(files.whole("changed", f"{bucket:04d}"), _compare(night, reader, rows, bucket)))
    shards = list(_shards(night))
    tally = night.tally
    return Plan(
        run_id=run_id,
        model=model,
        changed=tuple(map(str, changed)),
        shards=tuple(str(path) for path, _, _ in shards if path),
        rejected=tuple(map(str, rejected)),
        reviews_in=tally.accepted + tally.rejected,
        reviews_rejected=tally.rejected,
        texts_unique=sum(unique for _, unique, _ in shards),
        texts_inferred=sum(unread for _, _, unread in shards),
        watermark_low=low,
        watermark_high=_high(night) if selection.by_watermark else None,
    )


def _watermark(reader: Reader, source: str, settings: SourceSettings) -> datetime | None:
    """The highest watermark that a run over this source, by this column of it, has published."""
    where = {"source": source, "status": "succeeded", "watermark_column": settings.watermark_column}
    runs = reader.read("extraction_runs", where=where, columns=["watermark_high"])
    return _latest(runs["watermark_high"].max())


def _high(night: _Night) -> datetime | None:
    """The watermark that this run has reached; never in the future, or one wrong time would hide later rows."""
    return None if night.tally.watermark is None else min(night.tally.watermark, night.now)


def _latest(*times: Any) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


def _spread(night: _Night, settings: Settings, source: ParquetSource, low: datetime | None) -> Iterator[Path]:
    """Checks the source batch by batch and spreads its rows over buckets; yields the files of rejected rows."""
    since = None if low is None else low - settings.source.lookback
    first_row = 0
    for number, batch in enumerate(source.batches()):
        checked = check(batch, first_row=first_row, time_zone=settings.source.time_zone)
        first_row += batch.num_rows
        rows, rejected = _since(checked.rows, since), _since(checked.rejected, since)
        night.tally.watermark = _latest(night.tally.watermark, rows["watermark"].max(), rejected["watermark"].max())
        night.tally.rejected += len(rejected)
        hashed = rows.with_columns(
            text_hash=hash_texts(rows["text"]),
            bucket=pl.col("review_id").hash(seed=0) % night.settings.shards,
        )
        for (bucket,), part in hashed.partition_by("bucket", as_dict=True, include_key=False).items():
            lake.write(night.files.piece("rows", int(bucket), f"{number:06d}"), part)
        if not rejected.is_empty():
            yield lake.write(night.files.whole("rejected", f"{number:06d}"), rejected)


def _since(rows: pl.DataFrame, since: datetime | None) -> pl.DataFrame:
    """Rows from the watermark on; those without one are read every night."""
    if since is None:
        return rows
    return rows.filter(pl.col("watermark").is_null() | (pl.col("watermark") >= pl.lit(since, TIME)))


def hash_texts(texts: pl.Series) -> pl.Series:
    """Identity of each text; equal texts are hashed once."""
    distinct = texts.unique()
    hashes = pl.Series(list(map(text_hash, distinct.to_list())), dtype=pl.String)
    return texts.replace_strict(distinct, hashes, return_dtype=pl.String)


def _settle(night: _Night, bucket: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row an id: the newest updated_at, then the last in the source; the others are rejected."""
    pieces = [lake.read(path) for path in night.files.pieces("rows", bucket)]
    schema = pl.Schema({**ROWS, "text_hash": pl.String()})
    rows = pl.concat(pieces) if pieces else pl.DataFrame(schema=schema)
    ordered = rows.sort("updated_at", "source_row", nulls_last=False)
    wins = pl.col("review_id").is_last_distinct()
    repeated = ordered.filter(~wins).select(
        "source_row",
        "review_id",
        reason=pl.lit("repeated_id"),
        detail=pl.lit("another row of this id is newer, or as new and later in the source"),
        watermark="watermark",
    )
    night.tally.rejected += len(repeated)
    return ordered.filter(wins).sort("source_row"), repeated.cast(REJECTED).sort("source_row")


def _compare(night: _Night, reader: Reader, rows: pl.DataFrame, bucket: int) -> pl.DataFrame:
    """The rows that change something published (schema CHANGED); writes the texts that they need."""
    known = reader.lookup(
        "review_coverage",
        "review_id",
        rows["review_id"],
        columns=["review_id", *_FACTS, "fingerprint", "model_version"],
    )
    dated = rows.join(known, on="review_id", how="left", suffix="_known", maintain_order="left").with_columns(
        review_date=pl.coalesce(
            local_date(pl.col("created_at"), night.settings.time_zone),
            "partition_date",
            "review_date",
            pl.lit(night.now.astimezone(ZoneInfo(night.settings.time_zone)).date()),
        ),
        review_date_known="review_date",
    )
    chosen = dated.filter(_is_selected(night.selection))
    night.tally.accepted += len(chosen)
    is_new = pl.col("text_hash_known").is_null()
    same_text = (pl.col("text_hash") == pl.col("text_hash_known")).fill_null(value=False)
    stale = pl.lit(night.selection.full) & (pl.col("fingerprint") != night.model.fingerprint)
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_known")) for name in _FACTS)
    # as within a night, a row without updated_at is the oldest
    older = (pl.col("updated_at") < pl.col("updated_at_known")).fill_null(pl.col("updated_at_known").is_not_null())
    keeps = same_text & ~stale
    changed = chosen.filter(~older & (is_new | differs | stale)).with_columns(
        fingerprint=pl.when(keeps).then("fingerprint").otherwise(pl.lit(night.model.fingerprint)),
        model_version=pl.when(keeps).then("model_version").otherwise(pl.lit(night.model.version)),
        former_date="review_date_known",
    )
    _write_texts(night, reader, chosen, changed, bucket)
    return changed.select(pl.col(name).cast(dtype) for name, dtype in CHANGED.items())


def _is_selected(selection: Selection) -> pl.Expr:
    day = pl.col("review_date")
    after = day >= selection.first if selection.first else pl.lit(value=True)
    before = day <= selection.last if selection.last else pl.lit(value=True)
    return after & before


def _write_texts(night: _Night, reader: Reader, chosen: pl.DataFrame, changed: pl.DataFrame, bucket: int) -> None:
    """Spreads a bucket's texts over shards: each hash, with the text where this run's fingerprint must read it."""
    needed = (
        changed.filter(pl.col("fingerprint") == night.model.fingerprint).select("text_hash", "text").unique("text_hash")
    )
    where = {"fingerprint": night.model.fingerprint}
    known = reader.lookup("text_readings", "text_hash", needed["text_hash"], columns=["text_hash"], where=where)
    unread = needed.join(known, on="text_hash", how="anti")
    texts = chosen.select(pl.col("text_hash").unique()).join(unread, on="text_hash", how="left")
    shard = pl.col("text_hash").str.slice(0, 8).str.to_integer(base=16) % night.settings.shards
    for (number,), part in (
        texts.with_columns(shard=shard).partition_by("shard", as_dict=True, include_key=False).items()
    ):
        lake.write(night.files.piece("texts", int(number), f"{bucket:04d}"), part)


def _shards(night: _Night) -> Iterator[tuple[Path | None, int, int]]:
    """Each shard's file, where it has texts to read, by hash; how many texts it knows, and how many it reads."""
    for shard in range(night.settings.shards):
        pieces = [lake.read(path) for path in night.files.pieces("texts", shard)]
        if pieces:
            texts = pl.concat(pieces).group_by("text_hash").agg(pl.col("text").drop_nulls().first()).sort("text_hash")
            unread = texts.drop_nulls()
            path = lake.write(night.files.whole("shards", f"{shard:04d}"), unread) if len(unread) else None
            yield path, len(texts), len(unread)
