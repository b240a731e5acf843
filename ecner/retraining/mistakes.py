"""What a model gets wrong: which types it takes for which, and its worst errors in their context."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ecner.labels import Span
from ecner.retraining.reading import ModelReading

KINDS = ("missed", "spurious", "type", "ends", "type and ends")
WORST = 20
_CONTEXT_CHARS = 20


@dataclass(frozen=True)
class Confusion:
    """Gold mentions by the type of the prediction that lies on them.

    *Shape:* counts (types + 1, types + 1): rows gold types, then what is not gold (spurious); columns predicted
    types, then what was not found (missed).
    """

    types: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Mistake:
    """An error in its context. ``times``: how often the same words are mistaken in the same way.

    kind: missed, spurious, type (right ends), ends (right type), type and ends. ``mention`` covers the gold and the
    predicted mention; a side that has none is None. other_is_right: the other model does not make this error.
    """

    row: int
    kind: str
    before: str
    mention: str
    after: str
    gold: str | None
    gold_type: str | None
    predicted: str | None
    predicted_type: str | None
    confidence: float | None
    other_is_right: bool
    times: int = 1


def align(gold: Sequence[Span], predicted: Sequence[Span]) -> list[tuple[Span | None, Span | None]]:
    """Pairs mentions that overlap, each at most once: of one type first, then by how much they share.

    Mentions with the same ends meet no other. What stays alone is paired with None.
    """
    overlaps = sorted(
        (left.label != right.label, -_shared(left, right), left, right)
        for left in gold
        for right in predicted
        if _shared(left, right) > 0
    )
    taken: dict[Span, Span] = {}
    free = set(predicted)
    for _, _, left, right in overlaps:
        if left not in taken and right in free:
            taken[left] = right
            free.remove(right)
    return [*((left, taken.get(left)) for left in gold), *((None, right) for right in predicted if right in free)]


def confusion(gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]], types: Sequence[str]) -> Confusion:
    """Confusion between types over texts; the sums of a row are the gold mentions, of a column the predicted ones."""
    pairs = Counter(
        (left and left.label, right and right.label) for found in map(align, gold, predicted) for left, right in found
    )
    names = (*types, None)
    return Confusion(tuple(types), tuple(tuple(pairs[row, column] for column in names) for row in names))


def error_classes(
    gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]], types: Sequence[str]
) -> dict[str, dict[str, int]]:
    """How many mentions of each type are mistaken in each way; a spurious one counts under the type predicted."""
    counts: Counter[tuple[str, str]] = Counter()
    for found in map(align, gold, predicted):
        for left, right in found:
            if left != right and (mention := left or right):
                counts[mention.label, _kind(left, right)] += 1
    return {name: {kind: counts[name, kind] for kind in KINDS} for name in types}


def worst_mistakes(
    texts: Sequence[str],
    gold: Sequence[Sequence[Span]],
    reading: ModelReading,
    other: ModelReading | None,
    limit: int = WORST,
) -> tuple[Mistake, ...]:
    """The worst errors, each kind of them once: what the other model gets right before what both get wrong.

    Within these, confident errors and mentions that are often missed take turns.
    """
    found = list(_mistakes(texts, gold, reading, other))
    times = Counter(map(_kind_of, found))
    wrong = sorted(
        (m for m in found if m.confidence is not None), key=lambda m: (not m.other_is_right, -(m.confidence or 0))
    )
    missed = sorted(
        (m for m in found if m.confidence is None), key=lambda m: (not m.other_is_right, -times[_kind_of(m)])
    )
    placed = [(not m.other_is_right, i, m) for some in (wrong, missed) for i, m in enumerate(_once(some))]
    placed.sort(key=lambda entry: entry[:2])
    return tuple(replace(mistake, times=times[_kind_of(mistake)]) for *_, mistake in placed[:limit])


def _mistakes(
    texts: Sequence[str], gold: Sequence[Sequence[Span]], reading: ModelReading, other: ModelReading | None
) -> Iterator[Mistake]:
    for row, (text, golds, spans) in enumerate(zip(texts, gold, reading.spans, strict=True)):
        confidences = dict(zip(spans, reading.confidences[row], strict=True))
        for left, right in align(golds, spans):
            if left != right:
                others = other.spans[row] if other else None
                yield _mistake(row, text, left, right, confidences.get(right) if right else None, others)


def _mistake(
    row: int,
    text: str,
    gold: Span | None,
    predicted: Span | None,
    confidence: float | None,
    others: Sequence[Span] | None,
) -> Mistake:
    sides = [span for span in (gold, predicted) if span]
    start, end = min(span.start for span in sides), max(span.end for span in sides)
    if others is None:
        other_is_right = False
    elif gold:
        other_is_right = gold in others
    else:
        other_is_right = not any(_shared(span, sides[0]) > 0 for span in others)
    return Mistake(
        row=row,
        kind=_kind(gold, predicted),
        before=text[max(0, start - _CONTEXT_CHARS) : start],
        mention=text[start:end],
        after=text[end : end + _CONTEXT_CHARS],
        gold=text[gold.start : gold.end] if gold else None,
        gold_type=gold.label if gold else None,
        predicted=text[predicted.start : predicted.end] if predicted else None,
        predicted_type=predicted.label if predicted else None,
        confidence=confidence,
        other_is_right=other_is_right,
    )


def _kind(gold: Span | None, predicted: Span | None) -> str:
    if gold is None:
        return "spurious"
    if predicted is None:
        return "missed"
    if gold[:2] == predicted[:2]:
        return "type"
    return "ends" if gold.label == predicted.label else "type and ends"


def _kind_of(mistake: Mistake) -> tuple[str | None, ...]:
    """What makes two errors the same."""
    return (mistake.gold, mistake.gold_type, mistake.predicted, mistake.predicted_type)


def _once(mistakes: Sequence[Mistake]) -> list[Mistake]:
    """The first of each kind."""
    first: dict[tuple[str | None, ...], Mistake] = {}
    for mistake in mistakes:
        first.setdefault(_kind_of(mistake), mistake)
    return list(first.values())


def _shared(left: Span, right: Span) -> int:
    """Characters that two spans share; below 0 they lie apart."""
    return min(left.end, right.end) - max(left.start, right.start)
