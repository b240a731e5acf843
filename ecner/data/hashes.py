"""Identity of a text, the same for nightly readings, label snapshots and the texts that a model was trained on."""

import hashlib

import polars as pl


def text_hash(text: str) -> str:
    """The first 32 hex digits of the SHA-256 of a text in UTF-8; lone surrogates are hashed as they are.

    Two texts share it only if they are equal, for all that can be known.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def hash_texts(texts: pl.Series) -> pl.Series:
    """Identity of each text; equal texts are hashed once, and what is null stays so."""
    distinct = texts.unique().drop_nulls()
    hashes = pl.Series(list(map(text_hash, distinct.to_list())), dtype=pl.String)
    return texts.replace_strict(distinct, hashes, default=None, return_dtype=pl.String)
