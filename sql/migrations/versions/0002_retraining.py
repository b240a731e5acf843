"""Tables of retraining: promotions, the gate's decisions, bridges between models, drift, annotations."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    kind = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    return sa.Column(name, kind, nullable=nullable)


def _int(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _float(name: str) -> sa.Column:
    return sa.Column(name, sa.Double(), nullable=True)


def _time(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _create(name: str, key: Sequence[str], *columns: sa.Column) -> None:
    constraints = [sa.PrimaryKeyConstraint(*key)] if key else []
    op.create_table(name, *columns, *constraints, schema=op.get_context().version_table_schema)


def _add(name: str, column: sa.Column) -> None:
    op.add_column(name, column, schema=op.get_context().version_table_schema)


def upgrade() -> None:
    _add("text_readings", _int("unknown_chars", nullable=True))
    _add("model_versions", _text("reason", nullable=True))
    _create(
        "model_promotions",
        ["promotion_no"],
        _int("promotion_no"),
        _time("promoted_at"),
        _text("action"),
        _text("version"),
        _text("previous_version", nullable=True),
    )
    _create(
        "gate_decisions",
        ["version", "champion", "rule"],
        _text("version"),
        _text("champion"),
        _text("rule"),
        _text("outcome"),
        _float("value"),
        _float("lower"),
        _float("upper"),
        _float("allowed"),
        _text("detail"),
        _time("decided_at"),
    )
    _create(
        "model_bridge",
        ["old_version", "new_version", "entity_type", "canonical"],
        _text("old_version"),
        _text("new_version"),
        _text("entity_type"),
        _text("canonical"),
        _int("old_count"),
        _int("new_count"),
        _int("reviews"),
    )
    _create(
        "drift_metrics",
        ["run_id", "entity_type", "metric"],
        _text("run_id"),
        _text("entity_type"),
        _text("metric"),
        _float("value"),
        _float("baseline"),
        _int("baseline_runs"),
        _float("allowed"),
        _int("drifted"),
    )
    _create(
        "annotations",
        [],
        *(_text(name, nullable=True) for name in ("review_id", "text", "spans", "label", "annotator")),
        _time("labelled_at", nullable=True),
    )
