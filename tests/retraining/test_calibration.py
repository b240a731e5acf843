import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.labels import Span
from ecner.retraining.calibration import Bin, calibrate, calibrations
from ecner.retraining.reading import ModelReading

mentions = st.lists(st.tuples(st.floats(0, 1) | st.sampled_from([0.5, 1.0]), st.booleans()), max_size=60)


def calibrated(rows, bins=10):
    confidence, is_right = (np.array([row[i] for row in rows], dtype=kind) for i, kind in ((0, float), (1, bool)))
    return calibrate(confidence, is_right, bins)


def test_by_hand():
    found = calibrated([(0.2, False), (0.4, True), (0.9, True), (1.0, True)], bins=2)
    assert found.bins == (Bin(pytest.approx(0.3), 0.5, 2), Bin(0.95, 1.0, 2))
    assert found.ece == pytest.approx((2 * 0.2 + 2 * 0.05) / 4)


def test_different_confidences_fill_ten_equal_bins():
    found = calibrated([(i / 100, i % 2 == 0) for i in range(100)])
    assert [b.count for b in found.bins] == [10] * 10
    assert [b.confidence for b in found.bins] == pytest.approx([0.045 + i / 10 for i in range(10)])


@given(mentions, st.randoms(use_true_random=False))
def test_counts_add_up_and_no_order_matters(rows, random):
    found = calibrated(rows)
    assert sum(b.count for b in found.bins) == found.count == len(rows)
    assert sum(b.count * b.precision for b in found.bins) == pytest.approx(sum(right for _, right in rows))
    assert sum(b.count * b.confidence for b in found.bins) == pytest.approx(sum(value for value, _ in rows))
    assert 0 <= found.ece <= 1
    means = [b.confidence for b in found.bins]
    assert means == sorted(means)
    random.shuffle(rows)
    assert calibrated(rows) == found


def test_equal_confidences_share_a_bin():
    found = calibrated([(0.9, i < 63) for i in range(70)] + [(0.1, False)])
    assert found.bins == (Bin(0.1, 0.0, 1), Bin(pytest.approx(0.9), 0.9, 70))


def test_by_type():
    gold = [[Span(0, 1, "a")], [Span(0, 2, "b")], []]
    reading = ModelReading([[Span(0, 1, "a"), Span(1, 2, "b")], [Span(0, 1, "b")], []], [[0.9, 0.4], [0.6], []])
    found = calibrations(gold, reading)
    assert {name: c.count for name, c in found.items()} == {"all": 3, "a": 1, "b": 2}
    assert found["a"].ece == pytest.approx(0.1)
    assert found["b"].ece == pytest.approx(0.5)
    assert calibrations([[]], ModelReading([[]], [[]]))["all"].bins == ()
