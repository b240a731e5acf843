import re
from collections.abc import Callable
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from polars import selectors as cs
from polars.testing import assert_frame_equal

from ecner.errors import UsageError
from ecner.resources import resource
from ecner.schema import TABLES
from ecner.storage.query import run_query
from ecner.storage.views import view_header, view_names
from tests.sql import figures
from tests.sql.figures import ENTITY, Tables, clustered, dated, pairs, texts
from tests.sql.nights import A_FEW_NIGHTS, SILENT_WEEK, nights, publish


def top_entities(period: str) -> Callable[[Tables], pl.DataFrame]:
    def expected(tables: Tables) -> pl.DataFrame:
        counts = (
            clustered(tables, "mentions")
            .with_columns(period=period)
            .group_by("period", *ENTITY)
            .agg(
                mention_count=pl.len(),
                product_count=pl.col("product_id").drop_nulls().n_unique(),
                **texts(),
            )
        )
        order = ["review_count", "unique_text_count", "canonical"]
        ranked = counts.sort(order, descending=[True, True, False])
        return ranked.with_columns(rank=pl.int_range(1, pl.len() + 1).over("period", "entity_type"))

    return expected


def week_over_week_movers(tables: Tables) -> pl.DataFrame:
    weekly = clustered(tables, "mentions").group_by("week_start", *ENTITY).agg(**texts())
    names = {f"previous_{name}": name for name in texts()}
    before = weekly.select(pl.col("week_start") + timedelta(days=7), *ENTITY, **names)
    read = set(dated(tables, "review_coverage")["week_start"])
    compared = [week for week in read if week - timedelta(days=7) in read]
    now, then = pl.col("review_count"), pl.col("previous_review_count")
    return (
        weekly.join(before, on=["week_start", *ENTITY], how="full", coalesce=True)
        .filter(pl.col("week_start").is_in(compared))
        .with_columns(pl.col(*names, *texts()).fill_null(0))
        .with_columns(change=now - then, change_ratio=pl.when(then > 0).then((now - then) / then))
    )


def brand_pairs(right: str) -> Callable[[Tables], pl.DataFrame]:
    def expected(tables: Tables) -> pl.DataFrame:
        weekly = pairs(tables, ["week_start"], clustered(tables, "mentions")).filter(other_type=right)
        counts = weekly.select("week_start", "brand", *texts(), **{right: "other"})
        return counts.with_columns(total_review_count=pl.col("review_count").sum().over("brand", right))

    return expected


def share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(part / whole)


def run_history(tables: Tables) -> pl.DataFrame:
    runs = tables["extraction_runs"].drop("publish_hash")
    return runs.with_columns(
        rejected_share=share(pl.col("reviews_rejected"), pl.col("reviews_in")),
        cached_share=share(pl.col("texts_cached"), pl.col("texts_unique")),
    )


def model_quality(tables: Tables) -> pl.DataFrame:
    versions = tables["model_versions"].drop("data_fingerprint", "parent", "uri", "reason")
    return tables["model_evaluations"].join(versions, on="version")


def rejections(tables: Tables) -> pl.DataFrame:
    counts = tables["rejected_reviews"].group_by("run_id", "reason").agg(review_count=pl.len())
    return counts.join(tables["extraction_runs"], on="run_id").select(
        "run_id",
        "started_at",
        "reason",
        "review_count",
        rejected_share=share(pl.col("review_count"), pl.col("reviews_in")),
    )


def drift(tables: Tables) -> pl.DataFrame:
    runs = tables["extraction_runs"].select("run_id", "finished_at", "source", "model_version")
    change = pl.when(pl.col("baseline") > 0).then(pl.col("value") / pl.col("baseline") - 1)
    return tables["drift_metrics"].join(runs, on="run_id").with_columns(change_ratio=change)


