"""How much more often two entities stand together than if each were mentioned at random.

lift = N n_ab / (n_a n_b), over clusters of texts: N read, n_a and n_b that mention either, n_ab that mention both.
With the cells of the fourfold table multinomial, the delta method (Agresti 2013, Categorical data analysis, section
16.1) gives

    var(log lift) = 1 / n_ab - 1 / n_a - 1 / n_b + (2 lift - 1) / N

from var(log p_ab) = 1 / n_ab - 1 / N, likewise of p_a and p_b, cov(log p_ab, log p_a) = 1 / n_a - 1 / N, and
cov(log p_a, log p_b) = (lift - 1) / N. The interval is log-normal.
"""

import polars as pl
from scipy.stats import norm

from ecner.nightly.aggregate import PAIR
from ecner.nightly.estimates import CONFIDENCE


def lifts(pairs: pl.DataFrame, entities: pl.DataFrame, clusters: int) -> pl.DataFrame:
    """Pairs with lift, lift_lower and lift_upper.

    Args:
        pairs: PAIR and cluster_count.
        entities: entity_type, canonical and cluster_count of the same period.
        clusters: how many were read in it.
    """
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    both, left, right = pl.col("cluster_count"), pl.col("left_count"), pl.col("right_count")
    lift = both * float(clusters) / (left * right)
    variance = 1 / both - 1 / left - 1 / right + (2 * lift - 1) / clusters
    # 0 where every cluster has both, and there next to it
    spread = (z * variance.clip(0).sqrt()).exp()
    joined = pairs
    for side in ("left", "right"):
        names = {"entity_type": f"{side}_type", "canonical": f"{side}_name", "cluster_count": f"{side}_count"}
        counts = entities.select(list(names)).rename(names)
        joined = joined.join(counts, on=[f"{side}_type", f"{side}_name"])
    return joined.select(
        *PAIR,
        *(name for name in pairs.columns if name not in PAIR),
        lift=lift,
        lift_lower=lift / spread,
        lift_upper=lift * spread,
    )
