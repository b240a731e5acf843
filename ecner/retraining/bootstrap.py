"""Paired bootstrap of F1: how far a difference between two models could be the luck of the test texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecner.labels import Span

RESAMPLES = 2_000
_CHUNK = 4_000_000  # weights held at a time


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    lower: float
    upper: float


def text_counts(
    gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]], types: Sequence[str], groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Mentions matched strictly, predicted and gold, summed over the rows of a group: those of one text.

    *Shape:* groups (rows,), from 0; returns (groups, 1 + types, 3), all types first.
    """
    column = {entity_type: i for i, entity_type in enumerate(types, 1)}
    counts = np.zeros((int(groups.max(initial=-1)) + 1, 1 + len(types), 3), dtype=np.int64)
    for group, left, right in zip(groups.tolist(), gold, predicted, strict=True):
        for kind, spans in enumerate((set(left) & set(right), right, left)):
            for span in spans:
                counts[group, column[span.label], kind] += 1
    counts[:, 0] = counts[:, 1:].sum(axis=1)
    return counts


def f1(sums: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of counts (…, 3): matched, predicted, gold; 0 over nothing."""
    matched, predicted, gold = np.moveaxis(sums, -1, 0)
    total = predicted + gold
    ratios: NDArray[np.float64] = np.divide(2 * matched, total, out=np.zeros(total.shape), where=total > 0)
    return ratios


def f1_samples(counts: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """F1 of each model on resampled texts, the same texts for all models: what makes their difference paired.

    *Shape:* counts (models, texts, types, 3); returns (models, resamples, types).
    """
    models, texts, types, _ = counts.shape
    columns = counts.swapaxes(0, 1).reshape(texts, -1).astype(np.float64)  # sums of them stay whole numbers
    sums = np.concatenate([weights @ columns for weights in weights_of(texts, resamples, seed)])
    return f1(sums.reshape(resamples, models, types, 3)).swapaxes(0, 1)


def weights_of(texts: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each text is drawn when as many as there are are drawn with replacement; (chunk, texts) at a time."""
    random = np.random.default_rng(seed)
    size = max(1, _CHUNK // max(1, texts))
    for first in range(0, resamples, size):
        rows = min(size, resamples - first)
        drawn = random.integers(0, texts, (rows, texts)) + np.arange(rows)[:, None] * texts
        yield np.bincount(drawn.ravel(), minlength=rows * texts).reshape(rows, texts).astype(np.float64)


def percentile_interval(samples: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    """Percentile interval (Efron and Tibshirani 1993, chapter 13). *Shape:* samples (resamples, …); returns (2, …)."""
    ends: NDArray[np.float64] = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return ends
