"""What turns spans into mentions: labels to types, thresholds, names. None of it touches the model."""

import hashlib
import json
from dataclasses import dataclass, replace

import polars as pl

from ecner.config import ModelSettings
from ecner.nightly.names import Lexicon, Names
from ecner.resources import resource

_PUBLISHED = ("review_id", "product_id", "review_date", "text_hash", "fingerprint", "model_version")


@dataclass(frozen=True)
class Rules:
    """The rules of some settings."""

    model: ModelSettings
    lexicon: Lexicon

    @classmethod
    def of(cls, model: ModelSettings) -> "Rules":
        """The rules of some settings, with their lexicon or the one in configs.

        Raises:
            UsageError: the lexicon cannot be read.
        """
        return cls(model, Lexicon.read(model.lexicon or resource("configs/lexicon.yaml")))

    def linked(self, links: Names) -> "Rules":
        """The same rules under decisions of people on names."""
        return replace(self, lexicon=self.lexicon.linked(links))

    @property
    def digest(self) -> str:
        """Identity of the rules: where it changes, the whole history is published anew from the cached spans."""
        model = self.model
        parts = [dict(model.labels), dict(model.min_confidence), self.lexicon.to_json(), list(model.evaluated_on)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def mentions(self, reviews: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
        """Mentions of reviews (columns of the table mentions but run_id), numbered from 1 by their start.

        Args:
            reviews: the columns _PUBLISHED.
            spans: rows of text_spans for the reviews' fingerprints and texts.
        """
        floor = pl.col("entity_type").replace_strict(
            dict(self.model.min_confidence), default=0.0, return_dtype=pl.Float64
        )
        kept = spans.with_columns(
            entity_type=pl.col("label").replace_strict(dict(self.model.labels), default=pl.col("label"))
        ).filter(pl.col("confidence") >= floor)
        return (
            self.lexicon.add_canonical(reviews.select(_PUBLISHED).join(kept, on=["fingerprint", "text_hash"]))
            .sort("review_id", "start_char")
            .with_columns(mention_no=pl.int_range(1, pl.len() + 1).over("review_id"))
        )
