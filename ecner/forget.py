"""Forget a review: take it out of everything that ecner keeps, for good, and see to it that it never comes back.

First the tables, in one transaction that leaves tombstones, hashes alone; then the lake. What a kill cuts short, the
same command ends: the tombstones tell what to look for.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

from ecner.config import Settings
from ecner.data.hashes import hash_texts
from ecner.errors import UsageError
from ecner.lake import Lake
from ecner.nightly.clusters import remove_orphans, without_review
from ecner.nightly.copies import copies_folder, write_copies
from ecner.nightly.page import remove_page
from ecner.nightly.publish import take_out
from ecner.nightly.recompute import recompute
from ecner.nightly.tidy import READINGS, RUNS
from ecner.nightly.tombstones import DELETED, FORGOTTEN, FORGOTTEN_TEXT, bury, lift
from ecner.retraining.cleaning import clean
from ecner.retry import retried
from ecner.storage.lease import Lease
from ecner.storage.warehouse import Warehouse


@dataclass(frozen=True)
class Forgotten:
    """What was found of a review and removed: the days computed anew for it, and what of it lay in labels."""

    days: tuple[date, ...]
    snapshots: int

    def to_text(self) -> str:
        """Plain text for a terminal; the id stays out of logs."""
        days = f"days computed anew: {', '.join(map(str, self.days))}" if self.days else "it was not in the tables"
        labels = f"; {self.snapshots} label snapshot(s) cleaned" if self.snapshots else ""
        return (
            f"forgotten: {days}{labels}\n"
            "its tombstone, a hash, keeps it out of every later run and retrain; names that people decided on stay in "
            "link_decisions; its source, label files and pages of your own, backups, Prefect's artifacts and, of a "
            "lake on s3://, lake.cache on other machines are yours to clean"
        )


def forget(settings: Settings, review_id: str) -> Forgotten:
    """Removes a review from all tables, day copies, run files, the nightly page, label snapshots and trainings.

    Texts that no other review has are removed too, and left out of later label snapshots.

    Raises:
        UsageError: an id that no review can have.
        LeaseError: a run is at work, and could still write the review.
        RunError: the warehouse or the lake failed: the same command, run again, goes on.
    """
    if not review_id.strip() or "\0" in review_id or review_id != review_id.encode(errors="ignore").decode():
        raise UsageError(f"no review has the id {review_id!r}: expected text in UTF-8, not blank and without a NUL")
    warehouse, lake = Warehouse(*settings.warehouse_at), Lake.open(settings.lake)
    retried(warehouse.migrate)
    holder = f"forget-{secrets.token_hex(4)}"
    with Lease(warehouse, holder, settings.run.lease_seconds, wait_seconds=settings.run.wait_seconds) as lease:
        copies = copies_folder(settings)
        former = _texts_in_runs(lake, review_id)
        days = retried(lambda: _take_out(warehouse, lease, review_id, former, settings.model.evaluated_on))
        remove_page(settings)
        for folder in (RUNS, READINGS):  # of closed runs, and what can be read again
            lake.remove(folder)
        with warehouse.connect() as reader:
            texts = reader.read("tombstones", where={"kind": FORGOTTEN_TEXT})["hash"]
        snapshots = clean(settings.lake, frozenset(texts))
        retried(lambda: write_copies(warehouse, lake, copies, lease))
    return Forgotten(tuple(sorted(days)), snapshots)


def _texts_in_runs(lake: Lake, review_id: str) -> set[str]:
    """Hashes of texts that the review had, as files of runs still tell; an edited one had several."""
    found = set[str]()
    for run in lake.entries(RUNS):
        for name in lake.names(f"{RUNS}/{run.name}/rows"):
            found.update(lake.read(name).filter(review_id=review_id)["text_hash"].drop_nulls())
    return found


def _take_out(
    warehouse: Warehouse, lease: Lease, review_id: str, former: set[str], evaluated_on: Sequence[str]
) -> set[date]:
    """Removes the review from the tables and leaves tombstones; returns the days computed anew."""
    now, ids = datetime.now(UTC), pl.Series([review_id])
    with warehouse.begin() as transaction, lease.held(transaction):
        coverage = transaction.lookup("review_coverage", "review_id", ids)
        annotations = transaction.read("annotations", columns=["review_id", "text"])
        labelled = hash_texts(annotations.filter(review_id=review_id)["text"].drop_nulls())
        texts = pl.Series(sorted(former | {*coverage["text_hash"], *labelled}), dtype=pl.String)
        take_out(transaction, ids)
        lift(transaction, DELETED, hash_texts(ids))
        bury(transaction, FORGOTTEN, hash_texts(ids), now)
        own = without_review(transaction, texts)
        bury(transaction, FORGOTTEN_TEXT, own, now)
        for table in ("rejected_reviews", "annotations"):
            transaction.delete(table, "review_id", ids)
        is_own = hash_texts(annotations["text"]).is_in(own.implode())
        transaction.delete("annotations", "text", annotations["text"].filter(is_own))
        for table in ("text_spans", "text_readings"):  # those of texts that it had long ago are known no other way
            transaction.delete_orphans(table, "text_hash", "review_coverage")
        apart = remove_orphans(transaction, transaction.orphans("text_clusters", "text_hash", "review_coverage"))
        transaction.delete_all("link_suggestions")  # with examples out of texts; ecner link suggest makes them anew
        days = {*coverage["review_date"]} | apart
        recompute(transaction, days, evaluated_on)
    return days
