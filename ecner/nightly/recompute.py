"""Compute what is derived from mentions anew: the days touched, their weeks and months, and how these moved."""

from collections.abc import Iterable, Sequence
from datetime import date

import polars as pl

from ecner.nightly.aggregate import ENTITY, MENTION_COLUMNS, TYPE, PeriodCounts, calendar, whole_reviews
from ecner.nightly.clusters import add_cluster
from ecner.nightly.estimates import corrected_counts, read_quality, restated
from ecner.nightly.lift import lifts
from ecner.nightly.movement import COUNTS, Read, movements
from ecner.nightly.periods import DAY, MONTH, Period, moved_by, periods_of
from ecner.storage.transaction import Reader, Transaction

ALL_VERSIONS = "*"
_DAILY = ("entity_daily", "entity_pairs_daily")
_OF_PERIODS = ("entity_periods", "type_periods", "pair_periods", "period_coverage")
_TEXT = ("model_version", "text_hash", "cluster")


def recompute(transaction: Transaction, days: set[date], evaluated_on: Sequence[str]) -> None:
    """Computes the days' aggregates anew, and marks their copies in the lake; a day without reviews has none.

    Args:
        transaction: holds the mentions and coverage that are to be counted.
        days: those that changed.
        evaluated_on: the labelled data sets whose precision and recall correct the counts, the first that there is.
    """
    changed = pl.Series("review_date", sorted(days), dtype=pl.Date)
    for table in _DAILY:
        transaction.delete(table, "review_date", changed)
    _count(transaction, days, evaluated_on)
    transaction.append_missing("calendar", calendar(changed))
    transaction.append_missing("stale_copies", changed.to_frame())
    bridges = transaction.read("model_bridge")
    for period in sorted(moved_by(days)):
        _move(transaction, period, bridges)


def days_restated(transaction: Transaction, evaluated_on: Sequence[str]) -> set[date]:
    """Days of reviews read by a model that has been evaluated anew: their counts are to be corrected by that."""
    versions = restated(transaction, read_quality(transaction, evaluated_on))
    parts = (transaction.distinct("review_coverage", ["review_date"], where={"model_version": v}) for v in versions)
    return {day for part in parts for day in part["review_date"]}


def _count(transaction: Transaction, days: set[date], evaluated_on: Sequence[str]) -> None:
    """Counts each day of the periods touched once, in order, so that at most one week and one month are held."""
    quality = read_quality(transaction, evaluated_on)
    periods = periods_of(days)
    _clear(transaction, _OF_PERIODS, periods)
    _clear(transaction, ["period_coverage"], (Period(DAY, day) for day in days))
    months = [period.start for period in periods if period.kind == MONTH]
    transaction.delete("product_entities", "month_start", pl.Series(sorted(months), dtype=pl.Date))
    held: dict[Period, tuple[PeriodCounts, list[pl.DataFrame]]] = {}
    read = {period: _days_read(transaction, period) for period in periods}
    for day in sorted({day for found in read.values() for day in found}):
        counts, coverage = _count_day(transaction, day), _coverage(transaction, day)
        if day in days and not counts.is_empty:
            transaction.append("entity_daily", counts.entities().with_columns(review_date=pl.lit(day)))
            transaction.append("entity_pairs_daily", counts.pairs().with_columns(review_date=pl.lit(day)))
        if day in days:
            _append(transaction, "period_coverage", Period(DAY, day), _totals(coverage))
        for period in periods.intersection(Period.of(day)):
            whole, parts = held.setdefault(period, (PeriodCounts(), []))
            whole.absorb(counts)
            parts.append(coverage)
            if day == max(read[period]):
                _write(transaction, period, *held.pop(period), quality)


def _days_read(reader: Reader, period: Period) -> list[date]:
    within = {"review_date": (period.start, period.last)}
    return reader.distinct("review_coverage", ["review_date"], where=within)["review_date"].to_list()


