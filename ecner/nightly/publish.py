"""Publish a night in one transaction: readings into the cache, mentions of the changed reviews, the days touched."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime

import polars as pl

from ecner.config import DriftSettings
from ecner.data.hashes import hash_texts
from ecner.errors import RunError
from ecner.lake import Lake
from ecner.nightly.clusters import add_texts, remove_orphans
from ecner.nightly.decisions import read_links
from ecner.nightly.drift import Sample, drift_metrics
from ecner.nightly.extract import READINGS, SPAN
from ecner.nightly.plan import Plan
from ecner.nightly.recompute import days_restated, recompute
from ecner.nightly.rules import Rules
from ecner.nightly.tombstones import DELETED, bury, lift
from ecner.schema import TABLES
from ecner.storage.lease import Lease
from ecner.storage.transaction import Reader, Transaction
from ecner.storage.warehouse import Warehouse

_REVIEWS_AT_ONCE = 20_000


def publish(
    warehouse: Warehouse,
    lake: Lake,
    plan: Plan,
    readings: Sequence[str],
    *,
    rules: Rules,
    drift: DriftSettings,
    lease: Lease,
) -> None:
    """Writes all that a run found, closes it in the ledger and moves the watermark, or changes no table.

    Raises:
        LeaseError: another run has taken over; nothing of this one is in the warehouse.
        RunError: the warehouse refused; likewise.
    """
    with warehouse.begin() as transaction, lease.held(transaction):
        if _is_published(transaction, plan.run_id):
            return
        for name in readings:
            _cache(transaction, lake.read(name), plan.model.fingerprint)
        anew = rules_changed(transaction, rules)
        rules = rules.linked(read_links(transaction))
        sample, mentions = Sample(), 0
        former = _former_texts(transaction, lake, plan)
        days = _remove(transaction, map(lake.read, plan.removed))
        for reviews in _slices(map(lake.read, plan.changed)):
            coverage, found = _replace(transaction, reviews, plan.run_id, rules)
            new = coverage.filter(pl.col("former_date").is_null())
            sample.add(new, found.join(new, on="review_id", how="semi"))
            mentions += len(found)
            days |= _days(reviews)
        for reviews in _history(transaction, plan.run_id) if anew else ():
            mentions += len(_replace(transaction, reviews, plan.run_id, rules)[1])
            days |= _days(reviews)
        days |= remove_orphans(transaction, former)
        for name in plan.sketches:
            days |= add_texts(transaction, lake.read(name))
        # before the days are computed anew, while they hold what earlier runs have seen
        figures = drift_metrics(transaction, plan.run_id, sample, drift, names_changed=anew)
        transaction.append("drift_metrics", figures)
        days |= days_restated(transaction, rules.model.evaluated_on)
        recompute(transaction, days, rules.model.evaluated_on)
        _close(transaction, lake, plan, rules, mentions)


def _is_published(transaction: Transaction, run_id: str) -> bool:
    """Whether an attempt of this run was committed though it never heard so; holds the run's row until the end.

    Raises:
        RunError: another run has closed this one.
    """
    if transaction.update("extraction_runs", {"run_id": run_id, "status": "running"}, {"status": "running"}):
        return False
    status = transaction.read("extraction_runs", where={"run_id": run_id}, columns=["status"])["status"].to_list()
    if status == ["succeeded"]:
        return True
    raise RunError(f"run {run_id} was closed as abandoned when another run began: let one end before the next")


def _cache(transaction: Transaction, readings: pl.DataFrame, fingerprint: str) -> None:
    """Puts a shard's readings (schema READINGS) into text_readings and text_spans."""
    # those that an earlier version left for this run to take up may lack columns
    no_readings, no_spans = READINGS.to_frame().drop("spans"), SPAN.to_schema()
    named = readings.with_columns(fingerprint=pl.lit(fingerprint))
    spans = (
        named.filter(pl.col("spans").list.len() > 0)
        .select("fingerprint", "text_hash", "spans")
        .explode("spans")
        .unnest("spans")
        .with_columns(span_no=pl.int_range(1, pl.len() + 1).over("text_hash"))
    )
    transaction.append_missing("text_readings", pl.concat([no_readings, named.drop("spans")], how="diagonal"))
    transaction.append_missing("text_spans", pl.concat([pl.DataFrame(schema=no_spans), spans], how="diagonal"))


def _former_texts(reader: Reader, lake: Lake, plan: Plan) -> pl.Series:
    """Texts, by their hashes, of the reviews that the night changes or removes, as the tables have them."""
    found = [pl.Series("text_hash", [], pl.String)]
    for reviews in _slices(map(lake.read, (*plan.removed, *plan.changed))):
        ids = reviews.filter(pl.col("former_date").is_not_null())["review_id"]
        found.append(reader.lookup("review_coverage", "review_id", ids, columns=["text_hash"])["text_hash"])
    return pl.concat(found).unique()


