"""Overlapping windows over texts that are longer than a model reads at once."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple


class Window(NamedTuple):
    """Characters ``[start, end)`` are read together; what is said of ``[keep_start, keep_end)`` is kept."""

    start: int
    end: int
    keep_start: int
    keep_end: int


def cut(length: int, *, window: int, overlap: int) -> Iterator[Window]:
    """Windows whose kept parts tile a text of ``length`` characters.

    Neighbours share ``overlap`` characters, the last one is pushed back to be full, and each character is
    kept from the window in which it stands farther from an edge. Tags are decoded over the kept parts joined,
    so no mention is lost or doubled at a seam.
    """
    starts = [*range(0, max(length - window, 0), window - overlap), max(length - window, 0)]
    seams = [(left + window + right) // 2 for left, right in pairwise(starts)]
    for start, keep_start, keep_end in zip(starts, [0, *seams], [*seams, length], strict=True):
        yield Window(start, min(start + window, length), keep_start, keep_end)
