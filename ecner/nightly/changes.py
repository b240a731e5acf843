"""Settle a bucket of rows and compare it with the tables: what is new or changed, what goes, what must be read."""

from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl

from ecner.config import RunSettings
from ecner.data.hashes import hash_texts
from ecner.nightly.buckets import HASHED
from ecner.nightly.clusters import sketches_of
from ecner.nightly.rows import REJECTED, TIME, local_date
from ecner.nightly.runfiles import RunFiles
from ecner.nightly.scope import ReadingModel, Selection
from ecner.nightly.stopwatch import Stopwatch
from ecner.nightly.tombstones import DELETED
from ecner.storage.transaction import Reader

# What a changed review's row holds when it goes to publish: the coverage row's own facts, the day that it was of
# before, and whether it comes back after a deletion.
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
        "returns": pl.Boolean(),
    }
)
REMOVED = pl.Schema({"review_id": pl.String(), "updated_at": TIME, "former_date": pl.Date(), "returns": pl.Boolean()})
_FACTS = ("text_hash", "product_id", "rating", "created_at", "updated_at", "review_date")
_KNOWN = ("review_id", *_FACTS, "fingerprint", "model_version")


@dataclass(frozen=True)
class Planned:
    """What buckets came to: counts of rows, and names of files; ``rejected_files`` maps to their numbers of rows."""

    settled: int = 0  # of all dates
    accepted: int = 0
    deleted: int = 0
    changes: int = 0
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    sketches: tuple[str, ...] = ()
    rejected_files: dict[str, int] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """How many rows were rejected."""
        return sum(self.rejected_files.values())

    @property
    def rows(self) -> int:
        """How many rows were looked at."""
        return self.accepted + self.rejected + self.deleted

    def __add__(self, other: "Planned") -> "Planned":
        return Planned(
            self.settled + other.settled,
            self.accepted + other.accepted,
            self.deleted + other.deleted,
            self.changes + other.changes,
            self.changed + other.changed,
            self.removed + other.removed,
            self.sketches + other.sketches,
            self.rejected_files | other.rejected_files,
        )