def _slices(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    for frame in frames:
        yield from frame.iter_slices(_REVIEWS_AT_ONCE)


def _history(transaction: Transaction, run_id: str) -> Iterator[pl.DataFrame]:
    """All reviews that earlier runs published and this one has left as they are."""
    for page in transaction.pages("review_coverage", size=_REVIEWS_AT_ONCE):
        yield page.filter(pl.col("run_id") != run_id).with_columns(former_date="review_date")


def _days(reviews: pl.DataFrame) -> set[date]:
    """The days that reviews are of, and those that they were of."""
    return {*reviews["review_date"], *reviews["former_date"].drop_nulls()}


def rules_changed(reader: Reader, rules: Rules) -> bool:
    """Whether the tables stand under other rules; the ledger names theirs in one row."""
    runs = reader.read("extraction_runs", where={"status": "succeeded"}, columns=["publish_hash"])
    return not runs.is_empty() and rules.digest not in runs["publish_hash"]


def _remove(transaction: Transaction, removed: Iterable[pl.DataFrame]) -> set[date]:
    """Takes out reviews that the source has deleted, with a tombstone each; returns the days that they were of."""
    days, now = set[date](), datetime.now(UTC)
    for reviews in _slices(removed):
        take_out(transaction, reviews.filter(pl.col("former_date").is_not_null())["review_id"])
        bury(transaction, DELETED, hash_texts(reviews["review_id"]), now, reviews["updated_at"])
        days |= {*reviews["former_date"].drop_nulls()}
    return days


def take_out(transaction: Transaction, ids: pl.Series) -> None:
    """Removes what is published of some reviews."""
    for table in ("mentions", "review_coverage"):
        transaction.delete(table, "review_id", ids)


def _replace(
    transaction: Transaction, reviews: pl.DataFrame, run_id: str, rules: Rules
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Writes coverage and mentions of some reviews in the place of what was there of them, and returns both."""
    spans, read = _lookup(transaction, reviews, "text_spans"), _lookup(transaction, reviews, "text_readings")
    mentions = rules.mentions(reviews, spans).with_columns(run_id=pl.lit(run_id))
    counts = mentions.group_by("review_id").agg(mention_count=pl.len())
    coverage = (
        reviews.drop("chars", "chars_read", "windows", "mention_count", strict=False)
        .join(read, on=["fingerprint", "text_hash"])
        .join(counts, on="review_id", how="left")
        .with_columns(pl.col("mention_count").fill_null(0), run_id=pl.lit(run_id))
    )
    if len(coverage) != len(reviews):
        raise RunError(
            f"{len(reviews) - len(coverage)} review(s) of run {run_id} have texts that were not read: run again"
        )
    take_out(transaction, reviews.filter(pl.col("former_date").is_not_null())["review_id"])
    if "returns" in reviews.columns:
        lift(transaction, DELETED, hash_texts(reviews.filter("returns")["review_id"]))
    transaction.append("mentions", mentions)
    transaction.append("review_coverage", coverage)
    return coverage, mentions


def _lookup(transaction: Transaction, reviews: pl.DataFrame, table: str) -> pl.DataFrame:
    """Cached rows of the reviews' texts, each as read by the fingerprint that the review stands under."""
    found = [
        transaction.lookup(table, "text_hash", part["text_hash"], where={"fingerprint": fingerprint})
        for (fingerprint,), part in reviews.partition_by("fingerprint", as_dict=True).items()
    ]
    return pl.concat(found) if found else TABLES[table].polars_schema.to_frame()


def _close(transaction: Transaction, lake: Lake, plan: Plan, rules: Rules, mentions: int) -> None:
    """Writes the rejections and ends the run in the ledger; its row alone then names the rules of the tables."""
    for name in plan.rejected:
        transaction.append("rejected_reviews", lake.read(name).with_columns(run_id=pl.lit(plan.run_id)))
    closed = {
        "status": "succeeded",
        "finished_at": datetime.now(UTC),
        "mentions_out": mentions,
        "publish_hash": rules.digest,
    } | counts(plan)
    transaction.update("extraction_runs", {}, {"publish_hash": None})
    transaction.update("extraction_runs", {"run_id": plan.run_id}, closed)


def counts(plan: Plan) -> dict[str, object]:
    """What a plan knows of its run, as columns of extraction_runs."""
    names = (
        "reviews_in", "reviews_rejected", "reviews_deleted", "texts_unique", "texts_cached", "texts_inferred",
        "watermark_low", "watermark_high",
    )  # fmt: skip
    return {name: getattr(plan, name) for name in names} | {"model_version": plan.model.version}
