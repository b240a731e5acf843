"""The tables of the warehouse, defined once: dtypes, validation and SQLAlchemy tables come from here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Literal

import polars as pl

Kind = Literal["text", "int", "float", "date", "time"]

DTYPES: Mapping[Kind, pl.DataType] = {
    "text": pl.String(),
    "int": pl.Int64(),
    "float": pl.Float64(),
    "date": pl.Date(),
    "time": pl.Datetime("us", "UTC"),
}
# Only casts that keep the value: strings are not parsed, floats not truncated, naive times not taken for UTC.
_ACCEPTED: Mapping[Kind, Callable[[pl.DataType], bool]] = {
    "text": lambda dtype: dtype in (pl.String, pl.Categorical, pl.Enum),
    "int": lambda dtype: dtype.is_integer(),
    "float": lambda dtype: dtype.is_numeric(),
    "date": lambda dtype: dtype == pl.Date,
    "time": lambda dtype: isinstance(dtype, pl.Datetime) and dtype.time_zone == "UTC",
}
# What cannot be stored: PostgreSQL refuses NUL, SQLite turns NaN into null, drivers end with the year 9999.
_STORABLE: Mapping[Kind, tuple[str, Callable[[pl.Expr], pl.Expr]]] = {
    "text": ("text without NUL", lambda column: ~column.str.contains("\0", literal=True)),
    "float": ("finite numbers", lambda column: column.is_finite()),
    "date": ("days of the years 1 to 9999", lambda column: column.is_between(date.min, date.max)),
    "time": (
        "times of the years 1 to 9999",
        lambda column: column.is_between(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
    ),
}


@dataclass(frozen=True)
class Column:
    """A column; those of the key are never null."""

    name: str
    kind: Kind
    key: bool = False
    nullable: bool = False

    def cast(self, values: pl.Series) -> pl.Series:
        """The values with this column's dtype.

        Raises:
            ValueError: values of another kind, null where they may not be, or that no database could hold.
        """
        if values.dtype != pl.Null and not _ACCEPTED[self.kind](values.dtype):
            raise ValueError(f"{self.name} is {values.dtype}: expected {DTYPES[self.kind]}")
        if not self.nullable and values.null_count():
            raise ValueError(f"{self.name} holds {values.null_count()} null(s): expected none")
        try:
            stored = values.cast(DTYPES[self.kind])
        except pl.exceptions.InvalidOperationError as error:
            raise ValueError(f"{self.name} does not fit {DTYPES[self.kind]}: {error}") from None
        if self.kind in _STORABLE:
            expected, is_storable = _STORABLE[self.kind]
            if not stored.to_frame().select(is_storable(pl.col(stored.name)).all()).item():
                raise ValueError(f"{self.name} holds a value that cannot be stored: expected {expected}")
        return stored


@dataclass(frozen=True)
class Table:
    """A table: its columns in order, and the column lists that are indexed beside the key."""

    name: str
    columns: tuple[Column, ...]
    indexes: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def key(self) -> tuple[str, ...]:
        """Names of the key's columns."""
        return tuple(column.name for column in self.columns if column.key)

    @cached_property
    def polars_schema(self) -> pl.Schema:
        """Names and dtypes of a frame of this table."""
        return pl.Schema({column.name: DTYPES[column.kind] for column in self.columns})

    def validate(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame's columns of this table, in order and with its dtypes; other columns are left out.

        Raises:
            ValueError: names every column that is missing or cannot be cast, or a key that stands twice.
        """
        columns, problems = [], []
        for column in self.columns:
            try:
                columns.append(column.cast(frame[column.name]))
            except pl.exceptions.ColumnNotFoundError:
                problems.append(f"{column.name} is missing")
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError(f"not rows of the table {self.name}: {'; '.join(problems)}")
        rows = pl.DataFrame(columns)
        if not self.key:
            return rows
        repeated = rows.filter(rows.select(self.key).is_duplicated())
        if not repeated.is_empty():
            raise ValueError(
                f"not rows of the table {self.name}: {repeated.height} share a key, such as "
                f"{repeated.select(self.key).row(0, named=True)}; expected each key once"
            )
        return rows


def _table(name: str, *columns: Column, indexes: tuple[tuple[str, ...], ...] = ()) -> Table:
    return Table(name, columns, indexes)


def _key(name: str, kind: Kind = "text") -> Column:
    return Column(name, kind, key=True)


def _nullable(name: str, kind: Kind = "text") -> Column:
    return Column(name, kind, nullable=True)


def _text(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "text") for name in names)


def _int(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "int") for name in names)


BANDS = tuple(f"band_{number}" for number in range(1, 13))
_PERIOD = (_key("period"), _key("period_start", "date"))  # week or month, and its first day

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        _table(
            "mentions",
            _key("review_id"),
            _key("mention_no", "int"),
            _nullable("product_id"),
            Column("review_date", "date"),
            *_text("entity_type", "surface", "canonical"),
            *_int("start_char", "end_char"),
            Column("confidence", "float"),
            *_text("text_hash", "model_version", "run_id"),
            indexes=(("entity_type", "canonical", "surface"), ("review_date", "review_id")),
        ),
        _table(
            "review_coverage",
            _key("review_id"),
            _nullable("product_id"),
            _nullable("rating", "float"),
            _nullable("created_at", "time"),
            _nullable("updated_at", "time"),
            Column("review_date", "date"),
            *_int("chars", "chars_read", "windows", "mention_count"),
            *_text("text_hash", "fingerprint", "model_version", "run_id"),
            indexes=(("review_date",), ("text_hash",)),
        ),
        _table(
            "entity_daily",
            _key("review_date", "date"),
            _key("entity_type"),
            _key("canonical"),
            *_int("mention_count", "review_count", "unique_text_count", "product_count"),
            Column("mean_confidence", "float"),
            _nullable("mean_rating", "float"),
            *_text("model_version"),
            _nullable("cluster_count", "int"),
            _nullable("first_review_id"),
        ),
        _table(
            "entity_pairs_daily",
            _key("review_date", "date"),
            _key("left_type"),
            _key("left_name"),
            _key("right_type"),
            _key("right_name"),
            *_int("review_count"),
            _nullable("unique_text_count", "int"),
            _nullable("cluster_count", "int"),
        ),
        _table(
            "rejected_reviews",
            _key("run_id"),
            _key("source_row", "int"),
            _nullable("review_id"),
            *_text("reason"),
            _nullable("detail"),
        ),
        _table(
            "text_readings",
            _key("fingerprint"),
            _key("text_hash"),
            *_int("chars", "chars_read", "windows"),
            _nullable("unknown_chars", "int"),
        ),
        _table(
            "text_spans",
            _key("fingerprint"),
            _key("text_hash"),
            _key("span_no", "int"),
            *_text("label"),
            *_int("start_char", "end_char"),
            Column("confidence", "float"),
            *_text("surface"),
            _nullable("left_context"),
            _nullable("right_context"),
        ),
        _table(
            "extraction_runs",
            _key("run_id"),
            *_text("source", "status"),
            Column("started_at", "time"),
            _nullable("finished_at", "time"),
            _nullable("watermark_column"),
            _nullable("watermark_low", "time"),
            _nullable("watermark_high", "time"),
            *_int("reviews_in", "reviews_rejected"),
            *_int("texts_unique", "texts_cached", "texts_inferred", "mentions_out"),
            _nullable("model_version"),
            _nullable("error"),
            _nullable("publish_hash"),
            _nullable("reviews_deleted", "int"),
        ),
        _table(
            "model_versions",
            _key("version"),
            Column("created_at", "time"),
            *_text("status", "architecture"),
            _nullable("base"),
            _nullable("data_fingerprint"),
            _nullable("parent"),
            *_text("uri"),
            _nullable("reason"),
        ),
        _table(
            "model_evaluations",
            _key("version"),
            _key("dataset"),
            _key("metric"),
            _key("entity_type"),
            Column("value", "float"),
            _nullable("support", "int"),
        ),
        # Every change of champion: promotions and rollbacks, in order.
        _table(
            "model_promotions",
            _key("promotion_no", "int"),
            Column("promoted_at", "time"),
            *_text("action", "version"),
            _nullable("previous_version"),
        ),
        _table(
            "gate_decisions",
            _key("version"),
            _key("champion"),
            _key("rule"),
            *_text("outcome"),
            _nullable("value", "float"),
            _nullable("lower", "float"),
            _nullable("upper", "float"),
            _nullable("allowed", "float"),
            *_text("detail"),
            Column("decided_at", "time"),
        ),
        # What two models find in the same reviews, so that a step in a trend can be told from a change of model.
        _table(
            "model_bridge",
            _key("old_version"),
            _key("new_version"),
            _key("entity_type"),
            _key("canonical"),
            *_int("old_count", "new_count", "reviews"),
        ),
        _table(
            "drift_metrics",
            _key("run_id"),
            _key("entity_type"),
            _key("metric"),
            _nullable("value", "float"),
            _nullable("baseline", "float"),
            *_int("baseline_runs"),
            _nullable("allowed", "float"),
            *_int("drifted"),
        ),
        # Who said that two names are one, or are not; the newest word on a pair counts.
        _table(
            "link_decisions",
            _key("decision_no", "int"),
            Column("decided_at", "time"),
            *_text("decided_by", "action", "entity_type", "alias", "canonical"),
        ),
        # What may be two names of one entity; nothing is linked by it.
        _table(
            "link_suggestions",
            _key("entity_type"),
            _key("alias"),
            _key("canonical"),
            *_text("kind"),
            Column("score", "float"),
            *_int("alias_count", "canonical_count", "together_count", "adjacent_count", "shared_slots"),
            _nullable("alias_example"),
            _nullable("canonical_example"),
            Column("suggested_at", "time"),
        ),
        # Texts that are nearly the same have one cluster_id. A band holds four values of the text's MinHash.
        _table(
            "text_clusters",
            _key("text_hash"),
            *_text("cluster_id"),
            *_int(*BANDS),
            indexes=(("cluster_id",), *((band,) for band in BANDS)),
        ),
        # Counts of weeks and months, in which texts, clusters and products of their days are the same ones.
        _table(
            "entity_periods",
            *_PERIOD,
            _key("entity_type"),
            _key("canonical"),
            *_int("mention_count", "review_count", "unique_text_count", "cluster_count", "product_count"),
            Column("probability_mass", "float"),
            _nullable("corrected_count", "float"),
            _nullable("corrected_lower", "float"),
            _nullable("corrected_upper", "float"),
            _nullable("evaluated_on"),
            *_text("model_version"),
        ),
        # The same of each type: all its entities share precision and recall, so their intervals cannot be added up.
        _table(
            "type_periods",
            *_PERIOD,
            _key("entity_type"),
            *_int("mention_count", "review_count", "unique_text_count", "cluster_count"),
            Column("probability_mass", "float"),
            _nullable("corrected_count", "float"),
            _nullable("corrected_lower", "float"),
            _nullable("corrected_upper", "float"),
            _nullable("evaluated_on"),
            *_text("model_version"),
        ),
        _table(
            "pair_periods",
            *_PERIOD,
            _key("left_type"),
            _key("left_name"),
            _key("right_type"),
            _key("right_name"),
            *_int("review_count", "unique_text_count", "cluster_count"),
            Column("lift", "float"),
            Column("lift_lower", "float"),
            Column("lift_upper", "float"),
        ),
        # What reviews of each product write about, by month; a text or cluster counts for one product, the first by id.
        _table(
            "product_entities",
            _key("month_start", "date"),
            _key("product_id"),
            _key("entity_type"),
            _key("canonical"),
            *_int("review_count", "unique_text_count", "cluster_count"),
        ),
        # How much was read of a period, by each model and, under *, by all.
        _table(
            "period_coverage",
            *_PERIOD,
            _key("model_version"),
            *_int("review_count", "unique_text_count", "cluster_count"),
        ),
        _table(
            "entity_movements",
            *_PERIOD,
            _key("entity_type"),
            _key("canonical"),
            *_int("review_count", "unique_text_count", "cluster_count"),
            *_int("previous_review_count", "previous_unique_text_count", "previous_cluster_count"),
            _nullable("ratio", "float"),
            _nullable("ratio_lower", "float"),
            _nullable("ratio_upper", "float"),
            _nullable("expected_lower", "float"),
            _nullable("expected_upper", "float"),
            *_int("is_break"),
            _nullable("p_value", "float"),
            _nullable("q_value", "float"),
        ),
        # Labels as people enter them, by whatever tool: nothing is enforced here, all of it where it is read.
        _table(
            "annotations",
            *(_nullable(name) for name in ("review_id", "text", "spans", "label", "annotator")),
            _nullable("labelled_at", "time"),
        ),
        # What was removed, by a hash of its id or text: reviews that the source deleted, which a newer row brings back,
        # and forgotten ones, which nothing does.
        _table(
            "tombstones",
            _key("kind"),
            _key("hash"),
            _nullable("updated_at", "time"),
            Column("removed_at", "time"),
        ),
        # Who may write: one run at a time. The token grows with every holder, so that one who was taken for dead is
        # known at its commit.
        _table(
            "leases",
            _key("name"),
            _nullable("holder"),
            *_int("token"),
            Column("expires_at", "time"),
            _nullable("process"),
        ),
        # What is true of the warehouse itself: its id, by which a lake knows whose copies it holds.
        _table("warehouse_facts", _key("name"), *_text("value")),
        # Days whose copies in the lake are older than the tables.
        _table("stale_copies", _key("review_date", "date")),
        # Days with reviews and a week to either side, so that the week before a covered week is always there.
        _table("calendar", _key("date", "date"), Column("week_start", "date"), Column("month_start", "date")),
    )
}
