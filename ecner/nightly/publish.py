"""Publish a night in one transaction: readings into the cache, mentions of the changed reviews, the days touched."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

from ecner.config import DriftSettings, ModelSettings
from ecner.errors import RunError
from ecner.nightly import lake
from ecner.nightly.aggregate import calendar, entity_daily, entity_pairs_daily
from ecner.nightly.drift import Sample, drift_metrics
from ecner.nightly.extract import READINGS
from ecner.nightly.names import Lexicon
from ecner.nightly.plan import Plan
from ecner.resources import resource
from ecner.schema import TABLES
from ecner.storage.transaction import Transaction
from ecner.storage.warehouse import Warehouse

_REVIEWS_AT_ONCE = 20_000
_PUBLISHED = ("review_id", "product_id", "review_date", "text_hash", "fingerprint", "model_version")


@dataclass(frozen=True)
class Rules:
    """What turns spans into mentions: labels to types, thresholds, names. None of it touches the model."""

    model: ModelSettings
    lexicon: Lexicon

    @classmethod
    def of(cls, model: ModelSettings) -> "Rules":
        """The rules of some settings, with their lexicon or the one in configs.

        Raises:
            UsageError: the lexicon cannot be read.
        """
        return cls(model, Lexicon.read(model.lexicon or resource("configs/lexicon.yaml")))

    @property
    def digest(self) -> str:
        """Identity of the rules: where it changes, the whole history is published anew from the cached spans."""
        parts = [dict(self.model.labels), dict(self.model.min_confidence), self.lexicon.to_json()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def mentions(self, reviews: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
        """Mentions of reviews (columns of the table mentions but run_id), numbered from 1 by their start.

        Args:
            reviews: the columns _PUBLISHED.
            spans: rows of text_spans for the reviews' fingerprints and texts.
        """
        floor = pl.col("entity_type").replace_strict(
            dict(self.model.min_confidence), default=0.0, return_dtype=pl.Float64
        )
        kept = spans.with_columns(
            entity_type=pl.col("label").replace_strict(dict(self.model.labels), default=pl.col("label"))
        ).filter(pl.col("confidence") >= floor)
        return (
            self.lexicon.add_canonical(reviews.select(_PUBLISHED).join(kept, on=["fingerprint", "text_hash"]))
            .sort("review_id", "start_char")
            .with_columns(mention_no=pl.int_range(1, pl.len() + 1).over("review_id"))
        )


def publish(warehouse: Warehouse, plan: Plan, readings: Sequence[str], rules: Rules, drift: DriftSettings) -> None:
    """Writes all that a run found, closes it in the ledger and moves the watermark, or changes no table.

    Raises:
        RunError: the warehouse refused, or another run has begun; nothing of the run is in it.
    """
    with warehouse.begin() as transaction:
        _claim(transaction, plan.run_id)
        for path in readings:
            _cache(transaction, lake.read(path), plan.model.fingerprint)
        anew = _rules_changed(transaction, rules)
        sample, days, mentions = Sample(), set[date](), 0
        for reviews in _changed(plan):
            coverage, found = _replace(transaction, reviews, plan.run_id, rules)
            new = coverage.filter(pl.col("former_date").is_null())
            sample.add(new, found.join(new, on="review_id", how="semi"))
            mentions += len(found)
            days |= _days(reviews)
        for reviews in _history(transaction, plan.run_id) if anew else ():
            mentions += len(_replace(transaction, reviews, plan.run_id, rules)[1])
            days |= _days(reviews)
        # before the days are computed anew, while they hold what earlier runs have seen
        figures = drift_metrics(transaction, plan.run_id, sample, drift, names_changed=anew)
        transaction.append("drift_metrics", figures)
        _recompute(transaction, days)
        _close(transaction, plan, rules, mentions)


def _claim(transaction: Transaction, run_id: str) -> None:
    """Holds the run's row in the ledger until the end, so that no other run can begin meanwhile.

    Raises:
        RunError: a run that was started since has taken this one for dead.
    """
    if not transaction.update("extraction_runs", {"run_id": run_id, "status": "running"}, {"status": "running"}):
        raise RunError(f"run {run_id} was closed as abandoned when another run began: let one end before the next")


def _cache(transaction: Transaction, readings: pl.DataFrame, fingerprint: str) -> None:
    """Puts a shard's readings (schema READINGS) into text_readings and text_spans."""
    # one that an earlier version left for this run to take up may lack a column
    whole = pl.concat([READINGS.to_frame(), readings], how="diagonal")
    named = whole.with_columns(fingerprint=pl.lit(fingerprint))
    spans = (
        named.filter(pl.col("spans").list.len() > 0)
        .select("fingerprint", "text_hash", "spans")
        .explode("spans")
        .unnest("spans")
        .with_columns(span_no=pl.int_range(1, pl.len() + 1).over("text_hash"))
    )
    transaction.append_missing("text_readings", named)
    transaction.append_missing("text_spans", spans)


