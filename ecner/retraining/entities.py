"""What analysts would see of a change of model: how the top entities of recent reviews move."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecner.nightly.names import Lexicon
from ecner.retraining.reading import CHALLENGER, CHAMPION, ModelReading

TOP = 20
Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class EntityRow:
    """In how many reviews each model finds an entity, and at which place of its type; None: not at all, no model."""

    canonical: str
    champion: int | None
    challenger: int
    champion_rank: int | None
    challenger_rank: int | None


@dataclass(frozen=True)
class EntityChange:
    """A type's top entities under either model, most reviews first, and the share of their counts that moved.

    moved: sum |new - old| / sum max(old, new) over these rows (weighted Jaccard distance): 0 where nothing changed,
    1 where the models have no entity in common; None without a champion.
    """

    rows: tuple[EntityRow, ...]
    moved: float | None


def entity_counts(
    texts: Sequence[str], reading: ModelReading, lexicon: Lexicon, min_confidence: Mapping[str, float]
) -> Counts:
    """For each type and canonical name, the number of reviews that a night would count it in."""
    counts: dict[str, Counter[str]] = {}
    for text, spans, confidences in zip(texts, reading.spans, reading.confidences, strict=True):
        named = {
            (span.label, lexicon.canonical(span.label, text[span.start : span.end]))
            for span, confidence in zip(spans, confidences, strict=True)
            if confidence >= min_confidence.get(span.label, 0)
        }
        for entity_type, name in named:
            counts.setdefault(entity_type, Counter())[name] += 1
    return counts


def entity_changes(counts: Mapping[str, Counts], top: int = TOP) -> Mapping[str, EntityChange]:
    """Change of each type's top entities, from the counts of each model by its side."""
    types = sorted({entity_type for found in counts.values() for entity_type in found})
    return {
        entity_type: _change({side: found.get(entity_type, {}) for side, found in counts.items()}, top)
        for entity_type in types
    }


def _change(counts: Mapping[str, Mapping[str, int]], top: int) -> EntityChange:
    ranks = {side: _ranks(found) for side, found in counts.items()}
    shown = {name for places in ranks.values() for name, place in places.items() if place <= top}
    old, new = counts.get(CHAMPION), counts[CHALLENGER]
    rows = [
        EntityRow(
            canonical=name,
            champion=None if old is None else old.get(name, 0),
            challenger=new.get(name, 0),
            champion_rank=ranks.get(CHAMPION, {}).get(name),
            challenger_rank=ranks[CHALLENGER].get(name),
        )
        for name in shown
    ]
    rows.sort(key=lambda row: (-max(row.champion or 0, row.challenger), row.canonical))
    moved = None
    if old is not None:
        moved = sum(abs(r.challenger - (r.champion or 0)) for r in rows) / sum(
            max(r.challenger, r.champion or 0) for r in rows
        )
    return EntityChange(tuple(rows), moved)


def _ranks(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Places from 1, by count and then by name."""
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    return {name: place for place, name in enumerate(ordered, 1)}
