"""Whether a confidence means what it says: precision against confidence, and the expected calibration error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecner.labels import Span
from ecner.retraining.reading import ALL, ModelReading

BINS = 10


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
    found = [
        (span.label, confidence, span in right)
        for right, spans, confidences in zip(map(set, gold), reading.spans, reading.confidences, strict=True)
        for span, confidence in zip(spans, confidences, strict=True)
    ]
    labels = np.array([label for label, _, _ in found], dtype=object)
    confidence = np.array([value for _, value, _ in found], dtype=np.float64)
    is_right = np.array([right for _, _, right in found], dtype=bool)
    types = {label: labels == label for label in sorted({label for label, _, _ in found})}
    return {ALL: calibrate(confidence, is_right)} | {
        entity_type: calibrate(confidence[chosen], is_right[chosen]) for entity_type, chosen in types.items()
    }
