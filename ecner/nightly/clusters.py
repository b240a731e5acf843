"""Clusters of texts that are nearly the same, kept from night to night.

Two texts belong together where their sketches agree in enough values, and so do all that are joined by such pairs: a
cluster is a connected component of the texts that reviews have, under the least text_hash of these, whatever the order
they came and went in. Texts that could agree are found by their bands: they have at least one in common
(locality-sensitive hashing; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4). With 12 bands of
4 values, two texts that share 75% of their pairs of characters have a band in common with probability
1 - (1 - 0.75^4)^12 = 0.99, and two that share 10%, 0.001.
"""

from datetime import date

import numpy as np
import polars as pl

from ecner.data.alike import join_alike
from ecner.data.sketches import sketch_texts
from ecner.schema import BANDS
from ecner.storage.transaction import Reader, Transaction

SKETCHES = pl.Schema({"text_hash": pl.String(), **dict.fromkeys(BANDS, pl.Int64())})
LEAST_AGREEMENT = 0.55  # of two sketches' values


def sketches_of(texts: pl.DataFrame) -> pl.DataFrame:
    """Sketches (schema SKETCHES) of texts with their hashes."""
    return pl.concat([texts.select("text_hash"), sketch_texts(texts["text"])], how="horizontal")


def add_texts(transaction: Transaction, sketches: pl.DataFrame) -> set[date]:
    """Puts new texts into clusters; returns the days of reviews whose texts count as one with others from now on.

    Args:
        transaction: of the night.
        sketches: the schema SKETCHES; texts that are known already are passed over.
    """
    known = transaction.lookup("text_clusters", "text_hash", sketches["text_hash"], columns=["text_hash"])
    new = _by_sketch(sketches.join(known, on="text_hash", how="anti").unique("text_hash"))
    held = _with_shared_bands(transaction, new)
    names = _names(new, held)
    added = _renamed(new, names)
    transaction.append("text_clusters", added)
    former = names.filter(pl.col("former").is_in(held["cluster_id"].implode()))
    moved = former.filter(pl.col("former") != pl.col("cluster_id")).select(cluster_id="former", to="cluster_id")
    transaction.rename("text_clusters", "cluster_id", moved, touching="cluster_id")
    merged = former.filter(pl.len().over("cluster_id") > 1)["cluster_id"]
    within = transaction.lookup("text_clusters", "cluster_id", merged, columns=["text_hash"])["text_hash"]
    is_beside = pl.col("cluster_id").is_duplicated() | pl.col("cluster_id").is_in(former["cluster_id"].implode())
    return _days(transaction, pl.concat([within, added.filter(is_beside)["text_hash"]]))


def remove_orphans(transaction: Transaction, texts: pl.Series) -> set[date]:
    """Removes those of some texts, by their hashes, that no review has; returns the days of reviews that they joined.

    What is left of their clusters is put together anew: it may fall apart, and takes the least of its texts as a name.
    """
    orphans = without_review(transaction, texts)
    touched = transaction.lookup("text_clusters", "text_hash", orphans, columns=["cluster_id"])["cluster_id"]
    transaction.delete("text_clusters", "text_hash", orphans)
    left = transaction.lookup("text_clusters", "cluster_id", touched)
    alone = _by_sketch(left)
    named = _renamed(alone, _names(alone, left.clear())).select("text_hash", to="cluster_id")
    both = named.join(left.select("text_hash", former="cluster_id"), on="text_hash")
    moved = both.filter(pl.col("former") != pl.col("to")).select("text_hash", "to")
    transaction.rename("text_clusters", "cluster_id", moved, touching="cluster_id")
    return _days(transaction, both.filter(pl.col("to").n_unique().over("former") > 1)["text_hash"])


def without_review(reader: Reader, texts: pl.Series) -> pl.Series:
    """Those of some texts, by their hashes, that no review has."""
    shared = reader.lookup("review_coverage", "text_hash", texts, columns=["text_hash"])["text_hash"]
    return texts.filter(~texts.is_in(shared.implode()))


def add_cluster(reader: Reader, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with their texts' clusters as ``cluster``; a text without a sketch is one of its own."""
    known = reader.lookup("text_clusters", "text_hash", rows["text_hash"], columns=["text_hash", "cluster_id"])
    joined = rows.join(known, on="text_hash", how="left", maintain_order="left")
    return joined.with_columns(cluster=pl.coalesce("cluster_id", "text_hash")).drop("cluster_id")


def _with_shared_bands(reader: Reader, new: pl.DataFrame) -> pl.DataFrame:
    """Texts of earlier nights (rows of text_clusters) that have a band in common with a new one."""
    found = [reader.lookup("text_clusters", band, new[band], columns=["text_hash"]) for band in BANDS]
    hashes = pl.concat(found)["text_hash"].unique()
    return reader.lookup("text_clusters", "text_hash", hashes)


def _by_sketch(texts: pl.DataFrame) -> pl.DataFrame:
    """Texts in clusters of equal sketches, under the least text_hash of each."""
    return texts.with_columns(cluster_id=pl.col("text_hash").min().over(BANDS))


def _names(new: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """The clusters of texts (former), and those that they become (cluster_id) by the new ones and what these join."""
    texts = pl.concat([part.select(*BANDS, "cluster_id", is_new=part is new) for part in (new, held)])
    each = texts.unique([*BANDS, "cluster_id"])
    labels = each["cluster_id"].rank("dense").cast(pl.Int64) - 1
    sketches = np.ascontiguousarray(each.select(BANDS).to_numpy())
    joined = join_alike(sketches, labels.to_numpy(), each["is_new"].to_numpy(), LEAST_AGREEMENT)
    named = pl.DataFrame({"former": each["cluster_id"], "component": joined}).unique()
    return named.select("former", cluster_id=pl.col("former").min().over("component"))


def _renamed(texts: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Texts with the names that their clusters have become."""
    return texts.rename({"cluster_id": "former"}).join(names, on="former").drop("former")


def _days(reader: Reader, texts: pl.Series) -> set[date]:
    """The days of the reviews that have some texts."""
    return {*reader.lookup("review_coverage", "text_hash", texts, columns=["review_date"])["review_date"]}
