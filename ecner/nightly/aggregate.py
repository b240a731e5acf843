"""Daily tables from a day's mentions and reviews, in Polars."""

import polars as pl

_PAIRS = (("brand", "product"), ("brand", "model_number"))
MIXED = "mixed"


def entity_daily(mentions: pl.DataFrame, reviews: pl.DataFrame) -> pl.DataFrame:
    """Counts by day, type and name (table entity_daily).

    ``mean_rating`` is over the reviews that mention the entity, each once; ``mean_confidence`` over the mentions.

    Args:
        mentions: rows of the table mentions, whole days.
        reviews: review_id and rating of those days' reviews.
    """
    by = ["review_date", "entity_type", "canonical"]
    ratings = (
        mentions.select(*by, "review_id")
        .unique()
        .join(reviews.select("review_id", "rating"), on="review_id", how="left")
        .group_by(by)
        .agg(mean_rating=pl.col("rating").mean())
    )
    versions = pl.col("model_version")
    return (
        mentions.sort("review_id", "mention_no")
        .group_by(by)
        .agg(
            mention_count=pl.len(),
            review_count=pl.col("review_id").n_unique(),
            unique_text_count=pl.col("text_hash").n_unique(),
            product_count=pl.col("product_id").drop_nulls().n_unique(),
            mean_confidence=pl.col("confidence").mean(),
            model_version=pl.when(versions.n_unique() == 1).then(versions.first()).otherwise(pl.lit(MIXED)),
        )
        .join(ratings, on=by)
        .sort(by)
    )


def entity_pairs_daily(mentions: pl.DataFrame) -> pl.DataFrame:
    """In how many reviews of a day two entities stand together (table entity_pairs_daily), the brand on the left."""
    names = mentions.select("review_date", "review_id", "entity_type", "canonical").unique()
    pairs = [
        _named(names, left, "left").join(_named(names, right, "right"), on=["review_date", "review_id"])
        for left, right in _PAIRS
    ]
    by = ["review_date", "left_type", "left_name", "right_type", "right_name"]
    return pl.concat(pairs).group_by(by).agg(review_count=pl.len()).sort(by)


def _named(names: pl.DataFrame, entity_type: str, side: str) -> pl.DataFrame:
    return names.filter(pl.col("entity_type") == entity_type).rename(
        {"entity_type": f"{side}_type", "canonical": f"{side}_name"}
    )


def calendar(days: pl.Series) -> pl.DataFrame:
    """Rows of the table calendar for some days and a week to either side, so that no week lacks the one before it."""
    around = pl.DataFrame({"date": days}, schema={"date": pl.Date()}).join(
        pl.DataFrame({"offset": range(-7, 8)}), how="cross"
    )
    dates = around.select(pl.col("date") + pl.duration(days="offset")).unique().sort("date")
    return dates.with_columns(
        week_start=pl.col("date").dt.truncate("1w"), month_start=pl.col("date").dt.truncate("1mo")
    )
