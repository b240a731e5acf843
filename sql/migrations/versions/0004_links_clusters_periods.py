"""Tables of links between names, of near-duplicates, and of weeks and months; contexts of spans."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BANDS = [f"band_{number}" for number in range(1, 13)]


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    kind = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    return sa.Column(name, kind, nullable=nullable)


def _int(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _float(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _schema() -> str | None:
    return op.get_context().version_table_schema


def _create(name: str, key: Sequence[str], *columns: sa.Column) -> None:
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key), schema=_schema())


def _create_of_period(name: str, key: Sequence[str], *columns: sa.Column) -> None:
    start = sa.Column("period_start", sa.Date(), nullable=False)
    _create(name, ["period", "period_start", *key], _text("period"), start, *map(_text, key), *columns)


def _index(name: str, *columns: str) -> None:
    op.create_index(f"ix_{name}_{'_'.join(columns)}", name, list(columns), schema=_schema())


def upgrade() -> None:
    op.drop_index("ix_mentions_entity_type_canonical", "mentions", schema=_schema())
    _index("mentions", "entity_type", "canonical", "surface")
    for column in (_int("cluster_count", nullable=True), _text("first_review_id", nullable=True)):
        op.add_column("entity_daily", column, schema=_schema())
    for name in ("unique_text_count", "cluster_count"):
        op.add_column("entity_pairs_daily", _int(name, nullable=True), schema=_schema())
    for name in ("left_context", "right_context"):
        op.add_column("text_spans", _text(name, nullable=True), schema=_schema())
    _create_links()
    _create("text_clusters", ["text_hash"], _text("text_hash"), _text("cluster_id"), *map(_int, _BANDS))
    for name in ("cluster_id", *_BANDS):
        _index("text_clusters", name)
    _create_periods()


def _create_links() -> None:
    _create(
        "link_decisions",
        ["decision_no"],
        _int("decision_no"),
        _time("decided_at"),
        *map(_text, ("decided_by", "action", "entity_type", "alias", "canonical")),
    )
    _create(
        "link_suggestions",
        ["entity_type", "alias", "canonical"],
        *map(_text, ("entity_type", "alias", "canonical", "kind")),
        _float("score"),
        *map(_int, ("alias_count", "canonical_count", "together_count", "adjacent_count", "shared_slots")),
        _text("alias_example", nullable=True),
        _text("canonical_example", nullable=True),
        _time("suggested_at"),
    )


def _corrected() -> list[sa.Column]:
    names = ("corrected_count", "corrected_lower", "corrected_upper")
    figures = [_float("probability_mass"), *(_float(name, nullable=True) for name in names)]
    return [*figures, _text("evaluated_on", nullable=True), _text("model_version")]


def _create_periods() -> None:
    counts = ("review_count", "unique_text_count", "cluster_count")
    of_entity = map(_int, ("mention_count", *counts, "product_count"))
    _create_of_period("entity_periods", ["entity_type", "canonical"], *of_entity, *_corrected())
    _create_of_period("type_periods", ["entity_type"], *map(_int, ("mention_count", *counts)), *_corrected())
    _create_of_period(
        "pair_periods",
        ["left_type", "left_name", "right_type", "right_name"],
        *map(_int, counts),
        *map(_float, ("lift", "lift_lower", "lift_upper")),
    )
    start, of_product = sa.Column("month_start", sa.Date(), nullable=False), ("product_id", "entity_type", "canonical")
    _create("product_entities", ["month_start", *of_product], start, *map(_text, of_product), *map(_int, counts))
    _create_of_period("period_coverage", ["model_version"], *map(_int, counts))
    figures = ("ratio", "ratio_lower", "ratio_upper", "expected_lower", "expected_upper")
    _create_of_period(
        "entity_movements",
        ["entity_type", "canonical"],
        *map(_int, counts),
        *(_int(f"previous_{name}") for name in counts),
        *(_float(name, nullable=True) for name in figures),
        _int("is_break"),
        _float("p_value", nullable=True),
        _float("q_value", nullable=True),
    )
