"""Joins sketches that are alike into components, without comparing what is joined already.

Two sketches are alike where they have a band in common and agree in enough values; components are what pairs of them
join. Of each band's sketches a few, the pivots, are compared with all that are not joined to them yet, and leave; then
twice as many, until all that is left of the band is one component. So no pair is passed over but those that could join
nothing, and the components are exact, while k variants of one text cost about k comparisons and not k squared. Only
sketches of one band that are not alike cost their pairs, in memory that is bounded.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ecner.data.sketches import agreement

_PAIRS_AT_ONCE = 1_000_000
_COMPARED_AT_ONCE = 50_000  # few enough to stay near the processor while they are


def join_alike(
    sketches: NDArray[np.int64], labels: NDArray[np.int64], is_new: NDArray[np.bool_], least: float
) -> NDArray[np.int64]:
    """Labels of components, of N sketches.

    Args:
        sketches: *Shape:* (N, bands).
        labels: what is joined already has the same one, from 0 to less than N. *Shape:* (N,).
        is_new: two of which neither is new are not compared. *Shape:* (N,).
        least: share of values in which two must agree.
    """
    numbers = np.arange(len(sketches))
    for band in sketches.T:
        rest = _unsettled(pl.DataFrame({"band": band, "sketch": numbers, "is_new": is_new}), labels)
        most = 1
        while not rest.is_empty():
            pivots = _pivots(rest, most)
            for pairs in _pairs(pivots, rest).iter_slices(_COMPARED_AT_ONCE):
                labels = _joined(sketches, pairs, labels, least)
            rest = _unsettled(rest.join(pivots, on=["band", "sketch"], how="anti"), labels)
            most = min(2 * most, _PAIRS_AT_ONCE)
    return labels


def _unsettled(rest: pl.DataFrame, labels: NDArray[np.int64]) -> pl.DataFrame:
    """The sketches, with their labels, of bands that have several and something new."""
    several = pl.col("label").min().over("band") < pl.col("label").max().over("band")
    labelled = rest.with_columns(label=labels[rest["sketch"].to_numpy()])
    return labelled.filter(several & pl.col("is_new").any().over("band"))


def _pivots(rest: pl.DataFrame, most: int) -> pl.DataFrame:
    """New sketches, one a band at least and ``most`` at most, as long as their pairs are few."""
    others = pl.len().over("band") - pl.len().over("band", "label")
    new = rest.with_columns(others=others.cast(pl.Int64)).filter("is_new")
    placed = new.with_columns(place=pl.int_range(pl.len()).over("band")).sort("place", maintain_order=True)
    few = (pl.col("place") < most) & (pl.col("others").cum_sum() <= _PAIRS_AT_ONCE)
    return placed.filter((pl.col("place") == 0) | few)


def _pairs(pivots: pl.DataFrame, rest: pl.DataFrame) -> pl.DataFrame:
    """Pivots (sketch) and what of their bands has another label (other)."""
    labels = rest.select("band", "label").unique()
    apart = (
        pivots.select("band", "sketch", own="label").join(labels, on="band").filter(pl.col("own") != pl.col("label"))
    )
    others = rest.select("band", "label", other="sketch")
    return apart.join(others, on=["band", "label"]).select("sketch", "other")


def _joined(
    sketches: NDArray[np.int64], pairs: pl.DataFrame, labels: NDArray[np.int64], least: float
) -> NDArray[np.int64]:
    """Labels after the pairs that agree enough have become one."""
    left, right = (pairs[name].to_numpy() for name in ("sketch", "other"))
    is_alike = agreement(sketches[left], sketches[right]) >= least
    if not is_alike.any():
        return labels
    ends = labels[left[is_alike]], labels[right[is_alike]]
    graph = coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(len(labels), len(labels)))
    _, component = connected_components(graph, directed=False)
    return np.asarray(component[labels], dtype=np.int64)
