"""Plan a night: read what is new or changed, settle it row by row, and lay out the texts that must be read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from ecner.config import Settings, SourceSettings
from ecner.errors import RunError
from ecner.lake import Lake
from ecner.nightly.buckets import latest, spread
from ecner.nightly.changes import Comparison, Planned
from ecner.nightly.room import check_lake, check_warehouse
from ecner.nightly.runfiles import RunFiles
from ecner.nightly.scope import ReadingModel, Selection
from ecner.nightly.source import Source
from ecner.nightly.stopwatch import Stopwatch
from ecner.nightly.tombstones import FORGOTTEN
from ecner.storage.transaction import Reader
from ecner.storage.warehouse import Warehouse

_REASONS_SHOWN = 5


@dataclass(frozen=True)
class Plan:
    """What plan hands to the other stages: names in the lake, and counts.

    Each row that was looked at counts once in ``reviews_in``: its review is covered, or deleted, or it was rejected.
    """

    run_id: str
    model: ReadingModel
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    shards: tuple[str, ...]
    rejected: tuple[str, ...]
    sketches: tuple[str, ...] = ()
    reviews_in: int = 0
    reviews_rejected: int = 0
    reviews_deleted: int = 0
    texts_unique: int = 0
    texts_inferred: int = 0
    watermark_low: datetime | None = None
    watermark_high: datetime | None = None
    seconds: Mapping[str, float] | None = None  # by step

    @property
    def texts_cached(self) -> int:
        """Texts that this run's fingerprint, or for unchanged reviews an earlier one, had read before."""
        return self.texts_unique - self.texts_inferred


def make_plan(
    settings: Settings,
    source: Source,
    warehouse: Warehouse,
    *,
    run_id: str,
    model: ReadingModel,
    selection: Selection,
    check: Callable[[], None] = lambda: None,
) -> Plan:
    """Reads the source once, in batches, and writes the run's rows, rejections and shards.

    Memory follows the size of a bucket, of which there are more the larger the source is; not the history.

    Args:
        settings: of the run.
        source: what to read.
        warehouse: what has been published.
        run_id: names the run's files.
        model: what will read the texts.
        selection: which reviews to look at.
        check: is called between steps, and raises where the run should not go on.

    Raises:
        RunError: there is too little room, the source or the warehouse failed, or too many rows were rejected.
    """
    files = RunFiles(Lake.open(settings.lake), run_id)
    files.clear()  # of an earlier attempt of this very run
    watch, now = Stopwatch(), datetime.now(UTC)
    with warehouse.connect() as reader:
        low = _watermark(reader, source.name, settings.source) if selection.by_watermark else None
        forgotten = set(reader.read("tombstones", where={"kind": FORGOTTEN}, columns=["hash"])["hash"])
    if low is None:
        check_lake(files.lake, source)
    found = spread(
        source,
        files,
        at_least=settings.run.shards,
        since=None if low is None else low - settings.source.lookback,
        time_zone=settings.source.time_zone,
        forgotten=forgotten,
        watch=watch,
    )
    # a second look at the warehouse: reading a source may take longer than a server lets a transaction idle
    with warehouse.connect() as reader:
        comparison = Comparison(reader, files, settings.run, selection, model, now, watch)
        planned = Planned(rejected_files=found.rejected)
        for bucket in range(found.buckets):
            check()
            planned += comparison.of(bucket)
    _check_rejected(files, planned, settings.run.max_rejected_share)
    check_warehouse(warehouse, planned.changes)
    with watch.on("shards"):
        shards = [files.shard(number) for number in range(settings.run.shards)]
    return Plan(
        run_id=run_id,
        model=model,
        changed=planned.changed,
        removed=planned.removed,
        shards=tuple(shard.name for shard in shards if shard.name),
        rejected=tuple(planned.rejected_files),
        sketches=planned.sketches,
        reviews_in=planned.rows,
        reviews_rejected=planned.rejected,
        reviews_deleted=planned.deleted,
        texts_unique=sum(shard.texts for shard in shards),
        texts_inferred=sum(shard.unread for shard in shards),
        watermark_low=low,
        # never in the future, or one wrong time would hide later rows
        watermark_high=min(found.watermark, now) if found.watermark and selection.by_watermark else None,
        seconds=watch.seconds,
    )


def _watermark(reader: Reader, source: str, settings: SourceSettings) -> datetime | None:
    """The highest watermark that a run over this source, by this column of it, has published."""
    if settings.watermark_column is None:
        return None
    where = {"source": source, "status": "succeeded", "watermark_column": settings.watermark_column}
    runs = reader.read("extraction_runs", where=where, columns=["watermark_high"])
    return latest(runs["watermark_high"].max())


def _check_rejected(files: RunFiles, planned: Planned, most: float) -> None:
    """Ends a night whose source has gone bad; reviews that were forgotten say nothing of it.

    Raises:
        RunError: names the reasons.
    """
    if planned.rejected <= most * (planned.settled + planned.rejected):
        return
    reasons = pl.concat([files.lake.read(name)["reason"].value_counts() for name in planned.rejected_files])
    counts = reasons.group_by("reason").agg(pl.col("count").sum()).filter(pl.col("reason") != FORGOTTEN)
    # over all dates, as those of most rejected rows are not known
    rejected, rows = int(counts["count"].sum()), planned.settled + int(counts["count"].sum())
    if not rejected or rejected / rows <= most:
        return
    first = counts.sort("count", "reason", descending=[True, False]).head(_REASONS_SHOWN)
    told = ", ".join(f"{reason} {count:,}" for reason, count in first.iter_rows())
    raise RunError(
        f"{rejected:,} of {rows:,} rows were rejected ({told}), more than run.max_rejected_share "
        f"allows, {most:g}: nothing was published; mend the source, or raise the setting"
    )
