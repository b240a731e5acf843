"""The figures of views on random data, worked out from mentions in Polars and plain Python."""

from collections.abc import Iterator
from datetime import date, timedelta
from fractions import Fraction
from math import comb, exp, sqrt
from statistics import NormalDist
from typing import Any

import polars as pl
from scipy.stats import binomtest

from tests.sql.nights import EVALUATED_ON

Tables = dict[str, pl.DataFrame]
ENTITY = ["entity_type", "canonical"]
PERIOD = ["period", "period_start"]
KEY = [*PERIOD, *ENTITY]
Z = NormalDist().inv_cdf(0.95)


def dated(tables: Tables, name: str) -> pl.DataFrame:
    return tables[name].join(tables["calendar"], left_on="review_date", right_on="date")


def clustered(tables: Tables, name: str) -> pl.DataFrame:
    """Rows with the days of their weeks and months, and their texts' clusters."""
    known = tables["text_clusters"].select("text_hash", "cluster_id")
    rows = dated(tables, name).join(known, on="text_hash", how="left")
    return rows.with_columns(cluster=pl.coalesce("cluster_id", "text_hash")).drop("cluster_id")


def in_periods(tables: Tables, name: str) -> pl.DataFrame:
    """Rows once for their week and once for their month (PERIOD)."""
    rows = clustered(tables, name)
    return pl.concat(rows.with_columns(period=pl.lit(kind), period_start=f"{kind}_start") for kind in ("week", "month"))


def texts() -> dict[str, pl.Expr]:
    return {
        "review_count": pl.col("review_id").n_unique().cast(pl.Int64),
        "unique_text_count": pl.col("text_hash").n_unique().cast(pl.Int64),
        "cluster_count": pl.col("cluster").n_unique().cast(pl.Int64),
    }


def coverage_periods(tables: Tables) -> pl.DataFrame:
    return in_periods(tables, "review_coverage").group_by(PERIOD).agg(**texts())


def corrected_counts(tables: Tables) -> pl.DataFrame:
    return _corrected(tables, KEY)


def type_counts(tables: Tables) -> pl.DataFrame:
    return _corrected(tables, [*PERIOD, "entity_type"])


def _corrected(tables: Tables, key: list[str]) -> pl.DataFrame:
    counts = in_periods(tables, "mentions").group_by(key).agg(
        mention_count=pl.len().cast(pl.Int64), probability_mass=pl.col("confidence").sum(), **texts(),
        model_version=pl.col("model_version").first(),
    )  # fmt: skip
    quality = {
        (row["metric"], row["entity_type"]): row
        for row in tables["model_evaluations"].filter(version="m", dataset=EVALUATED_ON).to_dicts()
    }
    rows = [row | _interval(row["mention_count"], row["entity_type"], quality) for row in counts.to_dicts()]
    return pl.DataFrame(rows, infer_schema_length=None)


