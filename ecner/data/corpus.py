"""Labelled texts from and to files, the two forms told apart by content; no bad row is dropped in silence."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from ecner.data.conll import is_conll_line, parse_conll, render_conll
from ecner.data.files import BYTE_ORDER_MARK, read_bytes, split_lines, write_whole
from ecner.data.jsonl import parse_jsonl, render_jsonl
from ecner.data.rows import BadRow, LabelledText, RowProblem
from ecner.errors import DataError, UsageError
from ecner.labels import TagSet

FileFormat = Literal["jsonl", "conll"]

_NO_ROW_AT_ALL = {"invalid_utf8", "bad_json", "missing_key", "bad_line"}
_SHOWN_BAD_ROWS = 20


@dataclass(frozen=True)
class Corpus:
    """Labelled texts of a file, the line (from 1) that each begins on, and the rows that were not taken."""

    texts: tuple[LabelledText, ...]
    lines: tuple[int, ...]
    bad_rows: tuple[BadRow, ...]
    file_format: FileFormat

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the good rows, sorted."""
        return _labels(self.texts)


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion read and wrote; rows_read = rows_written + the number of bad rows."""

    source_format: FileFormat
    target_format: FileFormat
    rows_read: int
    rows_written: int
    bad_rows: tuple[BadRow, ...]


def read_corpus(path: Path | str, *, strict: bool = False) -> Corpus:
    """Labelled texts of a chinese_ner_sft JSONL or CoNLL file (BIO or BILOU); ``-`` is standard input.

    Raises:
        UsageError: the file is missing or cannot be read.
        DataError: the file is of neither form or, where ``strict``, holds a bad row.
    """
    lines = split_lines(read_bytes(path).decode("utf-8", "surrogateescape"))
    if lines and not is_conll_line(lines[0]):  # U+FEFF, a space and a tag: there it is the character
        lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
    file_format = _format_of(lines, path)
    rows = list((parse_jsonl if file_format == "jsonl" else parse_conll)(lines))
    good = [(line, row) for line, row in rows if isinstance(row, LabelledText)]
    bad = tuple(row for _, row in rows if isinstance(row, BadRow))
    if not good and all(row.reason in _NO_ROW_AT_ALL for row in bad):
        raise _neither(path, f"{bad[0]}, and no row is better")
    if strict and bad:
        raise DataError(f"{path} holds {len(bad)} bad row(s): mend or remove them\n{_listed(bad)}")
    return Corpus(tuple(row for _, row in good), tuple(line for line, _ in good), bad, file_format)


def write_corpus(
    path: Path | str, texts: Iterable[LabelledText], file_format: FileFormat, tag_set: TagSet | None = None
) -> tuple[BadRow, ...]:
    """Writes what the form can hold, whole or not at all, and returns the rest.

    The ``line`` of a bad row is the text's place in ``texts``, from 1. Without a tag set, CoNLL gets BIO tags
    of the labels in ``texts``. ``render_jsonl`` and ``render_conll`` name what each form cannot hold.

    Raises:
        UsageError: the file cannot be written.
    """
    texts = tuple(texts)
    tag_set = tag_set or TagSet.from_labels(_labels(texts))
    render = render_jsonl if file_format == "jsonl" else partial(render_conll, tag_set=tag_set)
    rendered, bad_rows = [], []
    for place, labelled in enumerate(texts, 1):
        try:
            rendered.append(render(labelled))
        except RowProblem as problem:
            bad_rows.append(BadRow(place, problem.reason, problem.detail))
    write_whole(path, b"".join(rendered))
    return tuple(bad_rows)


def convert(source: Path | str, target: Path | str) -> ConvertReport:
    """JSONL to CoNLL (BIO) or CoNLL to JSONL, by what the source holds; bad rows name lines of the source.

    Text and spans are carried over; other keys of JSONL rows have no place in CoNLL.

    Raises:
        UsageError: a file cannot be read or written, or both are the same.
        DataError: the source is of neither form.
    """
    if Path(source).resolve() == Path(target).resolve():
        raise UsageError(f"input and output are the same file, {source}; name another output")
    corpus = read_corpus(source)
    target_format: FileFormat = "conll" if corpus.file_format == "jsonl" else "jsonl"
    unwritten = write_corpus(target, corpus.texts, target_format)
    refused = [row._replace(line=corpus.lines[row.line - 1]) for row in unwritten]
    return ConvertReport(
        source_format=corpus.file_format,
        target_format=target_format,
        rows_read=len(corpus.texts) + len(corpus.bad_rows),
        rows_written=len(corpus.texts) - len(refused),
        bad_rows=tuple(sorted([*corpus.bad_rows, *refused])),
    )


def _labels(texts: Iterable[LabelledText]) -> tuple[str, ...]:
    return tuple(sorted({span.label for labelled in texts for span in labelled.spans}))


def _format_of(lines: Sequence[str], path: Path | str) -> FileFormat:
    """The form that more lines look like; a broken line or two do not change it."""
    conll = sum(map(is_conll_line, lines))
    jsonl = sum(line.lstrip().startswith("{") for line in lines)
    if not conll and not jsonl:
        raise _neither(path, "no line looks like either" if any(lines) else "it is empty")
    return "conll" if conll >= jsonl else "jsonl"  # equal: every line is a brace and its tag


def _neither(path: Path | str, found: str) -> DataError:
    return DataError(
        f"{path} does not hold labelled texts: {found}; expected JSONL rows with the keys text and entities "
        "(start_idx, end_idx, entity_text, entity_label), or CoNLL lines of a character, a space and its tag"
    )


def _listed(bad_rows: Sequence[BadRow]) -> str:
    more = len(bad_rows) - _SHOWN_BAD_ROWS
    lines = [f"  {row}" for row in bad_rows[:_SHOWN_BAD_ROWS]]
    return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)
