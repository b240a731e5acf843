"""The chinese_ner_sft JSONL form: an object a line with ``text`` and ``entities``.

Offsets are half-open and count code points. entity_text must be there: it guards against offsets that count
otherwise.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from ecner.data.rows import BadRow, LabelledText, RowProblem, shown
from ecner.labels import Span

_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_Value = TypeVar("_Value", str, int, list[Any])


def parse_jsonl(lines: Iterable[str]) -> Iterator[tuple[int, LabelledText | BadRow]]:
    """Each row with its line number; blank lines hold no row, keys beyond the form's are passed over.

    Rules of bad rows: invalid_utf8, bad_json, missing_key, wrong_type, empty_label, bad_offsets,
    text_mismatch, overlap.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, _parse_row(line)
            except RowProblem as problem:
                yield number, BadRow(number, problem.reason, problem.detail)


def render_jsonl(labelled: LabelledText) -> bytes:
    """A row, line feed included. A lone surrogate, which UTF-8 refuses, is written as its JSON escape.

    Raises:
        RowProblem: surrogate_pair: JSON reads two surrogates in a row as one other character.
    """
    if any(map(_SURROGATE_PAIR.search, (labelled.text, *(span.label for span in labelled.spans)))):
        raise RowProblem("surrogate_pair", f"{shown(labelled.text)} holds a split character: JSON joins it")
    entities = [
        {"start_idx": start, "end_idx": end, "entity_text": labelled.text[start:end], "entity_label": label}
        for start, end, label in labelled.spans
    ]
    row = json.dumps({"text": labelled.text, "entities": entities}, ensure_ascii=False)
    return f"{row}\n".encode("utf-8", "backslashreplace")


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object of a line that was decoded with ``surrogateescape``.

    Raises:
        RowProblem: invalid_utf8 or bad_json.
    """
    check_utf8(line)
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RowProblem("bad_json", f"{error} in {shown(line)}; expected one JSON object") from None
    if not isinstance(row, dict):
        raise RowProblem("bad_json", f"{shown(line)} is not a JSON object")
    return row


def value_of(row: dict[str, Any], key: str, kind: type[_Value]) -> _Value:
    """The value of a key that must be there and be of one type.

    Raises:
        RowProblem: missing_key or wrong_type.
    """
    if key not in row:
        raise RowProblem("missing_key", f"no key {key!r}: found {shown(sorted(row))}")
    value = row[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RowProblem("wrong_type", f"{key} is {shown(value)}: expected {kind.__name__}")
    return value


def check_utf8(line: str) -> None:
    """Refuses a line with surrogates: ``surrogateescape`` alone puts them there.

    Raises:
        RowProblem: invalid_utf8.
    """
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise RowProblem("invalid_utf8", f"character {error.start + 1} of the line is not UTF-8") from None


def _parse_row(line: str) -> LabelledText:
    row = parse_object(line)
    text = value_of(row, "text", str)
    spans = tuple(_parse_entity(entity, text) for entity in value_of(row, "entities", list))
    try:
        return LabelledText(text, spans)
    except ValueError as error:
        raise RowProblem("overlap", str(error)) from None


def _parse_entity(entity: object, text: str) -> Span:
    if not isinstance(entity, dict):
        raise RowProblem("wrong_type", f"entity {shown(entity)}: expected an object")
    start, end = value_of(entity, "start_idx", int), value_of(entity, "end_idx", int)
    surface, label = value_of(entity, "entity_text", str), value_of(entity, "entity_label", str)
    if not label:
        raise RowProblem("empty_label", f"entity {shown(surface)} at [{start}, {end})")
    if not 0 <= start < end <= len(text):
        raise RowProblem("bad_offsets", f"[{start}, {end}) is empty or leaves the text of length {len(text)}")
    if (found := text[start:end]) != surface:
        raise RowProblem("text_mismatch", f"text[{start}:{end}] is {shown(found)}, entity_text {shown(surface)}")
    return Span(start, end, label)
