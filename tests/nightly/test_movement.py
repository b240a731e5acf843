"""Movements: the test against its definition, its error rates by simulation, and changes of model."""

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from ecner.nightly.movement import COUNTS, Read, movements
from ecner.schema import TABLES

NO_BRIDGE = pl.DataFrame(schema=TABLES["model_bridge"].polars_schema)
Q = 0.05


def counts(values, entity_type="brand"):
    rows = [(entity_type, f"e{i}", *[int(value)] * 3) for i, value in enumerate(values) if value]
    schema = {"entity_type": pl.String, "canonical": pl.String, **dict.fromkeys(COUNTS, pl.Int64)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def bridge(old_count, new_count, canonical="*", versions=("a", "b")):
    row = (*versions, "brand", canonical, old_count, new_count, 1000)
    return pl.DataFrame([row], schema=NO_BRIDGE.schema, orient="row")


def read_by(version, clusters=10_000):
    return Read(clusters, {version: clusters})


def of_one(x, x0, n=10_000, n0=10_000, bridges=NO_BRIDGE, by=("a", "a")):
    rows = movements(counts([x]), counts([x0]), (read_by(by[0], n), read_by(by[1], n0)), bridges)
    return rows.row(0, named=True)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 50), st.integers(1, 50))
@settings(max_examples=60)
def test_the_p_value_is_that_of_the_exact_test(x, x0, n, n0):
    if not x + x0:
        return
    theta, total = Fraction(n, n + n0), x + x0
    chances = [comb(total, k) * theta**k * (1 - theta) ** (total - k) for k in range(total + 1)]
    expected = min(1, 2 * min(sum(chances[x:]), sum(chances[: x + 1])))
    row = of_one(x, x0, n, n0)
    assert row["p_value"] == pytest.approx(float(expected), rel=1e-9)
    assert (row["ratio"] is None) == (x * x0 == 0)
    if row["ratio"] is not None:
        assert row["ratio_lower"] < row["ratio"] < row["ratio_upper"]
        assert row["ratio"] == pytest.approx((x / n) / (x0 / n0))


def test_more_reviews_are_no_rise():
    assert of_one(200, 100, 20_000, 10_000)["p_value"] > 0.9
    assert of_one(200, 100)["p_value"] < 1e-6


def test_an_entity_that_appears_or_vanishes():
    new, gone = of_one(20, 0), of_one(0, 20)
    assert (new["ratio"], new["ratio_upper"], gone["ratio"], gone["ratio_lower"]) == (None, None, None, 0.0)
    assert new["p_value"] == gone["p_value"] < 0.001
    assert new["previous_review_count"] == 0


def simulated(rise, old_share=1.0, model_ratio=1.0, bridges=NO_BRIDGE, by=("a", "a"), seed=0, size=400):
    """Of entities that change by a factor, or whose model does, the share that q-values call moved."""
    random = np.random.default_rng(seed)
    rates = random.uniform(5, 300, size)
    before, now = random.poisson(rates * old_share), random.poisson(rates * rise * model_ratio)
    rows = movements(counts(now), counts(before), (read_by(by[0]), read_by(by[1])), bridges)
    return (rows["q_value"] <= Q).mean()


def test_where_nothing_moves_next_to_nothing_is_reported():
    assert np.mean([simulated(1.0, seed=seed) for seed in range(20)]) < 0.005
    assert simulated(1.5) > 0.5


def test_another_model_is_not_reported_as_a_rise():
    """A bridge with a ratio of 1.3: without it the step is taken for a rise, with it it is not."""
    measured = bridge(1_000, 1_300)
    assert simulated(1.0, model_ratio=1.3) > 0.3
    assert simulated(1.0, model_ratio=1.3, bridges=measured, by=("b", "a")) == 0
    assert simulated(0.5, model_ratio=1.3, bridges=measured, by=("b", "a")) > 0.5  # a fall that the model half hides
    assert simulated(2.0, model_ratio=1.3, bridges=measured, by=("b", "a")) > 0.5


def test_the_way_back_is_bridged_too():
    measured = bridge(1_000, 1_300)
    assert simulated(1.0, model_ratio=1 / 1.3, bridges=measured, by=("a", "b")) == 0
    row = of_one(100, 130, bridges=measured, by=("a", "b"))
    assert row["expected_lower"] < 1 / 1.3 < row["expected_upper"] < 1
    assert row["is_break"] == 1


def test_without_a_bridge_a_change_of_model_is_not_judged():
    row = of_one(130, 100, by=("b", "a"))
    assert (row["is_break"], row["expected_lower"], row["p_value"], row["q_value"]) == (1, None, None, None)
    assert row["ratio"] == pytest.approx(1.3)


