"""Scores of predicted mentions against gold ones: strict, partial and by type alone, false negatives counted.

Strict counts equal those of seqeval (scheme IOB2, mode strict) and nervaluate; they are taken from sets, as
seqeval needs many times as long. The other two have no equal there: nervaluate's ``partial`` passes over
types, and its ``ent_type`` pairs by nearest ends, which may leave a mention alone that could be matched.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from operator import eq
from typing import Any

from ecner.labels import Span, TagSet, check_spans

Mentions = Sequence[Sequence[Span]]
_Pair = tuple[Sequence[Span], Sequence[Span]]
_Matches = Callable[[Sequence[Span], Sequence[Span]], int]


@dataclass(frozen=True)
class Counts:
    """Mentions that matched, were predicted, and are gold; a ratio over nothing is 0."""

    matched: int
    predicted: int
    support: int

    @property
    def precision(self) -> float:
        """Share of the predicted mentions that matched."""
        return _ratio(self.matched, self.predicted)

    @property
    def recall(self) -> float:
        """Share of the gold mentions that matched."""
        return _ratio(self.matched, self.support)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.matched, self.predicted + self.support)

    def to_json(self) -> dict[str, float]:
        """The figures by name."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1, "support": self.support}


@dataclass(frozen=True)
class Score:
    """One way of matching: over all mentions (micro), and per type."""

    micro: Counts
    per_type: dict[str, Counts]

    def to_json(self) -> dict[str, Any]:
        """The figures over all mentions, and under ``per_type`` those of each type."""
        per_type = {label: counts.to_json() for label, counts in self.per_type.items()}
        return {**self.micro.to_json(), "per_type": per_type}


@dataclass(frozen=True)
class Scores:
    """All scores of one set of texts. macro_f1: mean strict F1 of the types that are gold or predicted."""

    n_texts: int
    token_accuracy: float
    macro_f1: float
    strict: Score
    partial: Score
    type_only: Score


def score(gold: Mentions, predicted: Mentions, lengths: Sequence[int], tag_set: TagSet) -> Scores:
    """Scores per text: gold and predicted mentions, and the text's length in code points.

    Labels beyond those of ``tag_set`` count too; its scheme is that of the tags behind token accuracy.

    Raises:
        ValueError: lists of unequal length, or mentions that are empty, leave their text or overlap.
    """
    gold = _checked(gold, lengths)
    predicted = _checked(predicted, lengths)
    pairs = _by_label(gold, predicted)
    labels = (*tag_set.labels, *sorted(pairs.keys() - set(tag_set.labels)))
    strict = _score(pairs, labels, _exact)
    return Scores(
        n_texts=len(lengths),
        token_accuracy=_token_accuracy(gold, predicted, lengths, TagSet.from_labels(labels, tag_set.scheme)),
        macro_f1=_ratio(fsum(strict.per_type[label].f1 for label in pairs), len(pairs)),
        strict=strict,
        partial=_score(pairs, labels, _overlapping),
        type_only=_score(pairs, labels, _of_one_type),
    )


def to_json(scores: Scores) -> dict[str, Any]:
    """The scores as ``ecner evaluate --json`` holds them."""
    return {
        "n_texts": scores.n_texts,
        "token_accuracy": scores.token_accuracy,
        "macro_f1": scores.macro_f1,
        "strict": scores.strict.to_json(),
        "partial": scores.partial.to_json(),
        "type_only": scores.type_only.to_json(),
    }


def seqeval_report(gold: Mentions, predicted: Mentions, lengths: Sequence[int]) -> str:
    """The classification report of seqeval, strict over IOB2 tags; slow, a second or two for 2,000 titles.

    Raises:
        ValueError: as ``score`` does.
    """
    # it brings scikit-learn, which takes a second to import
    from seqeval import metrics, scheme  # type: ignore[import-untyped]  # noqa: PLC0415

    labels = {span.label for mentions in (*gold, *predicted) for span in mentions}
    tag_set = TagSet.from_labels(labels, "BIO")
    gold_tags, predicted_tags = (
        [[tag_set.tags[tag] for tag in tag_set.encode(m, n)] for m, n in zip(mentions, lengths, strict=True)]
        for mentions in (gold, predicted)
    )
    if not labels:  # seqeval fails on it
        return "no mention is gold or predicted"
    # without a scheme seqeval passes over the mode in silence
    strict = {"mode": "strict", "scheme": scheme.IOB2, "zero_division": 0}
    return str(metrics.classification_report(gold_tags, predicted_tags, digits=4, **strict))


def split_seen(texts: Iterable[str], train_texts: Iterable[str]) -> tuple[list[int], list[int]]:
    """Indices of the texts that stand word for word among those of training, and of those that do not."""
    known = set(train_texts)
    seen: list[int] = []
    unseen: list[int] = []
    for i, text in enumerate(texts):
        (seen if text in known else unseen).append(i)
    return seen, unseen


def _checked(mentions: Mentions, lengths: Sequence[int]) -> list[list[Span]]:
    """Mentions of each text in order of their start, which the sweep over overlaps counts on."""
    return [check_spans(spans, length) for spans, length in zip(mentions, lengths, strict=True)]


def _by_label(gold: Mentions, predicted: Mentions) -> dict[str, list[_Pair]]:
    """For each label, the gold and predicted mentions of each text that has any."""
    pairs: dict[str, list[_Pair]] = {}
    for left, right in zip(gold, predicted, strict=True):
        for label in {span.label for span in (*left, *right)}:
            pair = ([s for s in left if s.label == label], [s for s in right if s.label == label])
            pairs.setdefault(label, []).append(pair)
    return pairs


def _score(pairs: Mapping[str, Sequence[_Pair]], labels: Iterable[str], matches: _Matches) -> Score:
    per_type = {
        label: Counts(
            matched=sum(matches(left, right) for left, right in pairs.get(label, ())),
            predicted=sum(len(right) for _, right in pairs.get(label, ())),
            support=sum(len(left) for left, _ in pairs.get(label, ())),
        )
        for label in labels
    }
    columns = ((c.matched, c.predicted, c.support) for c in per_type.values())
    return Score(Counts(*map(sum, zip((0, 0, 0), *columns, strict=True))), per_type)


def _exact(left: Sequence[Span], right: Sequence[Span]) -> int:
    return len(set(left) & set(right))


def _overlapping(left: Sequence[Span], right: Sequence[Span]) -> int:
    """Size of a maximum one-to-one matching of overlapping spans.

    No two spans of a side overlap. So of the first spans of both sides, the one that ends first overlaps at
    most the other: to pair them if they overlap, and else to drop it, loses nothing.
    """
    matched = i = j = 0
    while i < len(left) and j < len(right):
        if left[i].start < right[j].end and right[j].start < left[i].end:
            matched, i, j = matched + 1, i + 1, j + 1
        elif left[i].end <= right[j].start:
            i += 1
        else:
            j += 1
    return matched


def _of_one_type(left: Sequence[Span], right: Sequence[Span]) -> int:
    return min(len(left), len(right))


def _token_accuracy(gold: Mentions, predicted: Mentions, lengths: Sequence[int], tag_set: TagSet) -> float:
    """Share of characters whose gold and predicted tags are equal."""
    equal = sum(
        sum(map(eq, tag_set.encode(left, length), tag_set.encode(right, length)))
        for left, right, length in zip(gold, predicted, lengths, strict=True)
    )
    return _ratio(equal, sum(lengths))


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else 0.0
