"""Rows made from labelled ones, so that names are told by their context: the same sentence with names never seen."""

import random
import string
from collections.abc import Mapping, Sequence

from ecner.data.rows import LabelledText
from ecner.labels import Span


def renamed(texts: Sequence[LabelledText], labels: Sequence[str], *, seed: int) -> list[LabelledText]:
    """A copy of each text that mentions one of the labels, all of these mentions given other names.

    Half of the new names are drawn from those of all texts, half are made up: each character drawn anew from those that
    stand in names of the label and are of its kind (ideograph, small letter, capital, digit), the rest as it was.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret
    known = {label: sorted(_surfaces(texts, label)) for label in labels}
    alphabets = {label: _alphabets(names) for label, names in known.items()}
    made = []
    for labelled in texts:
        if any(span.label in known for span in labelled.spans):
            names = {
                span: draw.choice(known[span.label])
                if draw.getrandbits(1)
                else _made_up(labelled.text[span.start : span.end], alphabets[span.label], draw)
                for span in labelled.spans
                if span.label in known
            }
            made.append(_rewritten(labelled, names))
    return made


def spliced(texts: Sequence[LabelledText], *, seed: int) -> list[LabelledText]:
    """As many new texts as there are given: the beginning of one and the end of another, cut at no mention.

    For texts that are lists of names rather than sentences, such as product titles.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret
    others = draw.sample(texts, len(texts))
    return [
        _joined(left, _cut(left, draw), right, _cut(right, draw)) for left, right in zip(texts, others, strict=True)
    ]


def _cut(labelled: LabelledText, draw: random.Random) -> int:
    """A place near the middle that parts no mention."""
    length = len(labelled.text)
    middle = draw.randint(length // 4, length - length // 4)
    return next((span.start for span in labelled.spans if span.start < middle < span.end), middle)


def _joined(left: LabelledText, left_cut: int, right: LabelledText, right_cut: int) -> LabelledText:
    kept = [span for span in left.spans if span.end <= left_cut]
    by = left_cut - right_cut
    moved = [Span(s.start + by, s.end + by, s.label) for s in right.spans if s.start >= right_cut]
    return LabelledText(left.text[:left_cut] + right.text[right_cut:], (*kept, *moved))


def _surfaces(texts: Sequence[LabelledText], label: str) -> set[str]:
    return {t.text[s.start : s.end] for t in texts for s in t.spans if s.label == label}


def _alphabets(names: Sequence[str]) -> dict[str, str]:
    """The ideographs of names; other kinds of characters have their whole alphabet."""
    return {
        "ideograph": "".join(sorted({c for name in names for c in name if _kind(c) == "ideograph"})),
        "lower": string.ascii_lowercase,
        "upper": string.ascii_uppercase,
        "digit": string.digits,
    }


def _kind(character: str) -> str:
    if character in string.digits:
        return "digit"
    if character.isascii() and character.isalpha():
        return "lower" if character.islower() else "upper"
    return "ideograph" if "\u4e00" <= character <= "\u9fff" else ""


def _made_up(surface: str, alphabets: Mapping[str, str], draw: random.Random) -> str:
    return "".join(draw.choice(alphabets.get(_kind(c)) or c) for c in surface)


def _rewritten(labelled: LabelledText, names: Mapping[Span, str]) -> LabelledText:
    """The text with other names in some of its spans, and all spans where they then stand."""
    parts, spans, reached, length = [], [], 0, 0
    for span in labelled.spans:
        surface = names.get(span, labelled.text[span.start : span.end])
        before = labelled.text[reached : span.start]
        start = length + len(before)
        parts += [before, surface]
        reached, length = span.end, start + len(surface)
        spans.append(Span(start, length, span.label))
    return LabelledText("".join([*parts, labelled.text[reached:]]), tuple(spans))