def test_an_entity_goes_by_its_own_bridge_where_that_has_enough_mentions():
    both = pl.concat([bridge(1_000, 1_000), bridge(100, 200, "e0"), bridge(1, 5, "e1")])
    rows = movements(counts([200, 200]), counts([100, 100]), (read_by("b"), read_by("a")), both).sort("canonical")
    assert rows["p_value"].to_list() == [pytest.approx(1.0), pytest.approx(0.001, abs=0.001)]


def test_a_period_that_both_models_read_lies_in_between():
    half = Read(10_000, {"a": 5_000, "b": 5_000})
    row = movements(counts([115]), counts([100]), (half, read_by("a")), bridge(100_000, 130_000)).row(0, named=True)
    assert row["expected_lower"] < 1.15 < row["expected_upper"]
    assert row["expected_upper"] - row["expected_lower"] < 0.03


def test_bridges_in_a_row_multiply():
    """From a by b, under which no review stands, to c, whose bridge was made the other way."""
    chain = pl.concat([bridge(100_000, 130_000), bridge(200_000, 100_000, versions=("c", "b"))])
    row = movements(counts([260]), counts([100]), (read_by("c"), read_by("a")), chain).row(0, named=True)
    assert row["expected_lower"] < 2.6 < row["expected_upper"]
    assert row["expected_upper"] - row["expected_lower"] < 0.15
    assert row["p_value"] > 0.9
    assert of_one(260, 100, by=("c", "a"))["p_value"] is None


@given(
    st.lists(st.tuples(st.integers(20, 300), st.integers(20, 300)), min_size=1, max_size=4),
    st.lists(st.integers(0, 5), min_size=10, max_size=10),
)
@settings(max_examples=40)
def test_no_ratio_within_the_intervals_of_the_bridges_is_outside_the_expected_range(measured, shares):
    """Against values drawn within each bridge's interval, which the ends have to enclose and to touch."""
    versions = "abcde"[: len(measured) + 1]
    bridges = pl.concat([bridge(*pair, versions=versions[i : i + 2]) for i, pair in enumerate(measured)])
    later, earlier = ({v: n for v, n in zip(versions, part, strict=False) if n} for part in (shares[:5], shares[5:]))
    if not later or not earlier or len({*later, *earlier}) == 1:
        return
    row = movements(counts([50]), counts([50]), (Read(99, later), Read(99, earlier)), bridges).row(0, named=True)
    used = {*later, *earlier}
    steps = range(versions.index(min(used)), versions.index(max(used)))
    intervals = [
        [theta / (1 - theta) for theta in binomtest(b, a + b).proportion_ci(1 - 0.001 / len(steps), method="exact")]
        for a, b in (measured[step] for step in steps)
    ]
    random = np.random.default_rng(0)
    drawn = [
        expected(
            later,
            earlier,
            versions[steps[0] :],
            [low * (high / low) ** min(max(random.normal(0.5, 1), 0), 1) for low, high in intervals],
        )
        for _ in range(300)
    ]
    assert row["expected_lower"] <= min(drawn) * (1 + 1e-9)
    assert max(drawn) <= row["expected_upper"] * (1 + 1e-9)
    ends = [expected(later, earlier, versions[steps[0] :], corner) for corner in itertools.product(*intervals)]
    assert (row["expected_lower"], row["expected_upper"]) == (pytest.approx(min(ends)), pytest.approx(max(ends)))


def expected(later, earlier, versions, ratios):
    """What a market of 1 gives where each model finds the given multiple of the one before it."""
    level = dict(zip(versions, np.cumprod([1.0, *ratios]), strict=False))
    means = [sum(n * level[v] for v, n in part.items()) / sum(part.values()) for part in (later, earlier)]
    return means[0] / means[1]


def test_a_model_that_no_bridge_joins_leaves_nothing_judged():
    three = Read(9, {"a": 3, "b": 3, "x": 3})
    row = movements(counts([9]), counts([9]), (three, read_by("a")), bridge(10, 13)).row(0, named=True)
    assert (row["p_value"], row["is_break"], row["expected_lower"]) == (None, 1, None)


def test_a_chain_that_is_too_long_is_not_judged():
    names = [f"v{i}" for i in range(11)]
    chain = pl.concat([bridge(50, 60, versions=pair) for pair in itertools.pairwise(names)])
    assert of_one(9, 9, bridges=chain, by=("v8", "v0"))["p_value"] is not None
    assert of_one(9, 9, bridges=chain, by=("v9", "v0"))["p_value"] is None


def test_q_values_are_those_of_the_definition():
    random = np.random.default_rng(1)
    rows = movements(counts(random.poisson(30, 50)), counts(random.poisson(30, 50)), (read_by("a"),) * 2, NO_BRIDGE)
    p = sorted(rows["p_value"])
    for row in rows.to_dicts():
        later = [len(p) * value / (rank + 1) for rank, value in enumerate(p) if value >= row["p_value"]]
        assert row["q_value"] == pytest.approx(min(1.0, *later))
