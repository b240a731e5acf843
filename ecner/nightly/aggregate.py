"""Counts of a day, a week or a month from mentions, in Polars: added up page by page, and days into longer periods."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import polars as pl

_PAIRS = (("brand", "product"), ("brand", "model_number"))
MIXED = "mixed"
ENTITY, TYPE = ("entity_type", "canonical"), ("entity_type",)
PAIR = ("left_type", "left_name", "right_type", "right_name")
_TEXT, _VERSION = ("text_hash", "cluster"), "model_version"
_PRODUCT, _OF_PRODUCTS = "product_id", ("product", "brand")
_ADDED = ("mention_count", "review_count", "confidence", "rating", "rated")
_SUMS = (pl.col(_ADDED).sum(), pl.col("first_review_id").min())
MENTION_COLUMNS = (*ENTITY, "review_id", "text_hash", _PRODUCT, "confidence", _VERSION)
_ROWS_HELD = 200_000


class PeriodCounts:
    """Counts of entities, their types and pairs of one period; memory follows the entities and their texts."""

    def __init__(self) -> None:
        self._entities = _Folded(lambda rows: rows.group_by(*ENTITY, _VERSION).agg(*_SUMS))
        self._types = _Folded(lambda rows: rows.group_by(*TYPE, _VERSION).agg(*_SUMS))
        self._texts = _Folded(lambda rows: rows.group_by(*ENTITY, *_TEXT, _PRODUCT).agg(pl.col("review_count").sum()))
        self._pairs = _Folded(lambda rows: rows.group_by(PAIR).agg(pl.col("review_count").sum()))
        self._pair_texts = _Folded(lambda rows: rows.unique())

    @property
    def _folded(self) -> "tuple[_Folded, ...]":
        return self._entities, self._types, self._texts, self._pairs, self._pair_texts

    def add(self, mentions: pl.DataFrame, ratings: pl.DataFrame) -> None:
        """Adds all mentions of some reviews.

        Args:
            mentions: the columns MENTION_COLUMNS, and ``cluster``, that of the text.
            ratings: review_id and rating of those reviews.
        """
        pairs = _pairs_of_page(mentions)
        pages = (
            _of_page(mentions, ratings, ENTITY),
            _of_page(mentions, ratings, TYPE),
            mentions.group_by(*ENTITY, *_TEXT, _PRODUCT).agg(review_count=pl.col("review_id").n_unique()),
            pairs.group_by(PAIR).agg(review_count=pl.len()),
            pairs.select(*PAIR, *_TEXT).unique(),
        )
        for folded, page in zip(self._folded, pages, strict=True):
            folded.add(page)

    def absorb(self, part: "PeriodCounts") -> None:
        """Adds what a part of the period came to; no review is in two parts."""
        for folded, other in zip(self._folded, part._folded, strict=True):  # noqa: SLF001 - of the same class
            if (rows := other.rows) is not None:
                folded.add(rows)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was mentioned."""
        return self._entities.rows is None

    def by_version(self, key: Sequence[str] = ENTITY) -> pl.DataFrame:
        """Mentions of each entity, or type, as each model read them: the key, model_version, mention_count."""
        return self._whole(self._entities).group_by(*key, _VERSION).agg(pl.col("mention_count").sum())

    def entities(self) -> pl.DataFrame:
        """Counts by type and name, in their order.

        ``mean_rating`` is over the reviews that mention the entity, each once, and ``first_review_id`` the least id of
        theirs; ``mean_confidence`` is over the mentions, whose sum is ``probability_mass``.
        """
        products = self._whole(self._texts).drop_nulls(_PRODUCT).group_by(ENTITY)
        return (
            self._sums(self._entities, ENTITY)
            .join(products.agg(product_count=pl.col(_PRODUCT).n_unique()), on=ENTITY, how="left")
            .with_columns(
                pl.col("product_count").fill_null(0),
                mean_confidence=pl.col("probability_mass") / pl.col("mention_count"),
                mean_rating=pl.when(pl.col("rated") > 0).then(pl.col("rating") / pl.col("rated")),
            )
            .sort(ENTITY)
        )

    def types(self) -> pl.DataFrame:
        """Counts by type: a review or text that mentions several of its entities counts once."""
        return self._sums(self._types, TYPE).sort(TYPE)

    def of_products(self) -> pl.DataFrame:
        """Counts of the products and brands that reviews of each product mention, by product_id and entity.

        A text, and a cluster, counts for one product, the first by id: so counts of several products add up, and copies
        of a text under many products are one voice.
        """
        rows = self._whole(self._texts).drop_nulls(_PRODUCT).filter(pl.col("entity_type").is_in(_OF_PRODUCTS))
        counts = rows.group_by(_PRODUCT, *ENTITY).agg(pl.col("review_count").sum())
        for name, of in (("unique_text_count", "text_hash"), ("cluster_count", "cluster")):
            firsts = rows.group_by(*ENTITY, of).agg(pl.col(_PRODUCT).min())
            owned = firsts.group_by(_PRODUCT, *ENTITY).agg(pl.len().cast(pl.Int64).alias(name))
            counts = counts.join(owned, on=[_PRODUCT, *ENTITY], how="left")
        return counts.with_columns(pl.col("unique_text_count", "cluster_count").fill_null(0)).sort(_PRODUCT, *ENTITY)

    def pairs(self) -> pl.DataFrame:
        """In how many reviews, texts and clusters two entities stand together, the brand on the left."""
        texts = _distinct_texts(self._whole(self._pair_texts), PAIR)
        return self._whole(self._pairs).join(texts, on=PAIR).sort(PAIR)

    def _sums(self, folded: "_Folded", key: Sequence[str]) -> pl.DataFrame:
        version = pl.col(_VERSION)
        mixed = pl.when(version.n_unique() == 1).then(version.first()).otherwise(pl.lit(MIXED))
        sums = self._whole(folded).group_by(key).agg(*_SUMS, model_version=mixed)
        texts = _distinct_texts(self._whole(self._texts), key)
        return sums.join(texts, on=key).rename({"confidence": "probability_mass"})

    @staticmethod
    def _whole(folded: "_Folded") -> pl.DataFrame:
        rows = folded.rows
        assert rows is not None  # noqa: S101 - is_empty is asked first
        return rows


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
        if len(self._held) > 1:
            self._held = [self._fold(pl.concat(self._held)).select(self._held[0].columns)]
        return self._held[0] if self._held else None


