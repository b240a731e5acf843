"""Corrected counts: the formula by hand, and intervals that cover the truth as often as they say."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2

from ecner.nightly.aggregate import TYPE
from ecner.nightly.estimates import QUALITY, corrected_counts, read_quality
from ecner.resources import asset

DRAWS = 1_000
# true count, precision, recall, mentions in the labelled texts: from a rare name of a type that is read badly on few
# labels to a frequent one of a type that is read well on many
CASES = [
    (10, 0.84, 0.57, 161),
    (30, 0.75, 0.67, 41),
    (30, 0.9, 0.93, 102),
    (100, 0.85, 0.52, 507),
    (300, 0.8, 0.7, 685),
    (1_000, 0.77, 0.57, 161),
    (1_000, 0.95, 0.6, 2_000),
    (5_000, 0.89, 0.88, 365),
]


def by_version(*rows: Any):
    schema = {"entity_type": pl.String, "canonical": pl.String, "model_version": pl.String, "mention_count": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def quality(*rows: Any):
    return pl.DataFrame(rows, schema=QUALITY, orient="row")


def found(random, true, precision, recall):
    """What a model finds of true mentions: a binomial number of them, and a Poisson number of others."""
    right = random.binomial(true, recall, DRAWS)
    return right, right + random.poisson(true * recall * (1 - precision) / precision, DRAWS)


def test_the_formula_by_hand():
    row = corrected_counts(by_version(("brand", "x", "m", 100)), quality(("m", "brand", "d", 0.8, 0.5, 200)))
    count = 100 * 0.8 / 0.5
    both = (100.5 / 126) * (100.5 / 201)  # 100 right of 125 predicted and 200 gold
    relative = (1 - both) * (1 / 100 + 1 / 125)
    assert row["corrected_count"].item() == pytest.approx(count)
    width = row["corrected_upper"].item() - row["corrected_lower"].item()
    assert width == pytest.approx(2 * 1.645 * count * relative**0.5, rel=0.02)  # nearly normal where counts are large
    assert row["evaluated_on"].item() == "d"


def coverage(true, precision, recall, gold, seed):
    """Shares of 1,000 draws whose interval, of the corrected count and of the raw one, holds the true count."""
    random = np.random.default_rng(seed)
    right, predicted = found(random, gold, precision, recall)
    _, counts = found(random, true, precision, recall)
    names = [str(draw) for draw in range(DRAWS)]
    drawn = by_version(*(("brand", name, name, int(n)) for name, n in zip(names, counts, strict=True) if n))
    measured = quality(
        *((name, "brand", "d", r / p, r / gold, gold) for name, r, p in zip(names, right, predicted, strict=True))
    )
    intervals = corrected_counts(drawn, measured)
    holds = (pl.col("corrected_lower") <= true) & (true <= pl.col("corrected_upper"))
    # a raw count with the exact interval of a Poisson count (Garwood 1936)
    lower, upper = chi2.ppf(0.05, 2 * counts) / 2, chi2.ppf(0.95, 2 * counts + 2) / 2
    raw = float(np.mean((np.nan_to_num(lower) <= true) & (true <= upper)))
    print(
        f"true {true}, p {precision:.2f}, r {recall:.2f}, gold {gold}: "
        f"corrected {intervals.filter(holds).height / DRAWS:.1%}, raw {raw:.1%}"
    )
    return intervals.filter(holds).height / DRAWS, raw


@pytest.mark.parametrize(("true", "precision", "recall", "gold"), CASES)
def test_intervals_cover_the_truth_as_often_as_they_say_and_raw_counts_do_not(true, precision, recall, gold):
    covered, raw = coverage(true, precision, recall, gold, seed=true + gold)
    assert 0.87 <= covered <= 0.93
    # a raw count is right by accident where what is made up makes up for what is missed
    if abs(recall / precision - 1) * true > 3 * (true**0.5):
        assert raw < 0.5


@pytest.mark.parametrize("true", [50, 500, 5_000])
def test_with_the_figures_of_the_shipped_model_by_type(true):
    rows = json.loads((asset("model") / "version.json").read_text("utf-8"))["evaluations"]
    of_sample = {(row["metric"], row["entity_type"]): row for row in rows if row["dataset"] == "sample"}
    types = sorted({kind for _, kind in of_sample} - {"all"})
    shares = [
        coverage(
            true,
            of_sample["strict_precision", kind]["value"],
            of_sample["strict_recall", kind]["value"],
            of_sample["strict_recall", kind]["support"],
            seed=number,
        )
        for number, kind in enumerate(types)
    ]
    assert all(0.87 <= covered <= 0.93 for covered, _ in shares)
    assert np.mean([raw for _, raw in shares]) < 0.7


def test_parts_of_several_models_are_corrected_each_by_its_own_figures():
    figures = quality(("a", "brand", "d", 0.8, 0.4, 500), ("b", "brand", "e", 0.9, 0.9, 500))
    mixed = corrected_counts(by_version(("brand", "x", "a", 10), ("brand", "x", "b", 20)), figures).row(0, named=True)
    alone = [
        corrected_counts(by_version(("brand", "x", version, n)), figures).row(0, named=True)
        for version, n in (("a", 10), ("b", 20))
    ]
    assert mixed["corrected_count"] == pytest.approx(sum(row["corrected_count"] for row in alone))
    assert mixed["evaluated_on"] == "d, e"
    widths = [row["corrected_upper"] - row["corrected_lower"] for row in (mixed, *alone)]
    assert max(widths[1:]) < widths[0] < sum(widths[1:])


def test_a_type_s_interval_covers_its_total_where_those_of_its_names_do_not_add_up_to_one():
    """Ten names share precision and recall: variances that are added as if each had its own come out too small."""
    true, precision, recall, gold, names = 1_000, 0.8, 0.6, 200, 10
    random = np.random.default_rng(7)
    right, predicted = found(random, gold, precision, recall)
    counts = [found(random, true // names, precision, recall)[1] for _ in range(names)]
    draws = [(f"draw {i}", "m", r / p, r / gold) for i, (r, p) in enumerate(zip(right, predicted, strict=True))]
    measured = quality(*(("m", draw, "d", p, r, gold) for draw, _, p, r in draws))
    drawn = by_version(
        *((f"draw {i}", str(name), "m", int(n)) for name, row in enumerate(counts) for i, n in enumerate(row) if n)
    )
    total = corrected_counts(drawn.group_by(*TYPE, "model_version").agg(pl.col("mention_count").sum()), measured, TYPE)
    alone = corrected_counts(drawn, measured).group_by(TYPE).agg(
        pl.col("corrected_count").sum(),
        spread=((pl.col("corrected_upper") - pl.col("corrected_lower")) / 2).pow(2).sum().sqrt(),
    )  # fmt: skip
    both = total.join(alone, on=TYPE)
    assert both["corrected_count"].to_list() == pytest.approx(both["corrected_count_right"].to_list())
    covered = both.select(pl.lit(true).is_between("corrected_lower", "corrected_upper").mean()).item()
    added = both.select((pl.col("corrected_count") - true).abs().le(pl.col("spread")).mean()).item()
    print(f"total of {names} names: {covered:.1%}, by their intervals as if independent {added:.1%}")
    assert 0.87 <= covered <= 0.93
    assert added < 0.8


def test_without_figures_for_every_part_nothing_is_said():
    figures = quality(("a", "brand", "d", 0.8, 0.4, 500))
    rows = corrected_counts(by_version(("brand", "x", "a", 1), ("brand", "x", "b", 1), ("misc", "y", "a", 1)), figures)
    assert rows.drop("entity_type", "canonical").null_count().row(0) == (2, 2, 2, 2)


def test_a_model_without_mistakes_in_few_labels_is_not_taken_for_faultless():
    row = corrected_counts(by_version(("brand", "x", "a", 50)), quality(("a", "brand", "d", 1.0, 1.0, 5))).row(
        0, named=True
    )
    assert row["corrected_lower"] < row["corrected_count"] == 50 < row["corrected_upper"]


def test_the_first_data_set_with_both_figures_counts(warehouse):
    rows = [
        ("m", "second", "strict_precision", "brand", 0.5, 9), ("m", "second", "strict_recall", "brand", 0.6, 9),
        ("m", "first", "strict_precision", "brand", 0.7, 9), ("m", "third", "strict_recall", "brand", 0.9, 9),
        ("m", "first", "strict_precision", "misc", 0.7, 8), ("m", "first", "strict_recall", "misc", 0.2, 8),
        ("n", "second", "strict_precision", "brand", 0.0, 9), ("n", "second", "strict_recall", "brand", 0.0, 9),
    ]  # fmt: skip
    columns = ["version", "dataset", "metric", "entity_type", "value", "support"]
    with warehouse.begin() as transaction:
        transaction.append("model_evaluations", pl.DataFrame(rows, schema=columns, orient="row"))
        read = read_quality(transaction, ["first", "second"])
    assert sorted(read.rows()) == [("m", "brand", "second", 0.5, 0.6, 9), ("m", "misc", "first", 0.7, 0.2, 8)]
