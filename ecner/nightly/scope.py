"""What a run is about: which reviews it looks at, and the model that reads them."""

from dataclasses import dataclass
from datetime import date

import polars as pl


@dataclass(frozen=True)
class Selection:
    """Which reviews a run looks at: all that are new by the watermark, or those of some dates, or everything anew."""

    first: date | None = None
    last: date | None = None
    full: bool = False

    @property
    def by_watermark(self) -> bool:
        """Whether the run reads from the watermark on, and moves it."""
        return self.first is None and self.last is None and not self.full

    def holds(self, day: pl.Expr) -> pl.Expr:
        """Whether a review of a day is looked at."""
        after = day >= self.first if self.first else pl.lit(value=True)
        before = day <= self.last if self.last else pl.lit(value=True)
        return after & before


@dataclass(frozen=True)
class ReadingModel:
    """The model that a run was pinned to when it started; ``uri`` leads a worker on any machine to it."""

    version: str
    uri: str
    fingerprint: str