def _distinct_texts(texts: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    counts = {"unique_text_count": pl.col("text_hash").n_unique(), "cluster_count": pl.col("cluster").n_unique()}
    return texts.group_by(key).agg(**{name: count.cast(pl.Int64) for name, count in counts.items()})


def _of_page(mentions: pl.DataFrame, ratings: pl.DataFrame, of: Sequence[str]) -> pl.DataFrame:
    key = [*of, _VERSION]
    rated = (
        mentions.select(*key, "review_id")
        .unique()
        .join(ratings.select("review_id", "rating"), on="review_id", how="left")
        .group_by(key)
        .agg(
            review_count=pl.len().cast(pl.Int64),
            rating=pl.col("rating").sum(),
            rated=pl.col("rating").count(),
            first_review_id=pl.col("review_id").min(),
        )
    )
    counts = mentions.group_by(key).agg(mention_count=pl.len().cast(pl.Int64), confidence=pl.col("confidence").sum())
    return counts.join(rated, on=key)


def _pairs_of_page(mentions: pl.DataFrame) -> pl.DataFrame:
    """Each pair of a review (PAIR), with the review's text and cluster."""
    names = mentions.select("review_id", *_TEXT, *ENTITY).unique()
    return pl.concat(
        _named(names, left, "left").join(_named(names, right, "right").drop(_TEXT), on="review_id")
        for left, right in _PAIRS
    )


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