def _interval(found: int, kind: str, quality: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    if ("strict_recall", kind) not in quality:
        return dict.fromkeys(["corrected_count", "corrected_lower", "corrected_upper", "evaluated_on"])
    precision, recall = (quality[f"strict_{name}", kind]["value"] for name in ("precision", "recall"))
    gold = quality["strict_recall", kind]["support"]
    right, predicted = gold * recall, gold * recall / precision
    both = (right + 0.5) / (predicted + 1) * (right + 0.5) / (gold + 1)
    count = found * gold / predicted
    spread = exp(Z * sqrt((1 - both) * (1 / found + 1 / predicted)))
    return {
        "corrected_count": count,
        "corrected_lower": count / spread,
        "corrected_upper": count * spread,
        "evaluated_on": EVALUATED_ON,
    }


def count_agreement(tables: Tables) -> pl.DataFrame:
    mass = pl.col("probability_mass")
    inside = mass.is_between("corrected_lower", "corrected_upper")
    return (
        corrected_counts(tables)
        .drop_nulls("corrected_count")
        .group_by(*PERIOD, "entity_type")
        .agg(
            pl.col("mention_count", "corrected_count", "probability_mass").sum(),
            entity_count=pl.len(),
            mass_ratio=mass.sum() / pl.col("corrected_count").sum(),
            inside_count=inside.sum(),
            inside_share=inside.mean(),
        )
    )


def movements(tables: Tables) -> pl.DataFrame:
    counts = {row[:4]: row[4:] for row in in_periods(tables, "mentions").group_by(KEY).agg(**texts()).iter_rows()}
    coverage = in_periods(tables, "review_coverage").group_by(PERIOD).agg(pl.col("cluster").n_unique())
    read = {row[:2]: row[2] for row in coverage.iter_rows()}
    rows = []
    for period, clusters in read.items():
        before = _before(*period)
        if before in read:
            names = {key[2:] for key in counts if key[:2] in (period, before)}
            moved = [_moved(period, before, name, counts, (clusters, read[before])) for name in names]
            rows += list(_adjusted(moved))
    return pl.DataFrame(rows, infer_schema_length=None)


def _before(kind: str, start: date) -> tuple[str, date]:
    return kind, start - timedelta(days=7) if kind == "week" else (start - timedelta(days=1)).replace(day=1)


def _moved(
    period: tuple[str, date], before: tuple[str, date], name: tuple[str, str], counts: Any, read: tuple[int, int]
) -> dict[str, Any]:
    sides = [counts.get((*part, *name), (0, 0, 0)) for part in (period, before)]
    x, x0 = (side[2] for side in sides)
    theta, total, exposure = Fraction(read[0], sum(read)), x + x0, read[0] / read[1]
    chances = [comb(total, k) * theta**k * (1 - theta) ** (total - k) for k in range(total + 1)]
    limits = binomtest(x, total).proportion_ci(0.9, method="exact")
    columns = ["review_count", "unique_text_count", "cluster_count"]
    return {
        **dict(zip(KEY, (*period, *name), strict=True)),
        **dict(zip(columns, sides[0], strict=True)),
        **dict(zip([f"previous_{column}" for column in columns], sides[1], strict=True)),
        "ratio": x / x0 / exposure if x and x0 else None,
        "ratio_lower": limits.low / (1 - limits.low) / exposure,
        "ratio_upper": limits.high / (1 - limits.high) / exposure if x0 else None,
        "is_break": 0,
        "expected_lower": 1.0,
        "expected_upper": 1.0,
        "p_value": float(min(1, 2 * min(sum(chances[x:]), sum(chances[: x + 1])))),
        "rises": not x0 or x / x0 > exposure,
    }


def _adjusted(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        p = sorted(other["p_value"] for other in rows if other["entity_type"] == row["entity_type"])
        later = [len(p) * value / (rank + 1) for rank, value in enumerate(p) if value >= row["p_value"] - 1e-12]
        q = min(1.0, *later)
        rises = row.pop("rises")
        yield row | {"q_value": q, "movement": "steady" if q > 0.05 else ("rise" if rises else "fall")}


def pairs(tables: Tables, key: list[str], frame: pl.DataFrame) -> pl.DataFrame:
    """Reviews, texts and clusters in which a brand and a product or model number stand together."""
    brands = frame.filter(entity_type="brand").select(*key, "review_id", "text_hash", "cluster", brand="canonical")
    others = frame.filter(pl.col("entity_type").is_in(["product", "model_number"])).select(
        *key, "review_id", other_type="entity_type", other="canonical"
    )
    return brands.join(others, on=[*key, "review_id"]).group_by(*key, "brand", "other_type", "other").agg(**texts())


def co_mentions(tables: Tables) -> pl.DataFrame:
    mentions = in_periods(tables, "mentions")
    alone = mentions.group_by(KEY).agg(clusters=pl.col("cluster").n_unique().cast(pl.Int64))
    coverage = in_periods(tables, "review_coverage").group_by(PERIOD).agg(read=pl.col("cluster").n_unique())
    brands = alone.filter(entity_type="brand").drop("entity_type").rename({"canonical": "brand"})
    joined = (
        pairs(tables, PERIOD, mentions)
        .join(brands, on=[*PERIOD, "brand"])
        .rename({"clusters": "left"})
        .join(alone.rename({"entity_type": "other_type", "canonical": "other"}), on=[*PERIOD, "other_type", "other"])
        .rename({"clusters": "right"})
        .join(coverage, on=PERIOD)
    )
    rows = []
    for row in joined.to_dicts():
        left, right, read = row.pop("left"), row.pop("right"), row.pop("read")
        lift = row["cluster_count"] * read / (left * right)
        variance = 1 / row["cluster_count"] - 1 / left - 1 / right + (2 * lift - 1) / read
        spread = exp(Z * sqrt(max(variance, 0)))
        rows.append(row | {"lift": lift, "lift_lower": lift / spread, "lift_upper": lift * spread})
    return pl.DataFrame(rows)


def share_of_voice(tables: Tables) -> pl.DataFrame:
    mentions = clustered(tables, "mentions").filter(pl.col("product_id").is_not_null())
    categories = (
        mentions.filter(entity_type="product")
        .group_by("product_id", category="canonical")
        .agg(reviews=pl.col("review_id").n_unique())
        .sort("reviews", "category", descending=[True, False])
        .unique("product_id", keep="first", maintain_order=True)
        .drop("reviews")
    )
    brands = mentions.filter(entity_type="brand").rename({"canonical": "brand"})
    voices = brands.join(categories, on="product_id").group_by("month_start", "category", "brand").agg(
        review_count=pl.col("review_id").n_unique()
    )  # fmt: skip
    key = ["month_start", "category", "brand"]
    for name, column in (("unique_text_count", "text_hash"), ("cluster_count", "cluster")):
        once = brands.sort("product_id").unique(["month_start", "brand", column], keep="first", maintain_order=True)
        counted = once.join(categories, on="product_id").group_by(key).agg(pl.len().alias(name))
        voices = voices.join(counted, on=key, how="left").with_columns(pl.col(name).fill_null(0))
    count, whole = pl.col("cluster_count"), pl.col("cluster_count").sum().over("month_start", "category")
    return voices.with_columns(share_of_voice=pl.when(whole > 0).then(count / whole))


def duplicate_clusters(tables: Tables) -> pl.DataFrame:
    return (
        clustered(tables, "review_coverage")
        .group_by(cluster_id="cluster")
        .agg(
            text_count=pl.col("text_hash").n_unique(),
            review_count=pl.len(),
            product_count=pl.col("product_id").drop_nulls().n_unique(),
            first_date=pl.col("review_date").min(),
            last_date=pl.col("review_date").max(),
        )
        .filter(pl.col("review_count") > 1)
    )


def entities(tables: Tables) -> pl.DataFrame:
    in_a_month = clustered(tables, "mentions").unique([*ENTITY, "month_start", "text_hash"]).group_by(ENTITY).agg(
        unique_text_count=pl.len(), cluster_count=pl.struct("month_start", "cluster").n_unique(),
    )  # fmt: skip
    return tables["mentions"].group_by(ENTITY).agg(
        mention_count=pl.len(), review_count=pl.col("review_id").n_unique(), first_date=pl.col("review_date").min(),
        last_date=pl.col("review_date").max(),
    ).join(in_a_month, on=ENTITY)  # fmt: skip


def entity_aliases(tables: Tables) -> pl.DataFrame:
    return tables["mentions"].group_by(*ENTITY, alias="surface").agg(mention_count=pl.len())


def link_queue(tables: Tables) -> pl.DataFrame:
    decided = {
        (row["entity_type"], frozenset((row["alias"], row["canonical"]))) for row in tables["link_decisions"].to_dicts()
    }
    suggested = tables["link_suggestions"]
    is_open = [
        (row["entity_type"], frozenset((row["alias"], row["canonical"]))) not in decided for row in suggested.to_dicts()
    ]
    assert True in is_open
    assert False in is_open
    return suggested.filter(pl.Series(is_open))


def new_entities(tables: Tables) -> pl.DataFrame:
    ordered = dated(tables, "mentions").sort("review_date", "review_id", "start_char")
    context = pl.col("left_context") + "[" + pl.col("surface") + "]" + pl.col("right_context")
    spans = tables["text_spans"].select("text_hash", "start_char", first_context=context)
    firsts = ordered.group_by(ENTITY, maintain_order=True).agg(
        pl.col("text_hash", "start_char").first(),
        first_date=pl.col("review_date").first(),
        first_week=pl.col("week_start").first(),
        first_review_id=pl.col("review_id").first(),
    )
    counts = entities(tables).drop("first_date", "last_date")
    return firsts.join(spans, on=["text_hash", "start_char"], how="left").drop("text_hash", "start_char").join(
        counts, on=ENTITY
    )  # fmt: skip
