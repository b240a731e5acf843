"""Whether a confidence means what it says: precision against confidence, and the expected calibration error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecner.config import ModelSettings
from ecner.data.rows import LabelledText
from ecner.inference.reader import Reader
from ecner.labels import Span
from ecner.model.checkpoint import Checkpoint
from ecner.retraining.bootstrap import RESAMPLES, Estimate
from ecner.retraining.reading import ALL, ModelReading, read_texts

BINS = 10
_LEAST = 1e-12  # a certain mention has no log-odds
_STEPS = 60
_ENOUGH = 50
_CHUNK = 100  # resamples held at a time


@dataclass(frozen=True)
class Bin:
    """Mentions of similar confidence: its mean, the share that is strictly right, and how many they are."""

    confidence: float
    precision: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """The bins by rising confidence, and the expected calibration error.

    ece: mean over mentions of |precision - confidence| of their bin (Guo et al. 2017, section 2), the bins of equal
    mass (Nixon et al. 2019); 0 where nothing was predicted.
    """

    bins: tuple[Bin, ...]
    ece: float
    count: int


def fit_temperature(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float:
    """The temperature of mentions read at temperature 1 under which their being right is likeliest.

    Guo et al. 2017, section 4.2. It is kept between 0.2 and 5: where all are right, or all wrong, the likelihood has
    no other end. 1 where there are no mentions.

    *Shape:* both (N,).
    """
    if not len(confidence):
        return 1.0
    p = np.clip(confidence, _LEAST, 1 - _LEAST)
    signed = np.where(is_right, 1, -1) * np.log(p / (1 - p))  # log-odds of what came true
    low, high = np.log(0.2), np.log(5.0)
    for _ in range(_STEPS):  # ternary search: the loss is convex in 1 / T, so it has one valley in log T too
        left, right = low + (high - low) / 3, high - (high - low) / 3
        losses = [np.logaddexp(0, -signed / np.exp(t)).mean() for t in (left, right)]
        low, high = (low, right) if losses[0] <= losses[1] else (left, high)
    return float(np.exp((low + high) / 2))


def fit_temperatures(gold: Sequence[Sequence[Span]], reading: ModelReading) -> dict[str, float]:
    """The temperature of each label that was found, from a reading at temperature 1 of texts not trained on.

    A label found fewer than 50 times gets that of all mentions together.
    """
    labels, confidence, is_right = _judged(gold, reading)
    chosen = {label: labels == label for label in sorted(set(labels.tolist()))}
    everything = np.ones(len(labels), dtype=bool)
    rows = {label: own if own.sum() >= _ENOUGH else everything for label, own in chosen.items()}
    return {label: round(fit_temperature(confidence[own], is_right[own]), 4) for label, own in rows.items()}


def temperatures(checkpoint: Checkpoint, texts: Sequence[LabelledText], settings: ModelSettings) -> dict[str, float]:
    """Temperatures of a checkpoint's labels, by its reading of labelled texts that it was not trained on."""
    checkpoint.tagger.config.temperatures = None  # those of its base
    reader = Reader(checkpoint, device=settings.device, dtype=settings.dtype, decoder=settings.decoder)
    return fit_temperatures([t.spans for t in texts], read_texts(reader, [t.text for t in texts], {}))


def calibrate(confidence: NDArray[np.float64], is_right: NDArray[np.bool_], bins: int = BINS) -> Calibration:
    """Calibration of mentions, in any order. *Shape:* both (N,).

    Equal confidences share a bin, so bins are of equal mass only as far as that allows.
    """
    count = len(confidence)
    values, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = (np.cumsum(sizes) - sizes / 2) / max(1, count)  # of each value's ranks, in (0, 1)
    place = np.minimum((middle * bins).astype(np.int64), bins - 1)  # (values,)
    right = np.bincount(group, weights=is_right, minlength=len(values))
    mass = np.bincount(place, weights=sizes, minlength=bins)
    kept = mass > 0
    means = np.bincount(place, weights=values * sizes, minlength=bins)[kept] / mass[kept]
    shares = np.bincount(place, weights=right, minlength=bins)[kept] / mass[kept]
    rows = zip(means.tolist(), shares.tolist(), mass[kept].astype(np.int64).tolist(), strict=True)
    ece = float(np.abs(shares - means) @ mass[kept]) / count if count else 0.0
    return Calibration(tuple(Bin(*row) for row in rows), ece, count)


def ece_interval(
    gold: Sequence[Sequence[Span]], reading: ModelReading, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The expected calibration error over all mentions, and its 95% interval by a bootstrap over texts.

    Resampled figures lie a little above the value itself: chance parts precision from confidence in every bin.
    """
    _, confidence, is_right = _judged(gold, reading)
    order = np.argsort(confidence, kind="stable")
    text = np.repeat(np.arange(len(gold)), [len(spans) for spans in reading.spans])[order]
    gap = is_right[order] - confidence[order]
    draw = np.random.default_rng(seed)
    found = []
    for first in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - first)
        weights = draw.multinomial(len(gold), np.full(len(gold), 1 / len(gold)), size=rows)[:, text]  # (r, N)
        totals = weights.sum(1)
        place = (weights.cumsum(1) - weights / 2) / np.maximum(totals, 1)[:, None]
        bins = np.minimum((place * BINS).astype(np.int64), BINS - 1) + np.arange(rows)[:, None] * BINS
        gaps = np.bincount(bins.ravel(), weights=(weights * gap).ravel(), minlength=rows * BINS).reshape(rows, BINS)
        found.append(np.abs(gaps).sum(1) / np.maximum(totals, 1))
    lower, upper = np.quantile(np.concatenate(found), (0.025, 0.975)).tolist()
    return Estimate(calibrate(confidence, is_right).ece, lower, upper)


def calibrations(gold: Sequence[Sequence[Span]], reading: ModelReading) -> Mapping[str, Calibration]:
    """Calibration over all mentions of a reading (``all``), and of each type that it found."""
    labels, confidence, is_right = _judged(gold, reading)
    types = {label: labels == label for label in sorted(set(labels.tolist()))}
    return {ALL: calibrate(confidence, is_right)} | {
        entity_type: calibrate(confidence[chosen], is_right[chosen]) for entity_type, chosen in types.items()
    }


def _judged(
    gold: Sequence[Sequence[Span]], reading: ModelReading
) -> tuple[NDArray[np.object_], NDArray[np.float64], NDArray[np.bool_]]:
    """Label, confidence and strict rightness of each mention of a reading."""
    found = [
        (span.label, confidence, span in right)
        for right, spans, confidences in zip(map(set, gold), reading.spans, reading.confidences, strict=True)
        for span, confidence in zip(spans, confidences, strict=True)
    ]
    labels = np.array([label for label, _, _ in found], dtype=object)
    confidence = np.array([value for _, value, _ in found], dtype=np.float64)
    return labels, confidence, np.array([right for _, _, right in found], dtype=bool)
