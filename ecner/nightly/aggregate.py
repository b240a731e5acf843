"""Daily tables from mentions, in Polars: added up page by page, so that no day has to fit into memory."""

from collections.abc import Callable, Iterable, Iterator

import polars as pl

from ecner.schema import TABLES

_PAIRS = (("brand", "product"), ("brand", "model_number"))
MIXED = "mixed"
_ENTITY = ("review_date", "entity_type", "canonical")
_PAIR = ("review_date", "left_type", "left_name", "right_type", "right_name")
MENTION_COLUMNS = (*_ENTITY, "review_id", "text_hash", "product_id", "confidence", "model_version")
_ROWS_HELD = 200_000


class DailyCounts:
    """Counts of entities and pairs of some days; memory follows the numbers of entities and of their distinct texts."""

    def __init__(self) -> None:
        counts = [pl.col("mention_count", "review_count", "confidence", "rating", "rated").sum()]
        versions = [pl.col("first_version").min(), pl.col("last_version").max()]
        self._entities = _Folded(lambda rows: rows.group_by(_ENTITY).agg(*counts, *versions))
        self._texts = _Folded(lambda rows: rows.unique())
        self._products = _Folded(lambda rows: rows.unique())
        self._pairs = _Folded(lambda rows: rows.group_by(_PAIR).agg(pl.col("review_count").sum()))

    def add(self, mentions: pl.DataFrame, ratings: pl.DataFrame) -> None:
        """Adds all mentions of some reviews.

        Args:
            mentions: the columns MENTION_COLUMNS.
            ratings: review_id and rating of those reviews.
        """
        self._entities.add(_of_page(mentions, ratings))
        self._texts.add(mentions.select(*_ENTITY, "text_hash").unique())
        self._products.add(mentions.select(*_ENTITY, "product_id").drop_nulls().unique())
        self._pairs.add(_pairs_of_page(mentions))

    def entity_daily(self) -> pl.DataFrame:
        """Counts by day, type and name (table entity_daily).

        ``mean_rating`` is over the reviews that mention the entity, each once; ``mean_confidence`` over the mentions.
        """
        entities = self._entities.rows
        if entities is None:
            return TABLES["entity_daily"].polars_schema.to_frame()
        for name, distinct in (("unique_text_count", self._texts.rows), ("product_count", self._products.rows)):
            assert distinct is not None  # noqa: S101 - they are added together
            entities = entities.join(distinct.group_by(_ENTITY).agg(pl.len().alias(name)), on=_ENTITY, how="left")
        first, last = pl.col("first_version"), pl.col("last_version")
        return entities.with_columns(
            pl.col("product_count").fill_null(0),
            mean_confidence=pl.col("confidence") / pl.col("mention_count"),
            mean_rating=pl.when(pl.col("rated") > 0).then(pl.col("rating") / pl.col("rated")),
            model_version=pl.when(first == last).then(first).otherwise(pl.lit(MIXED)),
        ).sort(_ENTITY)

    def entity_pairs_daily(self) -> pl.DataFrame:
        """In how many reviews of a day two entities stand together (entity_pairs_daily), the brand on the left."""
        pairs = self._pairs.rows
        return TABLES["entity_pairs_daily"].polars_schema.to_frame() if pairs is None else pairs.sort(_PAIR)


def whole_reviews(pages: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Pages of mentions in the order of review_id, cut anew so that no review lies in two of them."""
    held: pl.DataFrame | None = None
    for page in pages:
        rows = page if held is None else pl.concat([held, page])
        is_last = rows["review_id"] == rows["review_id"][-1]
        held, complete = rows.filter(is_last), rows.filter(~is_last)
        if not complete.is_empty():
            yield complete
    if held is not None:
        yield held


class _Folded:
    """Rows that are folded into fewer whenever many have come together."""

    def __init__(self, fold: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self._fold, self._held = fold, list[pl.DataFrame]()
        self._limit = _ROWS_HELD

    def add(self, rows: pl.DataFrame) -> None:
        self._held.append(rows)
        if sum(map(len, self._held)) > self._limit:
            folded = self.rows
            assert folded is not None  # noqa: S101
            self._limit = max(_ROWS_HELD, 2 * len(folded))

    @property
    def rows(self) -> pl.DataFrame | None:
        """All of them, folded; None where none came."""
        if self._held:
            self._held = [self._fold(pl.concat(self._held)).select(self._held[0].columns)]
        return self._held[0] if self._held else None


def _of_page(mentions: pl.DataFrame, ratings: pl.DataFrame) -> pl.DataFrame:
    rated = (
        mentions.select(*_ENTITY, "review_id")
        .unique()
        .join(ratings.select("review_id", "rating"), on="review_id", how="left")
        .group_by(_ENTITY)
        .agg(review_count=pl.len(), rating=pl.col("rating").sum(), rated=pl.col("rating").count())
    )
    version = pl.col("model_version")
    return (
        mentions.group_by(_ENTITY)
        .agg(
            mention_count=pl.len(),
            confidence=pl.col("confidence").sum(),
            first_version=version.min(),
            last_version=version.max(),
        )
        .join(rated, on=_ENTITY)
    )


def _pairs_of_page(mentions: pl.DataFrame) -> pl.DataFrame:
    names = mentions.select("review_date", "review_id", "entity_type", "canonical").unique()
    pairs = [
        _named(names, left, "left").join(_named(names, right, "right"), on=["review_date", "review_id"])
        for left, right in _PAIRS
    ]
    return pl.concat(pairs).group_by(_PAIR).agg(review_count=pl.len())


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
