"""Texts without labels, the form told by content: Parquet, JSONL, or a text per line."""

import io
import re
from pathlib import Path

import polars as pl

from ecner.data.files import read_bytes, split_lines
from ecner.data.jsonl import parse_object, value_of
from ecner.data.rows import RowProblem
from ecner.errors import DataError

_TEXT = "text"
_PARQUET_MAGIC = b"PAR1"
_OPENS_OBJECT = re.compile(r'\s*\{\s*["}]')


def read_texts(path: Path | str) -> list[str]:
    """Texts in order: column ``text`` of Parquet, key ``text`` of JSONL, else lines; ``-`` is standard input.

    Lines end with LF or CRLF only; a blank line is an empty text; a byte order mark is passed over.

    Raises:
        UsageError: the file is missing or cannot be read.
        DataError: no text column or key, a null in it, corrupt Parquet, bad JSON, bytes that are not UTF-8.
    """
    data = read_bytes(path)
    if data.startswith(_PARQUET_MAGIC) or _named(path, ".parquet"):
        return _parquet_texts(data, path)
    try:
        lines = split_lines(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: bytes that are not UTF-8; save the file as UTF-8") from None
    first = next((line for line in lines if line.strip()), "")
    if _OPENS_OBJECT.match(first) or (first and _named(path, ".jsonl")):
        return _jsonl_texts(lines, path)
    return lines


def _named(path: Path | str, suffix: str) -> bool:
    """Whether the name promises a form: a file that breaks the promise is an error, not a list of lines."""
    return str(path).lower().endswith(suffix)


def _jsonl_texts(lines: list[str], path: Path | str) -> list[str]:
    texts = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                texts.append(value_of(parse_object(line), _TEXT, str))
            except RowProblem as problem:
                expected = f"expected a JSON object a line, with a string under {_TEXT!r}"
                raise DataError(f"{path}, line {number}: {problem}; {expected}") from None
    return texts


def _parquet_texts(data: bytes, path: Path | str) -> list[str]:
    try:
        schema = pl.read_parquet_schema(io.BytesIO(data))
        if _TEXT not in schema:
            raise DataError(f"{path} has no column {_TEXT!r}: found {', '.join(schema)}; rename one")
        column = pl.read_parquet(io.BytesIO(data), columns=[_TEXT])[_TEXT]
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}; write the file anew") from None
    if not isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
        raise DataError(f"{path}: column {_TEXT!r} is {column.dtype}; expected strings")
    if column.null_count():
        row = (column.is_null().arg_max() or 0) + 1
        raise DataError(f"{path}, row {row}: column {_TEXT!r} is null; remove such rows or fill them")
    return column.cast(pl.String).to_list()