def _count_day(reader: Reader, day: date) -> PeriodCounts:
    counts = PeriodCounts()
    pages = reader.stream("mentions", columns=MENTION_COLUMNS, where={"review_date": day}, order_by=["review_id"])
    for mentions in whole_reviews(pages):
        ratings = reader.lookup("review_coverage", "review_id", mentions["review_id"], columns=["review_id", "rating"])
        counts.add(add_cluster(reader, mentions), ratings)
    return counts


def _coverage(reader: Reader, day: date) -> pl.DataFrame:
    """Reviews of a day by model, text and cluster."""
    pages = reader.stream("review_coverage", columns=["model_version", "text_hash"], where={"review_date": day})
    empty = pl.DataFrame(schema={**dict.fromkeys(_TEXT, pl.String), "review_count": pl.UInt32})
    counted = [add_cluster(reader, page).group_by(_TEXT).agg(review_count=pl.len()) for page in pages]
    return pl.concat([empty, *counted]).group_by(_TEXT).agg(pl.col("review_count").sum())


def _write(
    transaction: Transaction,
    period: Period,
    counts: PeriodCounts,
    coverage: Iterable[pl.DataFrame],
    quality: pl.DataFrame,
) -> None:
    """Writes a period that has been counted to its end."""
    totals = _totals(pl.concat(coverage))
    _append(transaction, "period_coverage", period, totals)
    if counts.is_empty:
        return
    entities = counts.entities()
    for table, counted, key in (("entity_periods", entities, ENTITY), ("type_periods", counts.types(), TYPE)):
        corrected = corrected_counts(counts.by_version(key), quality, key)
        _append(transaction, table, period, counted.join(corrected, on=key))
    if period.kind == MONTH:
        transaction.append("product_entities", counts.of_products().with_columns(month_start=period.start))
    clusters = int(totals.filter(model_version=ALL_VERSIONS)["cluster_count"].item())
    _append(transaction, "pair_periods", period, lifts(counts.pairs(), entities, clusters))


def _totals(coverage: pl.DataFrame) -> pl.DataFrame:
    """What was read by each model, and by all."""
    return pl.concat([_read_of(coverage.with_columns(model_version=pl.lit(ALL_VERSIONS))), _read_of(coverage)])


def _read_of(coverage: pl.DataFrame) -> pl.DataFrame:
    return coverage.group_by("model_version").agg(
        pl.col("review_count").sum().cast(pl.Int64),
        unique_text_count=pl.col("text_hash").n_unique().cast(pl.Int64),
        cluster_count=pl.col("cluster").n_unique().cast(pl.Int64),
    )


def _move(transaction: Transaction, period: Period, bridges: pl.DataFrame) -> None:
    """Compares a period with the one before, where reviews of both were read."""
    _clear(transaction, ["entity_movements"], [period])
    read = (_read(transaction, period), _read(transaction, period.previous))
    if not all(part.clusters for part in read):
        return
    now, before = (_entities(transaction, part) for part in (period, period.previous))
    _append(transaction, "entity_movements", period, movements(now, before, read, bridges))


def _read(reader: Reader, period: Period) -> Read:
    rows = reader.read("period_coverage", where=_where(period), columns=["model_version", "cluster_count"])
    counts = dict(rows.iter_rows())
    return Read(counts.pop(ALL_VERSIONS, 0), counts)


def _entities(reader: Reader, period: Period) -> pl.DataFrame:
    return reader.read("entity_periods", where=_where(period), columns=["entity_type", "canonical", *COUNTS])


def _where(period: Period) -> dict[str, object]:
    return {"period": period.kind, "period_start": period.start}


def _append(transaction: Transaction, table: str, period: Period, rows: pl.DataFrame) -> None:
    where = _where(period)
    transaction.append(table, rows.with_columns(pl.lit(value).alias(name) for name, value in where.items()))


def _clear(transaction: Transaction, tables: Sequence[str], periods: Iterable[Period]) -> None:
    for period in periods:
        for table in tables:
            transaction.delete_all(table, _where(period))