def _changed(plan: Plan) -> Iterator[pl.DataFrame]:
    """The reviews that the plan found new or changed."""
    for path in plan.changed:
        yield from lake.read(path).iter_slices(_REVIEWS_AT_ONCE)


def _history(transaction: Transaction, run_id: str) -> Iterator[pl.DataFrame]:
    """All reviews that earlier runs published and this one has left as they are."""
    for page in transaction.pages("review_coverage", size=_REVIEWS_AT_ONCE):
        yield page.filter(pl.col("run_id") != run_id).with_columns(former_date="review_date")


def _days(reviews: pl.DataFrame) -> set[date]:
    """The days that reviews are of, and those that they were of."""
    return {*reviews["review_date"], *reviews["former_date"].drop_nulls()}


def _rules_changed(transaction: Transaction, rules: Rules) -> bool:
    """Whether the tables stand under other rules; the ledger names theirs in one row."""
    runs = transaction.read("extraction_runs", where={"status": "succeeded"}, columns=["publish_hash"])
    return not runs.is_empty() and rules.digest not in runs["publish_hash"]


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
    for table, rows in (("mentions", mentions), ("review_coverage", coverage)):
        transaction.delete(table, "review_id", reviews["review_id"])
        transaction.append(table, rows)
    return coverage, mentions


def _lookup(transaction: Transaction, reviews: pl.DataFrame, table: str) -> pl.DataFrame:
    """Cached rows of the reviews' texts, each as read by the fingerprint that the review stands under."""
    found = [
        transaction.lookup(table, "text_hash", part["text_hash"], where={"fingerprint": fingerprint})
        for (fingerprint,), part in reviews.partition_by("fingerprint", as_dict=True).items()
    ]
    return pl.concat(found) if found else pl.DataFrame(schema=TABLES[table].polars_schema)


def _recompute(transaction: Transaction, days: set[date]) -> None:
    """Computes the days' aggregates anew; a day without reviews has none."""
    touched = pl.Series(sorted(days), dtype=pl.Date)
    for table in ("entity_daily", "entity_pairs_daily"):
        transaction.delete(table, "review_date", touched)
    for day in touched:
        mentions = transaction.read("mentions", where={"review_date": day})
        reviews = transaction.read("review_coverage", where={"review_date": day}, columns=["review_id", "rating"])
        transaction.append("entity_daily", entity_daily(mentions, reviews))
        transaction.append("entity_pairs_daily", entity_pairs_daily(mentions))
    transaction.append_missing("calendar", calendar(touched))


def _close(transaction: Transaction, plan: Plan, rules: Rules, mentions: int) -> None:
    """Writes the rejections and ends the run in the ledger; its row alone then names the rules of the tables."""
    for path in plan.rejected:
        rows = lake.read(path).with_columns(run_id=pl.lit(plan.run_id))
        transaction.append("rejected_reviews", rows)
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
        "reviews_in", "reviews_rejected", "texts_unique", "texts_cached", "texts_inferred",
        "watermark_low", "watermark_high",
    )  # fmt: skip
    return {name: getattr(plan, name) for name in names} | {"model_version": plan.model.version}
