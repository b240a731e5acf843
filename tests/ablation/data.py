"""The labelled sets that all cells share, and what may be added to their train split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecner.data.corpus import read_corpus
from ecner.data.rows import LabelledText
from ecner.labels import TagSet
from tests.ablation.leaks import leaks

LABELS = ("HCCX", "HPPX", "MISC", "XH")
_SPLIT = 20_261_123


@dataclass(frozen=True)
class Sets:
    """The official splits of titles and reviews."""

    titles: tuple[LabelledText, ...]
    reviews: tuple[LabelledText, ...]
    titles_dev: tuple[LabelledText, ...]
    reviews_dev: tuple[LabelledText, ...]

    @classmethod
    def read(cls, shared: Path) -> "Sets":
        """The sets in the data folder."""
        names = ("ecommerce/train", "reviews_labelled/train", "ecommerce/dev", "reviews_labelled/dev")
        return cls(*(read_corpus(shared / "data" / f"{name}.jsonl", strict=True).texts for name in names))

    @property
    def tag_set(self) -> TagSet:
        """The tags of all four labels."""
        return TagSet.from_labels(LABELS)

    @property
    def train(self) -> tuple[LabelledText, ...]:
        """The rows of both train splits."""
        return self.titles + self.reviews

    def fold(self, number: int, folds: int) -> tuple[list[LabelledText], list[LabelledText]]:
        """The train rows without a fold, and the fold. Rows are dealt one by one, so repeated texts may part."""
        place = np.random.default_rng(_SPLIT).permutation(len(self.train)) % folds
        rows = list(zip(self.train, place.tolist(), strict=True))
        return [r for r, fold in rows if fold != number], [r for r, fold in rows if fold == number]

    def dev_texts(self) -> list[str]:
        """All texts that no added row may hold."""
        return [row.text for row in self.titles_dev + self.reviews_dev]

    def admitted(self, rows: Sequence[LabelledText]) -> list[LabelledText]:
        """The rows that hold no dev text."""
        is_leak = leaks([row.text for row in rows], self.dev_texts())
        return [row for row, leaked in zip(rows, is_leak, strict=True) if not leaked]


def added_rows(sets: Sets, names: Sequence[str], files: Mapping[str, Path]) -> list[LabelledText]:
    """What a variant adds to the train split, checked against both dev sets once more.

    Raises:
        SystemExit: a file holds a row with a dev text, or is not named.
    """
    rows: list[LabelledText] = []
    for name in names:
        if name == "reviews":
            rows += sets.reviews  # once more: they stand for more of what is read
        elif name not in files:
            raise SystemExit(f"name the rows {name!r} with --added {name}=FILE")
        else:
            given = read_corpus(files[name], strict=True).texts
            if len(sets.admitted(given)) != len(given):
                raise SystemExit(f"{files[name]} holds rows with dev texts: make it anew")
            rows += given
    return rows
