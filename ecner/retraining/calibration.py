"""Whether a confidence means what it says: precision against confidence, and the expected calibration error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecner.labels import Span
from ecner.retraining.reading import ALL, ModelReading

BINS = 10
_LEAST = 1e-12  # a certain mention has no log-odds
_STEPS = 60


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
    """The temperature of each label that was found, from a reading at temperature 1 of texts not trained on."""
    labels, confidence, is_right = _judged(gold, reading)
    return {
        label: round(fit_temperature(confidence[labels == label], is_right[labels == label]), 4)
        for label in sorted(set(labels.tolist()))
    }


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
