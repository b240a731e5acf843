import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.labels import Span
from ecner.retraining.calibration import Bin, calibrate, calibrations, fit_temperature, fit_temperatures
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


def drawn(temperature, count=20_000, seed=0):
    """Confidences at temperature 1, and whether each mention is right: as likely as the tempered one says."""
    draw = np.random.default_rng(seed)
    odds = draw.normal(1.5, 2.5, count)
    is_right = draw.random(count) < 1 / (1 + np.exp(-odds / temperature))
    return 1 / (1 + np.exp(-odds)), is_right


@pytest.mark.parametrize("temperature", [0.4, 0.8, 1.0, 1.6, 3.0])
def test_a_known_temperature_is_found_again(temperature):
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def loss(confidence, is_right, temperature):
    """Mean negative log-likelihood, by the plain formula."""
    tempered = 1 / (1 + np.exp(-np.log(confidence / (1 - confidence)) / temperature))
    return -np.log(np.where(is_right, tempered, 1 - tempered)).mean()


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=40))
def test_no_other_temperature_in_its_range_is_likelier(rows):
    confidence, is_right = (np.array(column) for column in zip(*rows, strict=True))
    found = fit_temperature(confidence, is_right)
    assert 0.2 <= found <= 5
    best = min(loss(confidence, is_right, t) for t in np.geomspace(0.2, 5, 60))
    assert loss(confidence, is_right, found) <= best + 1e-9


def test_extremes_have_an_end():
    confident = np.array([0.7, 0.9, 0.99])
    assert fit_temperature(np.array([]), np.array([], dtype=bool)) == 1
    assert fit_temperature(confident, np.ones(3, dtype=bool)) == pytest.approx(0.2)
    assert fit_temperature(confident, np.zeros(3, dtype=bool)) == pytest.approx(5)
    certain = np.array([0.0, 1.0, 1.0])
    assert 0.2 <= fit_temperature(certain, np.array([False, True, True])) <= 5
    assert fit_temperature(certain, np.array([True, False, False])) == pytest.approx(5)


def one_a_text(parts):
    """Gold and a reading with one mention a text, from a label's confidences and whether each is right."""
    gold, spans, confidences = [], [], []
    for label, (confidence, is_right) in parts.items():
        for value, right in zip(confidence.tolist(), is_right.tolist(), strict=True):
            gold.append([Span(0, 1 if right else 2, label)])
            spans.append([Span(0, 1, label)])
            confidences.append([value])
    return gold, ModelReading(spans, confidences)


def test_each_label_has_a_temperature_of_its_own():
    parts = {"a": drawn(0.6, 3000), "b": drawn(2.0, 3000)}
    found = fit_temperatures(*one_a_text(parts))
    assert found == {label: pytest.approx(fit_temperature(*own), abs=1e-4) for label, own in parts.items()}
    assert found["a"] < 1 < found["b"]
    assert fit_temperatures([[Span(0, 1, "a")]], ModelReading([[]], [[]])) == {}


def test_a_label_that_is_seldom_found_has_the_temperature_of_all():
    parts = {"often": drawn(2.0, 3000), "seldom": drawn(0.3, 49)}
    found = fit_temperatures(*one_a_text(parts))
    together = fit_temperature(*(np.concatenate([parts[label][i] for label in parts]) for i in (0, 1)))
    assert found["seldom"] == pytest.approx(together, abs=1e-4)
    assert found["often"] == pytest.approx(fit_temperature(*parts["often"]), abs=1e-4)
    assert found["seldom"] != found["often"]
