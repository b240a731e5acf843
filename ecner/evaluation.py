"""Scores of a model on labelled texts, over all of them and apart for those seen and not seen in training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecner.data.corpus import read_corpus
from ecner.data.rows import LabelledText
from ecner.errors import DataError
from ecner.inference.reader import Reader
from ecner.labels import Span, TagSet
from ecner.metrics import Score, Scores, score, seqeval_report, split_seen, to_json


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation; types are entity types. seen and unseen are None without training texts.

    ``bad_rows`` names the rows of either file that were not taken, each with its file, line and rule.
    """

    scores: Scores
    seen: Scores | None
    unseen: Scores | None
    seqeval: str
    bad_rows: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The figures as ``ecner evaluate --json`` holds them."""
        parts = {name: to_json(part) for name, part in (("seen", self.seen), ("unseen", self.unseen)) if part}
        return to_json(self.scores) | parts

    def to_text(self) -> str:
        """The figures for a terminal."""
        lines = [
            f"{self.scores.n_texts} texts, token accuracy {self.scores.token_accuracy:.4f}, "
            f"macro F1 {self.scores.macro_f1:.4f}",
            "",
            f"{'':<22}{'precision':>10}{'recall':>10}{'F1':>10}{'support':>10}",
        ]
        for name in ("strict", "partial", "type_only"):
            lines.extend(_lines(name, getattr(self.scores, name)))
        for name, part in (("seen texts, strict", self.seen), ("unseen texts, strict", self.unseen)):
            if part:
                lines.extend(_lines(name, part.strict))
        return "\n".join([*lines, "", "seqeval (IOB2, strict)", self.seqeval])


def evaluate(reader: Reader, data: str | Path, train: str | Path | None, types: Mapping[str, str]) -> Evaluation:
    """Reads the texts as a night would and compares with their labels.

    Args:
        reader: the model.
        data: labelled texts.
        train: labelled texts that the model was trained on.
        types: label to entity type; an unmapped label is its own type.

    Raises:
        UsageError: a file is missing.
        DataError: a file does not hold labelled texts, or not one good row.
    """
    corpora = {path: read_corpus(path) for path in (data, train) if path is not None}
    corpus = corpora[data]
    if not corpus.texts:
        raise DataError(f"{data} holds no row to score: {corpus.bad_rows[0]}; mend its {len(corpus.bad_rows)} bad rows")
    gold = [_typed(t.spans, types) for t in corpus.texts]
    found = reader.read([t.text for t in corpus.texts]).spans(reader.tag_set.labels)
    predicted = [_typed(spans, types) for spans in found]
    tag_set = TagSet.from_labels({types.get(label, label) for label in reader.tag_set.labels})
    lengths = [len(t.text) for t in corpus.texts]

    def part(chosen: Sequence[int]) -> Scores:
        return score([gold[i] for i in chosen], [predicted[i] for i in chosen], [lengths[i] for i in chosen], tag_set)

    seen = unseen = None
    if train is not None:
        seen, unseen = map(part, split_seen((t.text for t in corpus.texts), (t.text for t in corpora[train].texts)))
    return Evaluation(
        scores=part(range(len(lengths))),
        seen=seen,
        unseen=unseen,
        seqeval=seqeval_report(gold, predicted, lengths),
        bad_rows=[f"{path}, {row}" for path, rows in corpora.items() for row in rows.bad_rows],
    )


def strict_f1(reader: Reader, texts: Sequence[LabelledText]) -> float:
    """Strict micro-F1 over the model's own labels."""
    predicted = reader.read([t.text for t in texts]).spans(reader.tag_set.labels)
    return score([t.spans for t in texts], predicted, [len(t.text) for t in texts], reader.tag_set).strict.micro.f1


def _typed(spans: Sequence[Span], types: Mapping[str, str]) -> list[Span]:
    return [span._replace(label=types.get(span.label, span.label)) for span in spans]


def _lines(name: str, scored: Score) -> list[str]:
    rows = [(name, scored.micro), *((f"  {label}", counts) for label, counts in scored.per_type.items())]
    return [f"{n:<22}{c.precision:>10.4f}{c.recall:>10.4f}{c.f1:>10.4f}{c.support:>10}" for n, c in rows]
