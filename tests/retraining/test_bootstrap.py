import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecner.labels import Span, TagSet
from ecner.metrics import score
from ecner.retraining import bootstrap
from ecner.retraining.bootstrap import f1, f1_samples, percentile_interval, text_counts, weights_of
from tests.data.strategies import LABELS, spans_of, tilings


def some_counts(texts=40, types=2, seed=0, skill=(0.6, 0.6)):
    random = np.random.default_rng(seed)
    gold = random.integers(0, 5, (texts, types))
    sides = []
    for share in skill:
        matched = random.binomial(gold, share)
        sides.append(np.stack([matched, matched + random.integers(0, 3, gold.shape), gold], axis=-1))
    return np.stack(sides)


def test_samples_are_those_of_a_slow_loop_with_the_same_weights(monkeypatch):
    monkeypatch.setattr(bootstrap, "_CHUNK", 40 * 7)  # several chunks, the last one short
    counts = some_counts()
    found = f1_samples(counts, resamples=30, seed=3)
    rows = np.concatenate(list(weights_of(40, 30, 3)))
    assert rows.shape == (30, 40)
    assert (rows.sum(axis=1) == 40).all()
    for model in range(2):
        for resample, weights in enumerate(rows):
            for column in range(2):
                drawn = [counts[model, i, column] for i in range(40) for _ in range(int(weights[i]))]
                matched, predicted, gold = np.sum(drawn, axis=0)
                assert found[model, resample, column] == pytest.approx(2 * matched / (predicted + gold))


def test_the_same_seed_gives_the_same_samples():
    counts = some_counts()
    assert (f1_samples(counts, resamples=50, seed=1) == f1_samples(counts, resamples=50, seed=1)).all()
    assert (f1_samples(counts, resamples=50, seed=1) != f1_samples(counts, resamples=50, seed=2)).any()


def test_equal_models_differ_by_nothing():
    counts = some_counts()[[0, 0]]
    samples = f1_samples(counts)
    assert (percentile_interval(samples[1] - samples[0], 0.95) == 0).all()
    assert np.ptp(samples[0]) > 0


def test_pairing_narrows_the_interval():
    one = some_counts(200)[0]
    other = one.copy()
    other[:5, :, 0] = 0  # a few texts apart
    samples = f1_samples(np.stack([one, other]))
    alone = np.ptp(percentile_interval(samples[0], 0.95), axis=0)
    assert (np.ptp(percentile_interval(samples[1] - samples[0], 0.95), axis=0) < alone).all()


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth = f1(some_counts(50_000, skill=(0.5, 0.6)).sum(axis=1))
    gain = truth[1] - truth[0]
    hits = []
    for seed in range(1, 61):
        samples = f1_samples(some_counts(80, seed=seed, skill=(0.5, 0.6)), resamples=200, seed=seed)
        lower, upper = percentile_interval(samples[1] - samples[0], 0.9)
        hits.append((lower <= gain) & (gain <= upper))
    assert 0.78 < np.mean(hits) < 0.98


@settings(max_examples=50)
@given(st.lists(st.tuples(tilings(), tilings()), min_size=1, max_size=6))
def test_counts_give_the_scores(pairs):
    gold, predicted = ([spans_of(pair[i]) for pair in pairs] for i in range(2))
    lengths = [sum(length for tiles in pair for length, _ in tiles) for pair in pairs]
    counts = text_counts(gold, predicted, LABELS, np.zeros(len(pairs), dtype=np.int64))
    strict = score(gold, predicted, lengths, TagSet.from_labels(LABELS)).strict
    figures = f1(counts.sum(axis=0))
    assert figures[0] == pytest.approx(strict.micro.f1)
    assert figures[1:] == pytest.approx([strict.per_type[label].f1 for label in LABELS])


def test_rows_of_one_text_are_one_draw():
    gold = [[Span(0, 1, "XH")], [], [Span(0, 1, "XH")]]
    counts = text_counts(gold, gold, ["XH"], np.array([1, 0, 1]))
    assert counts[:, 0].tolist() == counts[:, 1].tolist() == [[0, 0, 0], [2, 2, 2]]
