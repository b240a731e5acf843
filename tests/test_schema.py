from datetime import UTC, date, datetime

import polars as pl
import pytest

from ecner.schema import TABLES, Column, Table

CONTRACT = {
    "mentions": "*review_id *mention_no product_id review_date entity_type surface canonical start_char end_char "
    "confidence text_hash model_version run_id",
    "review_coverage": "*review_id product_id rating created_at updated_at review_date chars chars_read windows "
    "mention_count text_hash fingerprint model_version run_id",
    "entity_daily": "*review_date *entity_type *canonical mention_count review_count unique_text_count "
    "product_count mean_confidence mean_rating model_version cluster_count first_review_id",
    "entity_pairs_daily": "*review_date *left_type *left_name *right_type *right_name review_count unique_text_count "
    "cluster_count",
    "rejected_reviews": "*run_id *source_row review_id reason detail",
    "text_readings": "*fingerprint *text_hash chars chars_read windows unknown_chars",
    "text_spans": "*fingerprint *text_hash *span_no label start_char end_char confidence surface "
    "left_context right_context",
    "extraction_runs": "*run_id source status started_at finished_at watermark_column watermark_low watermark_high "
    "reviews_in reviews_rejected texts_unique texts_cached texts_inferred mentions_out model_version error "
    "publish_hash reviews_deleted",
    "model_versions": "*version created_at status architecture base data_fingerprint parent uri reason",
    "model_evaluations": "*version *dataset *metric *entity_type value support",
    "model_promotions": "*promotion_no promoted_at action version previous_version",
    "gate_decisions": "*version *champion *rule outcome value lower upper allowed detail decided_at",
    "model_bridge": "*old_version *new_version *entity_type *canonical old_count new_count reviews",
    "drift_metrics": "*run_id *entity_type *metric value baseline baseline_runs allowed drifted",
    "link_decisions": "*decision_no decided_at decided_by action entity_type alias canonical",
    "link_suggestions": "*entity_type *alias *canonical kind score alias_count canonical_count together_count "
    "adjacent_count shared_slots alias_example canonical_example suggested_at",
    "text_clusters": "*text_hash cluster_id band_1 band_2 band_3 band_4 band_5 band_6 band_7 band_8 band_9 band_10 "
    "band_11 band_12",
    "entity_periods": "*period *period_start *entity_type *canonical mention_count review_count unique_text_count "
    "cluster_count product_count probability_mass corrected_count corrected_lower corrected_upper evaluated_on "
    "model_version",
    "type_periods": "*period *period_start *entity_type mention_count review_count unique_text_count cluster_count "
    "probability_mass corrected_count corrected_lower corrected_upper evaluated_on model_version",
    "pair_periods": "*period *period_start *left_type *left_name *right_type *right_name review_count "
    "unique_text_count cluster_count lift lift_lower lift_upper",
    "product_entities": "*month_start *product_id *entity_type *canonical review_count unique_text_count cluster_count",
    "period_coverage": "*period *period_start *model_version review_count unique_text_count cluster_count",
    "entity_movements": "*period *period_start *entity_type *canonical review_count unique_text_count cluster_count "
    "previous_review_count previous_unique_text_count previous_cluster_count ratio ratio_lower ratio_upper "
    "expected_lower expected_upper is_break p_value q_value",
    "annotations": "review_id text spans label annotator labelled_at",
    "tombstones": "*kind *hash updated_at removed_at",
    "leases": "*name holder token expires_at process",
    "stale_copies": "*review_date",
    "warehouse_facts": "*name value",
    "calendar": "*date week_start month_start",
}
TABLE = Table(
    "things",
    (
        Column("id", "text", key=True),
        Column("no", "int", key=True),
        Column("size", "float", nullable=True),
        Column("day", "date", nullable=True),
        Column("at", "time", nullable=True),
    ),
)
ROWS = pl.DataFrame(
    {
        "id": ["a", "b"],
        "no": [1, 1],
        "size": [1.5, None],
        "day": [date(2024, 2, 29), None],
        "at": [None, None],
    },
    schema=TABLE.polars_schema,
)


def test_columns_and_keys_are_those_of_the_contract():
    defined = {
        name: " ".join(f"{'*' if column.key else ''}{column.name}" for column in table.columns)
        for name, table in TABLES.items()
    }
    assert defined == CONTRACT


def test_no_key_is_nullable():
    assert not [c for table in TABLES.values() for c in table.columns if c.key and c.nullable]


def test_validate_selects_orders_and_widens():
    given = ROWS.reverse().select(
        pl.lit("x").alias("extra"),
        pl.lit(None).alias("at"),
        "day",
        pl.col("size").cast(pl.Float32),
        pl.col("no").cast(pl.UInt8),
        pl.col("id").cast(pl.Categorical),
    )
    assert TABLE.validate(given).equals(ROWS.reverse())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("no").cast(pl.Float64), "no is Float64: expected Int64"),
        (pl.col("no").cast(pl.String), "no is String: expected Int64"),
        (pl.lit(True).alias("size"), "size is Boolean"),
        (pl.lit("2024-01-01").alias("day"), "day is String: expected Date"),
        (pl.lit(datetime(2024, 1, 1)).alias("at"), "at is Datetime"),  # noqa: DTZ001
        (pl.lit(None, pl.String).alias("id"), "id holds 2 null"),
        (pl.lit(None).alias("id"), "id holds 2 null"),
        (pl.lit("a\0b").alias("id"), "expected text without NUL"),
        (pl.lit(float("nan")).alias("size"), "expected finite numbers"),
        (pl.lit(2**63, pl.UInt64).alias("no"), "conversion from `u64` to `i64` failed"),
        (pl.lit(10**7, pl.Int32).cast(pl.Date).alias("day"), "expected days of the years 1 to 9999"),
        (
            pl.lit(2**62, pl.Int64).cast(pl.Datetime("us", "UTC")).alias("at"),
            "at holds a value that cannot be stored",
        ),
    ],
)
def test_validate_names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        TABLE.validate(ROWS.with_columns(change))


def test_validate_names_all_problems_at_once():
    with pytest.raises(ValueError, match=r"things: id holds 2 null.*; no is String.*; size is missing"):
        TABLE.validate(ROWS.drop("size").with_columns(pl.lit(None).alias("id"), pl.col("no").cast(pl.String)))


def test_validate_refuses_a_key_that_stands_twice():
    with pytest.raises(ValueError, match=r"2 share a key, such as \{'id': 'a', 'no': 1\}"):
        TABLE.validate(pl.concat([ROWS, ROWS.head(1)]))


def test_a_table_without_a_key_takes_a_row_twice():
    table = Table("notes", (Column("text", "text", nullable=True),))
    rows = pl.DataFrame({"text": ["a", "a", None, None]})
    assert table.validate(rows).equals(rows)


def test_times_of_other_precision_are_taken():
    at = datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
    for unit in ("ms", "us", "ns"):
        given = ROWS.with_columns(pl.lit(at).cast(pl.Datetime(unit, "UTC")).alias("at"))
        assert TABLE.validate(given)["at"].to_list() == [at, at]
