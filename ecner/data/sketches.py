"""Sketches of texts: what tells whether two of them are nearly the same, in a fixed number of integers a text.

A sketch holds the least hashes (MinHash) of a text's pairs of neighbouring characters. The share of values that two
sketches have in common estimates the Jaccard similarity of the two sets of pairs (Broder 1997, On the resemblance and
containment of documents). Sketches are kept for good, so they come from datasketch's scheme affine64, whose values it
keeps across versions.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import polars as pl
from datasketch import MinHash
from numpy.typing import NDArray

from ecner.schema import BANDS

VALUES_A_BAND = 4
_BITS = 16  # of each value that are kept: four values are one 64-bit integer
_SEED = 1
_SPACE = re.compile(r"\s+")


def sketch_texts(texts: pl.Series) -> pl.DataFrame:
    """Sketches of texts, a row each (columns BANDS); width, case and white space make no difference."""
    scheme = MinHash(num_perm=len(BANDS) * VALUES_A_BAND, seed=_SEED, scheme="affine64", hashfunc=int)
    values = np.empty((len(texts), scheme.num_perm), dtype=np.uint64)
    for row, text in enumerate(texts):
        values[row] = _values(scheme, text)
    kept = values & np.uint64(2**_BITS - 1)  # all of them are small, and alike in their first bits
    shifts = np.arange(VALUES_A_BAND, dtype=np.uint64) * np.uint64(_BITS)
    bands = (kept.reshape(len(texts), len(BANDS), VALUES_A_BAND) << shifts).sum(axis=2, dtype=np.uint64)
    return pl.DataFrame(bands.view(np.int64), schema=dict.fromkeys(BANDS, pl.Int64))


def agreement(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of values that two sketches have in common. *Shape:* left, right (N, bands); result (N,)."""
    differing = (left ^ right).view(np.uint16).reshape(len(left), -1)
    return np.asarray((differing == 0).mean(axis=1))


def _values(scheme: MinHash, text: str) -> NDArray[np.uint64]:
    sketch = scheme.copy()
    sketch.clear()
    sketch.update_batch(_pairs(text))
    return np.asarray(sketch.hashvalues)


def _pairs(text: str) -> Sequence[int]:
    """A text's pairs of neighbouring characters, its two ends among them, each as one number."""
    folded = _SPACE.sub("", unicodedata.normalize("NFKC", text).casefold())
    ended = f"\0{folded}\0".encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(ended, dtype=np.uint32).astype(np.uint64)
    return list(map(int, np.unique(points[:-1] << np.uint64(32) | points[1:])))
