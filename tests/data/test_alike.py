"""Components of sketches that are alike: exact whatever is known before, and cheap where nearly all are alike."""

from itertools import combinations
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse.csgraph import connected_components

from ecner.data import alike
from ecner.data.alike import join_alike
from ecner.data.sketches import agreement, sketch_texts

LEAST = 0.55
VALUES = arrays(np.uint16, st.tuples(st.integers(1, 24), st.just(12)), elements=st.integers(0, 2))


def sketches_of(values):
    """Bands of 4 values, three a sketch: few enough for bands to be shared by chance."""
    return np.ascontiguousarray(values).view(np.int64)


def components(sketches, among=None):
    """By every pair, in plain Python; of some sketches alone where they are named."""
    near = np.eye(len(sketches), dtype=bool)
    for a, b in combinations(range(len(sketches)) if among is None else among, 2):
        shared = (sketches[a] == sketches[b]).any()
        near[a, b] = shared and agreement(sketches[[a]], sketches[[b]]).item() >= LEAST
    return connected_components(near, directed=False)[1].astype(np.int64)


def sets(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def every_new(count):
    return np.arange(count), np.ones(count, dtype=bool)


@given(VALUES, st.sampled_from([1, 3, 10, 1_000_000]))
def test_components_are_those_of_every_pair(values, pairs_at_once):
    sketches = sketches_of(values)
    with patch.object(alike, "_PAIRS_AT_ONCE", pairs_at_once):
        found = join_alike(sketches, *every_new(len(sketches)), LEAST)
    assert sets(found) == sets(components(sketches))


@given(VALUES, st.data())
def test_what_is_known_before_changes_nothing(values, data):
    sketches = sketches_of(values)
    is_new = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    known = components(sketches, np.flatnonzero(~is_new).tolist())
    found = join_alike(sketches, known, is_new, LEAST)
    assert sets(found) == sets(components(sketches))


def campaign(count):
    """One text over and over, but for a number in it."""
    texts = [
        f"收到了，很满意，物流很快，包装很好，下次还会再来购买的，推荐给大家，订单编号{n:06d}" for n in range(count)
    ]
    return np.ascontiguousarray(sketch_texts(pl.Series(texts)).to_numpy())


@pytest.mark.parametrize("held", [0, 5_000])
def test_a_campaign_costs_a_few_comparisons_a_text(held):
    sketches, compared = campaign(10_000), []
    labels, is_new = every_new(len(sketches))
    labels[:held], is_new[:held] = 0, False

    def counting(left, right):
        compared.append(len(left))
        return agreement(left, right)

    with patch.object(alike, "agreement", counting):
        assert len(set(join_alike(sketches, labels, is_new, LEAST))) == 1
    assert sum(compared) < 3 * len(sketches)


def test_sketches_that_share_a_band_and_no_more_are_compared_a_part_at_a_time():
    sketches, sizes = np.random.default_rng(0).integers(2**62, size=(1_500, 12)), []
    sketches[:, 0] = 7
    pairs_of = alike._pairs

    def watched(pivots, rest):
        pairs = pairs_of(pivots, rest)
        sizes.append(len(pairs))
        return pairs

    with patch.object(alike, "_pairs", watched), patch.object(alike, "_PAIRS_AT_ONCE", 20_000):
        assert len(set(join_alike(sketches, *every_new(1_500), LEAST))) == 1_500
    assert max(sizes) <= 20_000
    assert sum(sizes) >= 1_500 * 1_499 / 2
