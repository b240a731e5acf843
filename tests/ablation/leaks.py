"""Texts that would carry a dev text into training: what is added to a train split is checked against these."""

from collections.abc import Sequence

import polars as pl

_TELLING = 8  # characters from which a text inside another one is no accident


def leaks(texts: Sequence[str], dev: Sequence[str]) -> list[bool]:
    """Which texts are equal to a dev text, or contain one of 8 characters or more.

    Width, case and white space do not count.
    """
    held = _plain(dev).unique()
    plain = _plain(texts)
    long = held.filter(held.str.len_chars() >= _TELLING)
    return (plain.is_in(held.implode()) | plain.str.contains_any(long.implode())).to_list()


def _plain(texts: Sequence[str]) -> pl.Series:
    readable = [text.encode("utf-8", "replace").decode() for text in texts]  # Arrow holds no lone surrogate
    folded = pl.Series(readable, dtype=pl.String).str.normalize("NFKC").str.to_lowercase()
    return folded.str.replace_all(r"\s", "")
