"""What a model reads in texts, under entity types, and how fast two models read the same."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np

from ecner.inference.reader import Reader
from ecner.labels import Span

ALL = "all"  # stands for all types, and for all data sets together
CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class ModelReading:
    """Mentions of each text in order of their start, labels being entity types, and their confidences."""

    spans: Sequence[Sequence[Span]]
    confidences: Sequence[Sequence[float]]

    def take(self, rows: Sequence[int]) -> "ModelReading":
        """The reading of some of the texts."""
        return ModelReading([self.spans[i] for i in rows], [self.confidences[i] for i in rows])


@dataclass(frozen=True)
class Speed:
    """Seconds of each model in each round over the same ``chars`` characters, the models taking turns."""

    chars: int
    seconds: Mapping[str, tuple[float, ...]]

    def chars_per_second(self, side: str) -> float:
        """Characters a second of the median round."""
        return self.chars / median(self.seconds[side])

    @property
    def slowdown(self) -> float | None:
        """Seconds of the challenger over those of the champion, medians of the rounds; None without a champion."""
        if CHAMPION not in self.seconds:
            return None
        return median(self.seconds[CHALLENGER]) / median(self.seconds[CHAMPION])


def read_texts(reader: Reader, texts: Sequence[str], types: Mapping[str, str]) -> ModelReading:
    """Reads texts as a night would; an unmapped label is its own type."""
    readings = reader.read(texts)
    typed = [
        [span._replace(label=types.get(span.label, span.label)) for span in spans]
        for spans in readings.spans(reader.tag_set.labels)
    ]
    ends = np.searchsorted(readings.text, np.arange(len(texts) + 1)).tolist()
    values = readings.confidence.tolist()
    return ModelReading(typed, [values[first:last] for first, last in pairwise(ends)])


def measure_speed(readers: Mapping[str, Reader], texts: Sequence[str], *, chars: int, rounds: int) -> Speed | None:
    """Times readers in turns over the first texts, up to ``chars`` characters; None where there is nothing to read."""
    lengths = np.cumsum([len(text) for text in texts])
    chosen = texts[: max(1, int(np.searchsorted(lengths, chars, side="right")))]
    total = sum(map(len, chosen))
    if not total:
        return None
    seconds: dict[str, list[float]] = {side: [] for side in readers}
    for _ in range(rounds):
        for side, reader in readers.items():
            began = time.perf_counter()
            reader.read(chosen)
            seconds[side].append(time.perf_counter() - began)
    return Speed(total, {side: tuple(values) for side, values in seconds.items()})
