"""The list of labelled pairs, what is known of their names, and how well suggestions do on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from ecner.linking.evidence import NAME, PAIR, Evidence
from ecner.linking.suggest import suggestions
from ecner.nightly.names import Lexicon

HERE = Path(__file__).parent
NO_LEXICON = Lexicon({})


class Pair(NamedTuple):
    """Two names of a type as they are written, and whether they are one."""

    entity_type: str
    left: str
    right: str
    is_one: bool

    @property
    def names(self) -> frozenset[str]:
        """Both as they are counted by rules alone."""
        return frozenset(NO_LEXICON.name(self.entity_type, name) for name in (self.left, self.right))

    @property
    def is_settled(self) -> bool:
        """Whether the rules make them one."""
        return len(self.names) == 1


class Figures(NamedTuple):
    """Suggestions of labelled pairs that rules leave open: right ones, wrong ones, and pairs to find."""

    right: int
    wrong: int
    to_find: int

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.right / self.to_find


def read_pairs() -> Iterator[Pair]:
    entity_type, is_one = "", False
    for line in (HERE / "pairs.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            entity_type, said = line.strip("[]").split()
            is_one = said == "one"
        elif line and not line.startswith("#"):
            left, right = line.split(" | ")
            yield Pair(entity_type, left, right, is_one)


def frozen_evidence() -> Evidence:
    """What the labelled titles and reviews say of the names of the list (tests.bench.linking writes it)."""
    names = pl.read_csv(HERE / "names.csv", schema={**dict.fromkeys(NAME, pl.String), "text_count": pl.Int64})
    counts = ["together_count", "adjacent_count", "shared_slots"]
    met = pl.read_csv(HERE / "met.csv", schema={**dict.fromkeys(PAIR, pl.String), **dict.fromkeys(counts, pl.Int64)})
    return Evidence(
        names.with_columns(example=pl.lit(None, pl.String)),
        met.drop("shared_slots").filter(pl.col("together_count") > 0),
        met.select(*PAIR, "shared_slots").filter(pl.col("shared_slots") > 0),
    )


def of_the_list(evidence: Evidence) -> Evidence:
    """Evidence on the names of the list alone; one that is found nowhere stands in one text."""
    listed = [(pair.entity_type, name) for pair in read_pairs() for name in pair.names]
    names = pl.DataFrame(listed, schema=dict.fromkeys(NAME, pl.String), orient="row").unique().sort(NAME)
    known = names.join(evidence.names, on=NAME, how="left").with_columns(pl.col("text_count").fill_null(1))
    sides = [names.rename({"canonical": side}) for side in ("latin", "chinese")]
    met, slots = (
        frame.join(sides[0], on=["entity_type", "latin"], how="semi").join(
            sides[1], on=["entity_type", "chinese"], how="semi"
        )
        for frame in (evidence.met, evidence.slots)
    )
    return Evidence(known.sort(NAME), met.sort(PAIR), slots.sort(PAIR))


def judge(evidence: Evidence, pairs: list[Pair], least_score: float) -> tuple[Figures, list[Pair], list[Pair]]:
    """Figures of the suggestions on labelled pairs, the wrong ones, and those that were not found."""
    found = suggestions(evidence, NO_LEXICON, least_score).select("entity_type", "alias", "canonical")
    suggested = {(kind, frozenset(names)) for kind, *names in found.iter_rows()}
    open_pairs = [pair for pair in pairs if not pair.is_settled]
    told = [pair for pair in open_pairs if (pair.entity_type, pair.names) in suggested]
    ones = [pair for pair in open_pairs if pair.is_one]
    figures = Figures(sum(pair.is_one for pair in told), sum(not pair.is_one for pair in told), len(ones))
    return figures, [pair for pair in told if not pair.is_one], [pair for pair in ones if pair not in told]
