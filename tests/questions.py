"""README's worked questions: two queries each, for the warehouse and for the copies in the lake, and what they say."""

import re
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl

from ecner.storage.query import run_query

_QUESTION = re.compile(r"^-- \d+\. (.+)\n([^;]+);\n([^;]+);\n((?:--> .+\n)+)", re.MULTILINE)
_MACRO = re.compile(r"^create macro copies.+;$", re.MULTILINE)


class Question(NamedTuple):
    """A question, how both are asked it, and the rows that README shows."""

    text: str
    warehouse: str
    copies: str
    shown: tuple[str, ...]


def read_questions(readme: str) -> list[Question]:
    """All questions, in order."""
    return [
        Question(text, of_warehouse, of_copies, tuple(re.findall("^--> (.+)$", shown, re.MULTILINE)))
        for text, of_warehouse, of_copies, shown in _QUESTION.findall(readme)
    ]


def ask_warehouse(url: str, question: Question) -> pl.DataFrame:
    """What the warehouse says."""
    return run_query(url, None, question.warehouse)


def ask_copies(readme: str, folder: Path, question: Question) -> pl.DataFrame:
    """What the copies say, with README's macro, in the folder that the night ran in."""
    with duckdb.connect() as connection:
        connection.execute(f"set file_search_path = '{folder}'")
        connection.execute(_MACRO.search(readme)[0])
        return connection.sql(question.copies).pl()


def as_shown(frame: pl.DataFrame) -> tuple[str, ...]:
    """Rows as README shows them."""
    return tuple(
        " | ".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row)
        for row in frame.iter_rows()
    )
