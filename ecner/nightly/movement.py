"""Is more written about an entity than the period before, or is it chance, a campaign of copies, or another model?

What is counted are clusters of texts: copies of a text are one. x of n clusters that were read mention the entity, and
x0 of n0 the period before. Both are taken as Poisson, so x given x + x0 is binomial with

    theta = rho n / (rho n + n0)

rho being the ratio of the two rates: an exact test of rho = 1 (Przyborowski and Wilenski 1940, Homogeneity of results
in testing samples from Poisson series, Biometrika 31), and, by the interval of Clopper and Pearson (1934) for theta, an
interval of rho.

Where another model read the later period, an unchanged market gives not 1 but the ratio of what the two models find in
the same reviews: that is what the bridge between them has measured. Of b mentions in the bridge by the new model and b0
by the old one, b given b + b0 is binomial again, and has an interval of its own. The p-value is the largest over that
interval, plus the probability that the interval is wrong (Berger and Boos 1994, P values maximized over a confidence
set for the nuisance parameter, J. Am. Stat. Assoc. 89). Both models read the same texts, so their counts differ by less
than those of two samples: the interval is a wide one, and the test on the safe side. A period that both models read
parts of lies in between, by the shares of its texts.

q-values are p-values adjusted by Benjamini and Hochberg (1995) over the entities of a type and period: among those with
q <= 0.05, one in twenty is expected to be chance.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars import selectors as cs
from scipy.stats import beta, binom, false_discovery_control

from ecner.nightly.aggregate import ENTITY
from ecner.nightly.estimates import CONFIDENCE

_WHOLE_TYPE = "*"  # of model_bridge
_BRIDGE_ERROR = 0.001
_LEAST_BRIDGED = 20  # mentions in the bridge below which an entity goes by those of its type
COUNTS = ("review_count", "unique_text_count", "cluster_count")
_PREVIOUS = {f"previous_{name}": name for name in COUNTS}
_EXPECTED = ("expected_lower", "expected_upper")
Floats = NDArray[np.float64]


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
    expected = _expected(counts, read, bridges)
    x, x0 = (counts[name].to_numpy() for name in ("cluster_count", "previous_cluster_count"))
    exposure = read[0].clusters / read[1].clusters
    lower, upper = _ratio_interval(x, x0, 1 - CONFIDENCE)
    low, high = (expected[name].to_numpy() for name in _EXPECTED)
    p_value = _p_value(x, x0, low * exposure, high * exposure) + np.where(low == high, 0.0, _BRIDGE_ERROR)
    both = (pl.col("cluster_count") > 0) & (pl.col("previous_cluster_count") > 0)
    figures = {"ratio_lower": lower / exposure, "ratio_upper": upper / exposure, "p_value": np.minimum(p_value, 1.0)}
    rows = counts.with_columns(
        *expected,
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


def _ratio_interval(x: NDArray[np.int64], x0: NDArray[np.int64], error: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's interval of theta, as a ratio theta / (1 - theta); infinite where x0 is 0."""
    with np.errstate(divide="ignore"):
        lower = np.where(x == 0, 0.0, beta.ppf(error / 2, np.maximum(x, 1), x0 + 1))
        upper = np.where(x0 == 0, 1.0, beta.ppf(1 - error / 2, x + 1, np.maximum(x0, 1)))
        return lower / (1 - lower), upper / (1 - upper)


def _expected(counts: pl.DataFrame, read: tuple[Read, Read], bridges: pl.DataFrame) -> pl.DataFrame:
    """The ratio that an unchanged market would show (expected_lower, expected_upper): 1 where one model read all."""
    versions = sorted({*read[0].by_version, *read[1].by_version})
    if len(versions) == 1:
        return _everywhere(counts, 1.0)
    old, new, bridge = _bridge_of(versions, bridges)
    if bridge.is_empty():
        return _everywhere(counts, None)
    joined = _bridged(counts, bridge)
    limits = _ratio_interval(joined["new_count"].to_numpy(), joined["old_count"].to_numpy(), _BRIDGE_ERROR)
    later, earlier = (_share(part, new, old) for part in read)
    # with both models in both periods the expected ratio rises or falls with the bridge's
    with np.errstate(invalid="ignore", divide="ignore"):  # two that have no limit, or are 0, say nothing
        ends = np.stack([_mixture(later, limit) / _mixture(earlier, limit) for limit in limits])
    return pl.DataFrame(dict(zip(_EXPECTED, (ends.min(axis=0), ends.max(axis=0)), strict=True)))


def _everywhere(counts: pl.DataFrame, value: float | None) -> pl.DataFrame:
    return counts.with_columns(pl.lit(value, pl.Float64).alias(name) for name in _EXPECTED).select(_EXPECTED)


def _bridge_of(versions: list[str], bridges: pl.DataFrame) -> tuple[str, str, pl.DataFrame]:
    """The bridge between two versions, whichever way it was made; empty where there is none, or more versions."""
    if len(versions) == 2:  # noqa: PLR2004
        for old, new in (versions, versions[::-1]):
            bridge = bridges.filter(old_version=old, new_version=new)
            if not bridge.is_empty():
                return old, new, bridge
    return "", "", bridges.clear()


def _bridged(counts: pl.DataFrame, bridge: pl.DataFrame) -> pl.DataFrame:
    """Each entity's counts in the bridge, or those of its type where its own are too few."""
    own = bridge.filter(pl.col("old_count") + pl.col("new_count") >= _LEAST_BRIDGED, pl.col("canonical") != _WHOLE_TYPE)
    types = bridge.filter(canonical=_WHOLE_TYPE).select("entity_type", "old_count", "new_count")
    sides = ("old_count", "new_count")
    return (
        counts.select(ENTITY)
        .join(own.select(*ENTITY, *sides), on=ENTITY, how="left", maintain_order="left")
        .join(types, on="entity_type", how="left", maintain_order="left", suffix="_type")
        .select(pl.coalesce(side, f"{side}_type").alias(side) for side in sides)
    )


def _share(read: Read, new: str, old: str) -> float:
    """The share of a period's texts that the new model read."""
    counts = [read.by_version.get(version, 0) for version in (new, old)]
    return counts[0] / sum(counts)


def _mixture(share: float, ratio: Floats) -> Floats:
    """What is found of a period, over what the old model would find; the new one finds ``ratio`` times as much."""
    return 1 - share + share * ratio if share else np.ones_like(ratio)
