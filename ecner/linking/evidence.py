"""What the history says of names: how often they stand in texts, with which others, and in which slots.

All of it comes from the cached spans of the texts that reviews have, each text once; no text is read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from ecner.linking.score import is_chinese
from ecner.nightly.rules import Rules
from ecner.storage.transaction import Reader

_TEXT = ["fingerprint", "text_hash"]
_SPAN = [*_TEXT, "span_no", "label", "surface", "start_char", "end_char", "left_context", "right_context"]
NAME = ["entity_type", "canonical"]
PAIR = ["entity_type", "latin", "chinese"]
_BESIDE = 2  # characters between two names that stand side by side: Lenovo/联想, 联想 (Lenovo)
_SLOT = 2  # characters to either side of a name that make a slot
_NO_NAMES = "misc"  # amounts, places and the rest
_FOLDED_FROM = 200_000  # rows
_MOST_IN_A_SLOT = 50  # names; what stands around more says nothing of them


@dataclass(frozen=True)
class Evidence:
    """Counts: names (NAME, text_count, example), pairs that met (PAIR, together_count, adjacent_count), slots.

    A Latin and a Chinese name have met where a text has both, and are adjacent where they stand side by side in it;
    slots (PAIR, shared_slots) are the different surroundings that both stand in.
    """

    names: pl.DataFrame
    met: pl.DataFrame
    slots: pl.DataFrame


def gather(reader: Reader, rules: Rules) -> Evidence:
    """Reads all cached spans once, as a stream; memory follows the numbers of names, pairs and slots."""
    names, met, slots = _Folded(_fold_names), _Folded(_fold_met), _Folded(pl.DataFrame.unique)
    for page in _whole_texts(reader.stream("text_spans", columns=_SPAN, order_by=[*_TEXT, "span_no"])):
        named = _named(_of_reviews(reader, page), rules)
        names.add(_count_names(named))
        met.add(_count_met(named))
        slots.add(_find_slots(named))
    if names.rows is None or met.rows is None or slots.rows is None:
        return _nothing()
    return Evidence(_fold_names(names.rows).sort(NAME), _fold_met(met.rows).sort(PAIR), _shared(slots.rows.unique()))


class _Folded:
    """Rows that are folded whenever they have doubled: memory follows what they fold to, and time what they are."""

    def __init__(self, fold: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self.rows: pl.DataFrame | None = None
        self._fold, self._most = fold, _FOLDED_FROM

    def add(self, rows: pl.DataFrame) -> None:
        self.rows = rows if self.rows is None else pl.concat([self.rows, rows])
        if len(self.rows) > self._most:
            self.rows = self._fold(self.rows)
            self._most = max(2 * len(self.rows), _FOLDED_FROM)


def _fold_names(counts: pl.DataFrame) -> pl.DataFrame:
    return counts.group_by(NAME, maintain_order=True).agg(pl.col("text_count").sum(), pl.col("example").first())


def _fold_met(counts: pl.DataFrame) -> pl.DataFrame:
    return counts.group_by(PAIR).agg(pl.col("together_count", "adjacent_count").sum())


def _nothing() -> Evidence:
    pair = dict.fromkeys(PAIR, pl.String)
    return Evidence(
        pl.DataFrame(schema={**dict.fromkeys(NAME, pl.String), "text_count": pl.Int64, "example": pl.String}),
        pl.DataFrame(schema={**pair, "together_count": pl.Int64, "adjacent_count": pl.Int64}),
        pl.DataFrame(schema={**pair, "shared_slots": pl.Int64}),
    )


def _whole_texts(pages: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Pages cut anew so that no text lies in two of them."""
    held: pl.DataFrame | None = None
    for page in pages:
        rows = page if held is None else pl.concat([held, page])
        is_last = pl.all_horizontal(pl.col(name) == rows[name][-1] for name in _TEXT)
        held, complete = rows.filter(is_last), rows.filter(~is_last)
        if not complete.is_empty():
            yield complete
    if held is not None:
        yield held


def _of_reviews(reader: Reader, spans: pl.DataFrame) -> pl.DataFrame:
    """Spans of texts that reviews have, by the model that reads them now: the cache holds others too."""
    hashes = spans["text_hash"].unique()
    held = reader.lookup("review_coverage", "text_hash", hashes, columns=_TEXT).unique()
    return spans.join(held, on=_TEXT, how="semi", maintain_order="left")


def _named(spans: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Spans of what has a name, with entity_type, canonical and is_chinese."""
    types = pl.col("label").replace_strict(dict(rules.model.labels), default=pl.col("label"))
    named = rules.lexicon.add_canonical(spans.with_columns(entity_type=types))
    named = named.filter(pl.col("entity_type") != _NO_NAMES)
    distinct = named.select(pl.col("canonical").unique())
    scripts = distinct.with_columns(is_chinese=pl.Series(map(is_chinese, distinct["canonical"]), dtype=pl.Boolean))
    return named.join(scripts, on="canonical", how="left", maintain_order="left")


def _count_names(named: pl.DataFrame) -> pl.DataFrame:
    context = pl.concat_str(
        pl.col("left_context").fill_null(""), pl.lit("["), "surface", pl.lit("]"), pl.col("right_context").fill_null("")
    )
    return named.group_by(NAME).agg(
        text_count=pl.struct(_TEXT).n_unique().cast(pl.Int64), example=context.sort_by(*_TEXT, "span_no").first()
    )


def _count_met(named: pl.DataFrame) -> pl.DataFrame:
    """Latin and Chinese names of a type in one text."""
    place = [*_TEXT, "entity_type"]
    sides = [
        named.filter(pl.col("is_chinese") == chinese).select(
            *place, "start_char", "end_char", pl.col("canonical").alias(side)
        )
        for side, chinese in (("latin", False), ("chinese", True))
    ]
    pairs = sides[0].join(sides[1], on=place, suffix="_chinese")
    gap = pl.max_horizontal("start_char", "start_char_chinese") - pl.min_horizontal("end_char", "end_char_chinese")
    in_texts = pairs.group_by(*PAIR, *_TEXT).agg(is_beside=(gap <= _BESIDE).any())
    return in_texts.group_by(PAIR).agg(
        together_count=pl.len().cast(pl.Int64), adjacent_count=pl.col("is_beside").sum().cast(pl.Int64)
    )


def _find_slots(named: pl.DataFrame) -> pl.DataFrame:
    """What names stand between: NAME, is_chinese, slot."""
    sides = pl.col("left_context").str.slice(-_SLOT), pl.col("right_context").str.slice(0, _SLOT)
    whole = pl.all_horizontal(side.str.len_chars() == _SLOT for side in sides)
    return named.filter(whole).select(*NAME, "is_chinese", slot=pl.concat_str(sides, separator="\0")).unique()


def _shared(slots: pl.DataFrame) -> pl.DataFrame:
    telling = slots.filter(pl.len().over("entity_type", "slot") <= _MOST_IN_A_SLOT)
    latin, chinese = (
        telling.filter(pl.col("is_chinese") == is_chinese).select(
            "entity_type", "slot", pl.col("canonical").alias(side)
        )
        for side, is_chinese in (("latin", False), ("chinese", True))
    )
    return latin.join(chinese, on=["entity_type", "slot"]).group_by(PAIR).agg(shared_slots=pl.len().cast(pl.Int64))
