"""Tables of leases, of what was removed and of stale copies in the lake; indexes for days in the order of reviews."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column:
    kind = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    return sa.Column(name, kind, nullable=nullable)


def _int(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _schema() -> str | None:
    return op.get_context().version_table_schema


def _create(name: str, key: Sequence[str], *columns: sa.Column) -> None:
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key), schema=_schema())


def _index(name: str, *columns: str) -> None:
    op.create_index(f"ix_{name}_{'_'.join(columns)}", name, list(columns), schema=_schema())


def upgrade() -> None:
    op.add_column("extraction_runs", _int("reviews_deleted", nullable=True), schema=_schema())
    op.drop_index("ix_mentions_review_date", "mentions", schema=_schema())
    _index("mentions", "review_date", "review_id")
    _index("review_coverage", "text_hash")
    _create(
        "tombstones",
        ["kind", "hash"],
        _text("kind"),
        _text("hash"),
        _time("updated_at", nullable=True),
        _time("removed_at"),
    )
    _create(
        "leases",
        ["name"],
        _text("name"),
        _text("holder", nullable=True),
        _int("token"),
        _time("expires_at"),
        _text("process", nullable=True),
    )
    _create("warehouse_facts", ["name"], _text("name"), _text("value"))
    _create("stale_copies", ["review_date"], sa.Column("review_date", sa.Date(), nullable=False))
