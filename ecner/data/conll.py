"""The CoNLL form: a character, a space or tab, and its tag a line; a blank line between sentences.

The last space or tab of a line separates, so that the character may itself be white space.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from ecner.data.jsonl import check_utf8
from ecner.data.rows import BadRow, LabelledText, RowProblem, shown
from ecner.labels import Scheme, TagSet

_COLUMNS = re.compile(r"(.+)[ \t]([^ \t]+)", re.DOTALL)
_CONLL_LINE = re.compile(r".[ \t](O|[A-Z]-[^ \t]+)", re.DOTALL)
_PREFIXES = ("B-", "I-", "L-", "U-")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNWRITABLE_LABEL = re.compile(r"[ \t\r\n\ud800-\udfff]")

_Line = tuple[int, str]


def is_conll_line(line: str) -> bool:
    """Whether a line is one character and something like a tag."""
    return _CONLL_LINE.fullmatch(line) is not None


def scheme_of(tags: Iterable[str]) -> Scheme:
    """BILOU where any tag is L- or U-, else BIO."""
    return "BILOU" if any(tag.startswith(("L-", "U-")) for tag in tags) else "BIO"


def parse_conll(lines: Iterable[str]) -> Iterator[tuple[int, LabelledText | BadRow]]:
    """Each sentence with the number of its first line; a bad one names its first bad line.

    Rules of bad rows: invalid_utf8, bad_line, long_character, unknown_tag, illegal_sequence.
    """
    numbered = list(enumerate(lines, 1))
    tag_set = _tag_set(line for _, line in numbered)
    for filled, group in groupby(numbered, key=lambda numbered_line: bool(numbered_line[1])):
        if filled:
            sentence = list(group)
            yield sentence[0][0], _parse_sentence(sentence, tag_set)


def render_conll(labelled: LabelledText, tag_set: TagSet) -> bytes:
    """The lines of a sentence and the blank line after it.

    Raises:
        RowProblem: what the form cannot hold: empty_text, line_feed, surrogate (UTF-8 refuses it),
            unwritable_label (white space in it would be read as a separator or a line end), unknown_label.
    """
    text = labelled.text
    if not text:
        raise RowProblem("empty_text", "CoNLL has no line for a text without characters")
    if "\n" in text:
        raise RowProblem("line_feed", f"{shown(text)} holds a line feed, which would be read as a line's end")
    if _SURROGATE.search(text):
        raise RowProblem("surrogate", f"{shown(text)} holds a lone surrogate: UTF-8 has no bytes for it")
    for label in {span.label for span in labelled.spans}:
        if label not in tag_set.labels:
            raise RowProblem("unknown_label", f"{shown(label)} is not one of {', '.join(tag_set.labels)}")
        if _UNWRITABLE_LABEL.search(label):
            raise RowProblem("unwritable_label", f"{shown(label)} holds white space or a surrogate")
    tags = tag_set.encode(labelled.spans, len(text))
    lines = [f"{char} {tag_set.tags[tag]}\n" for char, tag in zip(text, tags, strict=True)]
    return "".join([*lines, "\n"]).encode()


def _tag_set(lines: Iterable[str]) -> TagSet:
    """All tags of the labels that stand in the file."""
    tags = {match[2] for line in lines if (match := _COLUMNS.fullmatch(line))}
    # a tag of another form has no part in the set: its line is reported as unknown_tag
    labels = {tag[2:] for tag in tags if tag.startswith(_PREFIXES) and len(tag) > len("B-")}
    return TagSet.from_labels(labels, scheme_of(tags))


def _parse_sentence(sentence: Sequence[_Line], tag_set: TagSet) -> LabelledText | BadRow:
    chars: list[str] = []
    tags: list[int] = []
    for number, line in sentence:
        try:
            char, tag = _parse_line(line, tag_set)
            _check_order(tags, tag, tag_set)
        except RowProblem as problem:
            return BadRow(number, problem.reason, problem.detail)
        chars.append(char)
        tags.append(tag)
    if not tag_set.legal_end[tags[-1]]:
        detail = f"a sentence may not end with {tag_set.tags[tags[-1]]}"
        return BadRow(sentence[-1][0], "illegal_sequence", detail)
    return LabelledText("".join(chars), tuple(tag_set.decode(tags)))


def _parse_line(line: str, tag_set: TagSet) -> tuple[str, int]:
    check_utf8(line)
    match = _COLUMNS.fullmatch(line)
    if not match:
        raise RowProblem("bad_line", f"{shown(line)} is not a character, a space and a tag")
    char, tag = match.groups()
    if len(char) > 1:
        raise RowProblem("long_character", f"{shown(char)} before the last space: expected one code point")
    if tag not in tag_set.ids:
        raise RowProblem("unknown_tag", f"{shown(tag)} is not a {tag_set.scheme} tag such as O or B-LABEL")
    return char, tag_set.ids[tag]


def _check_order(before: Sequence[int], tag: int, tag_set: TagSet) -> None:
    if not before and not tag_set.legal_start[tag]:
        raise RowProblem("illegal_sequence", f"a sentence may not start with {tag_set.tags[tag]}")
    if before and not tag_set.legal_transitions[before[-1]][tag]:
        raise RowProblem("illegal_sequence", f"{tag_set.tags[tag]} may not follow {tag_set.tags[before[-1]]}")