@dataclass(frozen=True)
class Comparison:
    """What every bucket of a plan is compared by."""

    reader: Reader
    files: RunFiles
    settings: RunSettings
    selection: Selection
    model: ReadingModel
    now: datetime
    watch: Stopwatch

    def of(self, bucket: int) -> Planned:
        """Settles a bucket and writes what it comes to, one kind of file each."""
        with self.watch.on("settle"):
            rows, repeated = _settled(self.files.pieces("rows", bucket, HASHED))
        with self.watch.on("join"):
            dated = self._dated(rows)
        chosen = dated.filter(self.selection.holds(pl.col("review_date")))
        present = chosen.filter(~_stays_away())
        changed = self._changed(present)
        with self.watch.on("join"):
            self._write_texts(present, changed, bucket)
        with self.watch.on("sketch"):
            sketches = self._sketches(present.filter(~pl.col("older")))
        return Planned(
            settled=len(rows),
            accepted=len(present),
            changes=len(changed),
            deleted=len(chosen) - len(present),
            changed=self._written("changed", bucket, changed.select(_cast(CHANGED))),
            removed=self._written("removed", bucket, _removed(chosen).select(_cast(REMOVED))),
            sketches=self._written("sketches", bucket, sketches),
            rejected_files=dict.fromkeys(self._written("rejected", bucket, repeated), len(repeated)),
        )

    def _written(self, kind: str, bucket: int, rows: pl.DataFrame) -> tuple[str, ...]:
        return () if rows.is_empty() else (self.files.write(kind, f"bucket-{bucket:04d}", rows),)

    def _dated(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows beside what the tables have of their reviews (``_known``), with their days, and how they compare."""
        zone = self.settings.time_zone
        known = self.reader.lookup("review_coverage", "review_id", rows["review_id"], columns=_KNOWN)
        beside = rows.join(known, on="review_id", how="left", suffix="_known", maintain_order="left")
        published = pl.col("text_hash_known").is_not_null()
        last_word = pl.coalesce("updated_at_known", "deleted_at")
        # as within a night, a row without updated_at is the oldest
        older = (pl.col("updated_at") < last_word).fill_null(last_word.is_not_null())
        return self._with_tombstones(beside.rename({"review_date": "review_date_known"})).with_columns(
            review_date=pl.coalesce(
                local_date(pl.col("created_at"), zone),
                "partition_date",
                "review_date_known",
                pl.lit(self.now.astimezone(ZoneInfo(zone)).date()),
            ),
            is_published=published,
            older=older,
        )

    def _with_tombstones(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds ``returns``, of reviews that were deleted, and ``deleted_at``, the updated_at of the deletion."""
        hashed = rows.with_columns(hash=hash_texts(rows["review_id"]))
        found = self.reader.lookup("tombstones", "hash", hashed["hash"], where={"kind": DELETED})
        deleted = found.select("hash", deleted_at="updated_at", returns=pl.lit(value=True))
        beside = hashed.join(deleted, on="hash", how="left", maintain_order="left")
        return beside.with_columns(pl.col("returns").fill_null(value=False)).drop("hash")

    def _changed(self, present: pl.DataFrame) -> pl.DataFrame:
        """The rows that change something published, each with the fingerprint that it will stand under."""
        model = self.model
        same_text = (pl.col("text_hash") == pl.col("text_hash_known")).fill_null(value=False)
        stale = pl.lit(self.selection.full) & (pl.col("fingerprint") != model.fingerprint)
        differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_known")) for name in _FACTS)
        keeps = same_text & ~stale
        return present.filter(~pl.col("older") & (~pl.col("is_published") | differs | stale)).with_columns(
            fingerprint=pl.when(keeps).then("fingerprint").otherwise(pl.lit(model.fingerprint)),
            model_version=pl.when(keeps).then("model_version").otherwise(pl.lit(model.version)),
            former_date="review_date_known",
        )

    def _sketches(self, current: pl.DataFrame) -> pl.DataFrame:
        """Sketches of the texts that have none yet, in rows that hold what is or will be published."""
        texts = current.select("text_hash", "text").unique("text_hash", maintain_order=True)
        known = self.reader.lookup("text_clusters", "text_hash", texts["text_hash"], columns=["text_hash"])
        return sketches_of(texts.join(known, on="text_hash", how="anti", maintain_order="left"))

    def _write_texts(self, present: pl.DataFrame, changed: pl.DataFrame, bucket: int) -> None:
        """Spreads a bucket's texts over shards: each hash, with the text where this run's fingerprint must read it."""
        fingerprint = self.model.fingerprint
        needed = changed.filter(pl.col("fingerprint") == fingerprint).select("text_hash", "text").unique("text_hash")
        known = self.reader.lookup(
            "text_readings",
            "text_hash",
            needed["text_hash"],
            columns=["text_hash"],
            where={"fingerprint": fingerprint},
        )
        unread = needed.join(known, on="text_hash", how="anti")
        texts = present.select(pl.col("text_hash").unique()).join(unread, on="text_hash", how="left")
        shard = pl.col("text_hash").str.slice(0, 8).str.to_integer(base=16) % self.settings.shards
        parts = texts.with_columns(shard=shard).partition_by("shard", as_dict=True, include_key=False)
        for (number,), part in parts.items():
            self.files.add("texts", int(number), bucket, part)


def _settled(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row an id: the newest updated_at, then the last in the source; the others are rejected."""
    ordered = rows.sort("updated_at", "source_row", nulls_last=False)
    wins = pl.col("review_id").is_last_distinct()
    repeated = ordered.filter(~wins).select(
        "source_row",
        "watermark",
        "review_id",
        reason=pl.lit("repeated_id"),
        detail=pl.lit("another row of this id is newer, or as new and later in the source"),
    )
    return ordered.filter(wins).sort("source_row"), repeated.select(_cast(REJECTED)).sort("source_row")


def _stays_away() -> pl.Expr:
    """Whether a row leaves its review out of the tables: it deletes it, or is older than its deletion."""
    return pl.col("deleted") | (pl.col("returns") & ~pl.col("is_published") & pl.col("older"))


def _removed(chosen: pl.DataFrame) -> pl.DataFrame:
    """Deletions that the tables, or the tombstones, do not have yet."""
    deletes = pl.col("deleted") & ~pl.col("older")
    is_new = pl.col("is_published") | ~pl.col("returns") | pl.col("updated_at").ne_missing(pl.col("deleted_at"))
    return chosen.filter(deletes & is_new).with_columns(former_date="review_date_known")


def _cast(schema: pl.Schema) -> list[pl.Expr]:
    return [pl.col(name).cast(dtype) for name, dtype in schema.items()]