def coverage_daily(tables: Tables) -> pl.DataFrame:
    mentioning = pl.col("mention_count") > 0
    return (
        clustered(tables, "review_coverage")
        .group_by("week_start", "month_start", day="review_date")
        .agg(
            pl.col("chars", "chars_read", "mention_count").sum(),
            review_count=pl.len(),
            unique_text_count=pl.col("text_hash").n_unique(),
            cluster_count=pl.col("cluster").n_unique(),
            product_count=pl.col("product_id").drop_nulls().n_unique(),
            mentioning_count=mentioning.sum(),
            mentioning_share=mentioning.mean(),
            mean_rating=pl.col("rating").mean(),
        )
    )


EXPECTED: dict[str, Callable[[Tables], pl.DataFrame]] = {
    "top_entities_daily": top_entities("review_date"),
    "top_entities_weekly": top_entities("week_start"),
    "top_entities_monthly": top_entities("month_start"),
    "week_over_week_movers": week_over_week_movers,
    "new_entities": figures.new_entities,
    "entities": figures.entities,
    "entity_aliases": figures.entity_aliases,
    "link_queue": figures.link_queue,
    "link_history": lambda tables: tables["link_decisions"],
    "corrected_counts": figures.corrected_counts,
    "type_counts": figures.type_counts,
    "count_agreement": figures.count_agreement,
    "duplicate_clusters": figures.duplicate_clusters,
    "movements": figures.movements,
    "co_mentions": figures.co_mentions,
    "share_of_voice": figures.share_of_voice,
    "brand_product_pairs": brand_pairs("product"),
    "brand_model_pairs": brand_pairs("model_number"),
    "run_history": run_history,
    "model_quality": model_quality,
    "rejections": rejections,
    "coverage_daily": coverage_daily,
    "coverage_periods": figures.coverage_periods,
    "drift": drift,
}


def in_one_form(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns and rows in one order, counts of one width."""
    whole = frame.select(sorted(frame.columns)).cast({pl.UInt32: pl.Int64})
    return whole.with_columns(cs.float().round(9)).sort(~cs.float(), cs.float())


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@given(tables=nights())
@A_FEW_NIGHTS
def test_each_view_equals_its_counterpart_in_polars(new_place, database, tables):
    place = new_place(database)
    publish(place, tables)
    for view, expected in EXPECTED.items():
        try:
            wanted = in_one_form(expected(tables))
            found = in_one_form(run_query(*place, view))
            assert not found.is_empty()
            # A column without any value has no dtype in a query's result.
            untyped = {name: wanted.schema[name] for name, dtype in found.schema.items() if dtype == pl.Null}
            assert_frame_equal(found.cast(untyped), wanted)
        except AssertionError as error:
            error.add_note(f"in the view {view}")
            raise
    weeks = run_query(*place, "select distinct week_start from week_over_week_movers")["week_start"]
    assert SILENT_WEEK not in weeks
    assert SILENT_WEEK + timedelta(days=7) not in weeks


def test_views_of_an_empty_warehouse_are_empty(place, warehouse):
    assert [view for view in view_names() if not run_query(*place, view).is_empty()] == []


@pytest.mark.parametrize("view", EXPECTED)
def test_a_header_says_what_rows_and_columns_are_and_its_example_runs(place, warehouse, view):
    header = view_header(view)
    assert re.search("^A row is ", header, re.MULTILINE)
    described, example = header.split("\nExample, ")
    missing = [
        name for name in run_query(*place, view).columns if not re.search(rf"^.*\b{name}\b", described, re.MULTILINE)
    ]
    assert missing == []
    query = " ".join(line.strip() for line in example.splitlines() if line.startswith("  "))
    assert f"from {view}" in query
    run_query(*place, query)


@pytest.mark.parametrize("view", EXPECTED)
def test_a_file_is_one_drop_and_one_create(view):
    text = (resource("sql/views") / f"{view}.sql").read_text("utf-8")
    code = re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE)
    assert [" ".join(part.split()[:5]) for part in code.split(";")][:2] == [
        f"drop view if exists {view}",
        f"create view {view} as {'with' if 'with ' in code else 'select'}",
    ]
    assert code.count(";") == 2
    assert code.isascii()


def test_an_unknown_view_has_no_header():
    with pytest.raises(UsageError, match=r"no view 'nothing': expected one of .*run_history"):
        view_header("nothing")


def test_no_view_hides_a_table():
    assert not TABLES.keys() & set(view_names())
