"""The first tables. Frozen: later changes are revisions of their own."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    kind = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    return sa.Column(name, kind, nullable=nullable)


def _int(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _float(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _date(name: str) -> sa.Column:
    return sa.Column(name, sa.Date(), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _create(name: str, key: Sequence[str], *columns: sa.Column, indexes: Sequence[Sequence[str]] = ()) -> None:
    schema = op.get_context().version_table_schema
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key), schema=schema)
    for index in indexes:
        op.create_index(f"ix_{name}_{'_'.join(index)}", name, list(index), schema=schema)


def upgrade() -> None:
    _create(
        "mentions",
        ["review_id", "mention_no"],
        _text("review_id"),
        _int("mention_no"),
        _text("product_id", nullable=True),
        _date("review_date"),
        _text("entity_type"),
        _text("surface"),
        _text("canonical"),
        _int("start_char"),
        _int("end_char"),
        _float("confidence"),
        _text("text_hash"),
        _text("model_version"),
        _text("run_id"),
        indexes=[["entity_type", "canonical"], ["review_date"]],
    )
    _create(
        "review_coverage",
        ["review_id"],
        _text("review_id"),
        _text("product_id", nullable=True),
        _float("rating", nullable=True),
        _time("created_at", nullable=True),
        _time("updated_at", nullable=True),
        _date("review_date"),
        _int("chars"),
        _int("chars_read"),
        _int("windows"),
        _int("mention_count"),
        _text("text_hash"),
        _text("fingerprint"),
        _text("model_version"),
        _text("run_id"),
        indexes=[["review_date"]],
    )
    _create(
        "entity_daily",
        ["review_date", "entity_type", "canonical"],
        _date("review_date"),
        _text("entity_type"),
        _text("canonical"),
        _int("mention_count"),
        _int("review_count"),
        _int("unique_text_count"),
        _int("product_count"),
        _float("mean_confidence"),
        _float("mean_rating", nullable=True),
        _text("model_version"),
    )
    _create(
        "entity_pairs_daily",
        ["review_date", "left_type", "left_name", "right_type", "right_name"],
        _date("review_date"),
        _text("left_type"),
        _text("left_name"),
        _text("right_type"),
        _text("right_name"),
        _int("review_count"),
    )
    _create(
        "rejected_reviews",
        ["run_id", "source_row"],
        _text("run_id"),
        _int("source_row"),
        _text("review_id", nullable=True),
        _text("reason"),
        _text("detail", nullable=True),
    )
    _create(
        "text_readings",
        ["fingerprint", "text_hash"],
        _text("fingerprint"),
        _text("text_hash"),
        _int("chars"),
        _int("chars_read"),
        _int("windows"),
    )
    _create(
        "text_spans",
        ["fingerprint", "text_hash", "span_no"],
        _text("fingerprint"),
        _text("text_hash"),
        _int("span_no"),
        _text("label"),
        _int("start_char"),
        _int("end_char"),
        _float("confidence"),
        _text("surface"),
    )
    _create(
        "extraction_runs",
        ["run_id"],
        _text("run_id"),
        _text("source"),
        _text("status"),
        _time("started_at"),
        _time("finished_at", nullable=True),
        _text("watermark_column", nullable=True),
        _time("watermark_low", nullable=True),
        _time("watermark_high", nullable=True),
        _int("reviews_in"),
        _int("reviews_rejected"),
        _int("texts_unique"),
        _int("texts_cached"),
        _int("texts_inferred"),
        _int("mentions_out"),
        _text("model_version", nullable=True),
        _text("error", nullable=True),
        _text("publish_hash", nullable=True),
    )
    _create(
        "model_versions",
        ["version"],
        _text("version"),
        _time("created_at"),
        _text("status"),
        _text("architecture"),
        _text("base", nullable=True),
        _text("data_fingerprint", nullable=True),
        _text("parent", nullable=True),
        _text("uri"),
    )
    _create(
        "model_evaluations",
        ["version", "dataset", "metric", "entity_type"],
        _text("version"),
        _text("dataset"),
        _text("metric"),
        _text("entity_type"),
        _float("value"),
        _int("support", nullable=True),
    )
    _create("calendar", ["date"], _date("date"), _date("week_start"), _date("month_start"))
