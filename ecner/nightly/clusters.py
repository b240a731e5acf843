"""Clusters of texts that are nearly the same, kept from night to night.

Two texts belong together where their sketches agree in enough values, and so do all that are joined by such pairs: a
cluster is a connected component, under the least text_hash of its texts, whatever the order they came in. Texts that
could agree are found by their bands: they have at least one in common (locality-sensitive hashing; Leskovec, Rajaraman
and Ullman, Mining of Massive Datasets, section 3.4). With 12 bands of 4 values, two texts that share 75% of their
pairs of characters have a band in common with probability 1 - (1 - 0.75^4)^12 = 0.99, and two that share 10%, 0.001.
"""

from collections.abc import Iterator
from datetime import date

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ecner.data.sketches import agreement, sketch_texts
from ecner.schema import BANDS
from ecner.storage.transaction import Reader, Transaction

SKETCHES = pl.Schema({"text_hash": pl.String(), **dict.fromkeys(BANDS, pl.Int64())})
LEAST_AGREEMENT = 0.55  # of two sketches' values
_PAIRS_AT_ONCE = 500_000
_PAIR = ["text_hash", "other_hash"]


def sketches_of(texts: pl.DataFrame) -> pl.DataFrame:
    """Sketches (schema SKETCHES) of texts with their hashes."""
    return pl.concat([texts.select("text_hash"), sketch_texts(texts["text"])], how="horizontal")


def add_texts(transaction: Transaction, sketches: pl.DataFrame) -> set[date]:
    """Puts new texts into clusters; returns the days of reviews whose clusters have become one.

    Args:
        transaction: of the night.
        sketches: the schema SKETCHES; texts that are known already are passed over.
    """
    known = transaction.lookup("text_clusters", "text_hash", sketches["text_hash"], columns=["text_hash"])
    new = sketches.join(known, on="text_hash", how="anti").unique("text_hash")
    if new.is_empty():
        return set()
    held = _with_shared_bands(transaction, new)
    everyone = pl.concat([new.with_columns(cluster_id="text_hash"), held.select(*SKETCHES, "cluster_id")])
    clusters = _components(everyone, _alike(new, everyone))
    transaction.append("text_clusters", new.join(clusters, on="text_hash"))
    former = held.select("text_hash", former="cluster_id").join(clusters, on="text_hash")
    return _rename(transaction, former.select("former", "cluster_id").unique())


def add_cluster(reader: Reader, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with their texts' clusters as ``cluster``; a text without a sketch is one of its own."""
    known = reader.lookup("text_clusters", "text_hash", rows["text_hash"], columns=["text_hash", "cluster_id"])
    joined = rows.join(known, on="text_hash", how="left", maintain_order="left")
    return joined.with_columns(cluster=pl.coalesce("cluster_id", "text_hash")).drop("cluster_id")


def remove_orphans(transaction: Transaction) -> None:
    """Removes texts that no review has; a cluster that was named after one takes the least of the texts left."""
    transaction.delete_orphans("text_clusters", "text_hash", "review_coverage")
    left = transaction.distinct("text_clusters", ["text_hash", "cluster_id"])
    renamed = left.group_by("cluster_id").agg(to=pl.col("text_hash").min()).filter(pl.col("cluster_id") != pl.col("to"))
    transaction.rename("text_clusters", "cluster_id", renamed, touching="cluster_id")


def _with_shared_bands(reader: Reader, new: pl.DataFrame) -> pl.DataFrame:
    """Texts of earlier nights (rows of text_clusters) that have a band in common with a new one."""
    found = [reader.lookup("text_clusters", band, new[band], columns=["text_hash"]) for band in BANDS]
    hashes = pl.concat(found)["text_hash"].unique()
    return reader.lookup("text_clusters", "text_hash", hashes)


def _alike(new: pl.DataFrame, everyone: pl.DataFrame) -> pl.DataFrame:
    """Pairs of a new text and another that agree enough."""
    found = [_agreeing(pairs, everyone) for pairs in _candidates(new, everyone)]
    return pl.concat([pl.DataFrame(schema=dict.fromkeys(_PAIR, pl.String())), *found])


def _candidates(new: pl.DataFrame, everyone: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Pairs with a band in common, a part at a time; a pair comes once for each of those bands."""
    for band in BANDS:
        others = everyone.select(band, other_hash="text_hash")
        pairs = new.select(band, "text_hash").join(others, on=band).filter(pl.col("text_hash") != pl.col("other_hash"))
        yield from pairs.select(_PAIR).iter_slices(_PAIRS_AT_ONCE)


def _agreeing(pairs: pl.DataFrame, everyone: pl.DataFrame) -> pl.DataFrame:
    """The pairs whose sketches agree enough."""
    left, right = (
        pairs.select(text_hash=name).join(everyone, on="text_hash", how="left", maintain_order="left").select(BANDS)
        for name in _PAIR
    )
    shares = agreement(*(np.ascontiguousarray(side.to_numpy()) for side in (left, right)))
    return pairs.filter(pl.Series(shares >= LEAST_AGREEMENT))


def _components(everyone: pl.DataFrame, alike: pl.DataFrame) -> pl.DataFrame:
    """The cluster of each text (text_hash, cluster_id) by the pairs and by the clusters that there are already."""
    known = everyone.select(text_hash="text_hash", other_hash="cluster_id")
    nodes = pl.concat([everyone["text_hash"], everyone["cluster_id"]]).unique().sort()
    edges = pl.concat([alike, known]).select(
        pl.col(name).replace_strict(nodes, pl.int_range(len(nodes), eager=True)) for name in _PAIR
    )
    left, right = (edges[name].to_numpy() for name in _PAIR)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, directed=False)
    named = pl.DataFrame({"text_hash": nodes, "component": component})
    least = named.group_by("component").agg(cluster_id=pl.col("text_hash").min())
    return (
        named.join(least, on="component").join(everyone, on="text_hash", how="semi").select("text_hash", "cluster_id")
    )


def _rename(transaction: Transaction, clusters: pl.DataFrame) -> set[date]:
    """Gives clusters (former) their names (cluster_id); returns the days of those that were several before."""
    renamed = clusters.filter(pl.col("former") != pl.col("cluster_id")).select(cluster_id="former", to="cluster_id")
    if renamed.is_empty():
        return set()
    transaction.rename("text_clusters", "cluster_id", renamed, touching="cluster_id")
    merged = clusters.filter(pl.len().over("cluster_id") > 1)["cluster_id"].unique()
    texts = transaction.lookup("text_clusters", "cluster_id", merged, columns=["text_hash"])["text_hash"]
    return {*transaction.lookup("review_coverage", "text_hash", texts, columns=["review_date"])["review_date"]}
