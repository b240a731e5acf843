"""Is more written about an entity than the period before, or is it chance, a campaign of copies, or another model?

What is counted are clusters of texts: copies of a text are one. x of n clusters that were read mention the entity, and
x0 of n0 the period before. Both are taken as Poisson, so x given x + x0 is binomial with

    theta = rho n / (rho n + n0)

rho being the ratio of the two rates: an exact test of rho = 1 (Przyborowski and Wilenski 1940, Homogeneity of results
in testing samples from Poisson series, Biometrika 31), and, by the interval of Clopper and Pearson (1934) for theta, an
interval of rho.

Where another model read the later period, an unchanged market gives not 1 but the ratio of what the two models find in
the same reviews: that is what the bridges between models have measured, with an interval of its own (see bridges). The
p-value is the largest over that interval, plus the probability that the interval is wrong (Berger and Boos 1994, P
values maximized over a confidence set for the nuisance parameter, J. Am. Stat. Assoc. 89). Two models of a bridge read
the same texts, so their counts differ by less than those of two samples: the interval is a wide one, and the test on
the safe side.

q-values are p-values adjusted by Benjamini and Hochberg (1995) over the entities of a type and period: among those with
q <= 0.05, one in twenty is expected to be chance.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars import selectors as cs
from scipy.stats import binom, false_discovery_control

from ecner.nightly.aggregate import ENTITY
from ecner.nightly.bridges import Floats, expected_ratios, ratio_interval, ways_to
from ecner.nightly.estimates import CONFIDENCE

_BRIDGE_ERROR = 0.001
COUNTS = ("review_count", "unique_text_count", "cluster_count")
_PREVIOUS = {f"previous_{name}": name for name in COUNTS}


class Read(NamedTuple):
    """How much was read of a period: clusters, and how many of them by each model."""

    clusters: int
    by_version: Mapping[str, int]


def movements(now: pl.DataFrame, before: pl.DataFrame, read: tuple[Read, Read], bridges: pl.DataFrame) -> pl.DataFrame:
    """How the entities of a period moved against the period before.

    Args:
        now: entity_type, canonical and COUNTS of the period.
        before: the same of the period before.
        read: how much was read of both, in this order.
        bridges: rows of model_bridge.

    Returns:
        Rows of entity_movements without the period. ratio is null where one side is 0; where no bridge joins the models
        of the two periods, what is expected and the p-value are null: nothing is judged.
    """
    counts = (
        now.select(*ENTITY, *COUNTS)
        .join(before.select(*ENTITY, **_PREVIOUS), on=ENTITY, how="full", coalesce=True)
        .with_columns(pl.col(*COUNTS, *_PREVIOUS).fill_null(0))
    )
    low, high = _expected(counts, read, bridges)
    x, x0 = (counts[name].to_numpy() for name in ("cluster_count", "previous_cluster_count"))
    exposure = read[0].clusters / read[1].clusters
    lower, upper = ratio_interval(x, x0, 1 - CONFIDENCE)
    p_value = _p_value(x, x0, low * exposure, high * exposure) + np.where(low == high, 0.0, _BRIDGE_ERROR)
    both = (pl.col("cluster_count") > 0) & (pl.col("previous_cluster_count") > 0)
    figures = {
        "ratio_lower": lower / exposure,
        "ratio_upper": upper / exposure,
        "expected_lower": low,
        "expected_upper": high,
        "p_value": np.minimum(p_value, 1.0),
    }
    rows = counts.with_columns(
        *(pl.Series(name, values) for name, values in figures.items()),
        ratio=pl.when(both).then(pl.col("cluster_count") / pl.col("previous_cluster_count") / exposure),
        is_break=pl.lit(int(len({*read[0].by_version, *read[1].by_version}) > 1)),
    )
    # there is no upper limit where one side is 0, and nothing to expect without a bridge
    return _with_q_values(rows.with_columns(pl.when(cs.float().is_finite()).then(cs.float())))


def _with_q_values(rows: pl.DataFrame) -> pl.DataFrame:
    judged = rows.filter(pl.col("p_value").is_not_null()).partition_by("entity_type")
    adjusted = [
        part.select(*ENTITY, q_value=pl.Series(false_discovery_control(part["p_value"].to_numpy()))) for part in judged
    ]
    none = rows.select(*ENTITY, q_value=pl.lit(None, pl.Float64)).clear()
    return rows.join(pl.concat([none, *adjusted]), on=ENTITY, how="left", maintain_order="left")


def _p_value(x: NDArray[np.int64], x0: NDArray[np.int64], low: Floats, high: Floats) -> Floats:
    """Two-sided p-value of the ratio of two counts against the nearest ratio from low to high; NaN where there is none.

    Twice the smaller tail, which falls to either side of the observed ratio: inside the interval nothing is unusual.
    """
    with np.errstate(divide="ignore"):  # a ratio of 0, or one without limit, is a theta of 0 or 1
        rises = binom.sf(x - 1, x + x0, 1 / (1 + 1 / high))
        falls = binom.cdf(x, x + x0, 1 / (1 + 1 / low))
    return np.asarray(np.minimum(2 * np.minimum(rises, falls), 1.0))


def _expected(counts: pl.DataFrame, read: tuple[Read, Read], bridges: pl.DataFrame) -> tuple[Floats, Floats]:
    """The least and greatest ratio that an unchanged market would show: 1 under one model, NaN without bridges."""
    later, earlier = (part.by_version for part in read)
    versions = sorted({*later, *earlier})
    everywhere = np.ones(len(counts))
    if len(versions) == 1:
        return everywhere, everywhere
    if (ways := ways_to(versions, bridges)) is None:
        return everywhere * np.nan, everywhere * np.nan
    return expected_ratios(counts, (later, earlier), ways, bridges, _BRIDGE_ERROR)
