"""How much more often two entities stand together than if each were mentioned at random.

lift = N n_ab / (n_a n_b), over clusters of texts: N read, n_a and n_b that mention either, n_ab that mention both. It is
the relative risk of b given a against b at large. Of four counts that are multinomial, by the delta method

    var(log lift) = 1 / n_ab - 1 / n_a - 1 / n_b + 1 / N

(Katz et al. 1978, Obtaining confidence intervals for the risk ratio in cohort studies, Biometrics 34, for two groups of
which one holds the other), and the interval is log-normal. With n_ab = n_a = n_b it has no width: the counts are then as
strong as they can be, and half a cluster is added to n_ab's margins to keep it open.
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
    variance = 1 / both - 1 / (left + 0.5) - 1 / (right + 0.5) + 1 / pl.lit(float(clusters))
    spread = (z * pl.max_horizontal(variance, pl.lit(0.0)).sqrt()).exp()
    lift = both * float(clusters) / (left * right)
    joined = pairs
    for side in ("left", "right"):
        names = {"entity_type": f"{side}_type", "canonical": f"{side}_name", "cluster_count": f"{side}_count"}
        counts = entities.select(list(names)).rename(names)
        joined = joined.join(counts, on=[f"{side}_type", f"{side}_name"])
    return joined.select(
        *PAIR, *(name for name in pairs.columns if name not in PAIR), lift=lift, lift_lower=lift / spread, lift_upper=lift * spread
    )
