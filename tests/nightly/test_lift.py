"""Lift: the interval covers the true lift as often as it says, for pairs at random and pairs that belong together."""

import numpy as np
import polars as pl
import pytest

from ecner.nightly.lift import lifts

DRAWS = 1_000
CLUSTERS = 5_000
ENTITY = {"entity_type": pl.String, "canonical": pl.String, "cluster_count": pl.Int64}


def pair(name, both):
    return {
        "left_type": "brand", "left_name": name, "right_type": "product", "right_name": name, "cluster_count": both
    }  # fmt: skip


def of(both, left, right, clusters=CLUSTERS):
    """Lifts of pairs that are numbered."""
    names = [str(number) for number in range(len(both))]
    counts = [("brand", *row) for row in zip(names, left, strict=True)]
    counts += [("product", *row) for row in zip(names, right, strict=True)]
    pairs = pl.DataFrame([pair(name, n) for name, n in zip(names, both, strict=True)])
    return lifts(pairs, pl.DataFrame(counts, schema=ENTITY, orient="row"), clusters)


def test_by_hand():
    row = of([10], [50], [100], 1_000).row(0, named=True)
    assert row["lift"] == pytest.approx(2)
    spread = np.exp(1.6448536 * np.sqrt(1 / 10 - 1 / 50 - 1 / 100 + 3 / 1_000))
    assert (row["lift_lower"], row["lift_upper"]) == pytest.approx((2 / spread, 2 * spread))


@pytest.mark.parametrize(
    ("both", "left", "right"), [(0.01, 0.1, 0.1), (0.02, 0.05, 0.1), (0.05, 0.06, 0.05), (0.3, 0.5, 0.5)]
)
def test_nine_of_ten_intervals_hold_the_true_lift(both, left, right):
    random = np.random.default_rng(7)
    cells = random.multinomial(CLUSTERS, [both, left - both, right - both, 1 - left - right + both], DRAWS)
    found = of(cells[:, 0].tolist(), (cells[:, 0] + cells[:, 1]).tolist(), (cells[:, 0] + cells[:, 2]).tolist())
    true = both / (left * right)
    covered = found.filter(pl.col("lift_lower") <= true, pl.col("lift_upper") >= true).height / DRAWS
    assert 0.87 <= covered <= 0.93


def test_pairs_that_always_go_together():
    always, everywhere = of([7, CLUSTERS], [7, CLUSTERS], [7, CLUSTERS]).to_dicts()
    assert always["lift"] == pytest.approx(CLUSTERS / 7)
    assert always["lift_lower"] < always["lift"] < always["lift_upper"]
    assert everywhere["lift_lower"] == everywhere["lift"] == everywhere["lift_upper"] == pytest.approx(1)
