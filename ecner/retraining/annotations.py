"""Labels that people enter into the warehouse: the table ``annotations``, checked row by row, settled text by text."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple

import polars as pl

from ecner.config import Address, Settings, SourceSettings, redacted
from ecner.data.hashes import hash_texts
from ecner.data.rows import LabelledText, RowProblem, shown
from ecner.errors import DataError, UsageError
from ecner.labels import Span
from ecner.nightly.rows import ROWS, check
from ecner.nightly.source import open_source
from ecner.nightly.tombstones import FORGOTTEN, buried
from ecner.storage.engine import database_file, parse_url
from ecner.storage.migrations import is_current
from ecner.storage.warehouse import Warehouse

_TABLE = "annotations"
_UNDATED = datetime.min.replace(tzinfo=UTC)
_EXPECTED = "expected a JSON array of [start, end] or {start, end, label}, [] for none"


@dataclass(frozen=True)
class Rejection:
    """Rows that break one rule: how many, and what is wrong with one of them."""

    rule: str
    count: int
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.count} row(s), such as: {self.detail}"


@dataclass(frozen=True)
class Annotations:
    """Each annotated text once, in order of the text; how many rows that took, and those that could not be used."""

    texts: tuple[LabelledText, ...] = ()
    rows: int = 0
    rejected: tuple[Rejection, ...] = ()


class _Statement(NamedTuple):
    """What one row says of its text; in order of age, so that of two the greater one holds."""

    labelled_at: datetime
    annotator: str
    label: str  # empty: none is given
    spans: tuple[Span, ...]

    def by_label(self) -> dict[str, list[Span]]:
        """The spans of each label that the row speaks of; empty for a row that says of all labels: none."""
        labels = {self.label, *(span.label for span in self.spans)} - {""}
        return {label: [span for span in self.spans if span.label == label] for label in sorted(labels)}


def read_annotations(settings: Settings) -> Annotations:
    """The labelled texts of the warehouse's table; texts of rows that give a review_id alone come from the source.

    Raises:
        UsageError: there is no warehouse, it is not up to date, or the source cannot be opened.
        DataError: the table holds a value of another kind than its columns.
        RunError: the warehouse or the source failed on the way.
    """
    rows, forgotten = _read_table(settings.warehouse_at), buried(settings.warehouse_at, FORGOTTEN)
    is_forgotten = hash_texts(rows["review_id"]).is_in(forgotten).fill_null(value=False)
    settled = settle(_with_texts(rows.filter(~is_forgotten), settings.source))
    if not is_forgotten.any():
        return settled
    left_out = Rejection("forgotten", int(is_forgotten.sum()), "of a review that was forgotten")
    return replace(settled, rows=rows.height, rejected=(*settled.rejected, left_out))


def settle(rows: pl.DataFrame) -> Annotations:
    """One labelling a text, whatever the order of the rows.

    Columns are those of the table, ``text`` filled in, and ``updated_at``: of the review whose text was filled in.
    For each label the newest row that speaks of it holds; one without labelled_at is the oldest. A row speaks of its
    own label and of those of its spans; without any, it says that the text has no mention at all. Rules of rejected
    rows: no_text, unknown_review, changed_review, blank_text, nul_text, bad_spans, missing_label, bad_label,
    bad_offsets, and overlap, with a span of the row itself or of a newer row.
    """
    statements: defaultdict[str, list[_Statement]] = defaultdict(list)
    problems: list[tuple[str, str]] = []
    for row in rows.iter_rows(named=True):
        try:
            statements[_checked_text(row)].append(_statement(row))
        except RowProblem as problem:
            named = row["text"] if row["review_id"] is None else row["review_id"]
            problems.append((problem.reason, f"{problem.detail}, of {shown(named)}"))
    texts = [_merged(text, said, problems) for text, said in sorted(statements.items()) if said]
    return Annotations(tuple(texts), rows.height, tuple(_counted(problems)))


def _checked_text(row: Mapping[str, Any]) -> str:
    text: str | None = row["text"]
    if text is None and row["review_id"] is None:
        raise RowProblem("no_text", "neither text nor review_id is given")
    if text is None:
        raise RowProblem("unknown_review", "the source has no such review")
    labelled_at, updated_at = row["labelled_at"], row["updated_at"]
    if labelled_at and updated_at and updated_at > labelled_at:
        raise RowProblem(
            "changed_review", f"labelled at {labelled_at}, updated at {updated_at}: the offsets may be of another text"
        )
    if not text.strip():
        raise RowProblem("blank_text", f"text is {len(text)} character(s) of white space")
    if "\0" in text:
        raise RowProblem("nul_text", f"text holds a NUL at {text.index(chr(0))}")
    return text


def _statement(row: Mapping[str, Any]) -> _Statement:
    given = (row["label"] or "").strip()
    label = given and _checked_label(given)
    try:
        elements = json.loads(row["spans"] or "")
    except (ValueError, RecursionError):
        elements = None
    if not isinstance(elements, list):
        raise RowProblem("bad_spans", f"spans is {shown(row['spans'])}: {_EXPECTED}")
    spans = tuple(_span(element, label, len(row["text"])) for element in elements)
    try:
        ordered = LabelledText(row["text"], spans).spans
    except ValueError as error:
        raise RowProblem("overlap", str(error)) from None
    return _Statement(row["labelled_at"] or _UNDATED, row["annotator"] or "", label, ordered)


def _span(element: object, row_label: str, length: int) -> Span:
    match element:
        case [start, end]:
            own_label: object = None
        case {"start": start, "end": end, **others}:
            own_label = others.get("label")
        case _:
            raise RowProblem("bad_spans", f"a span is {shown(element)}: {_EXPECTED}")
    if type(start) is not int or type(end) is not int or not isinstance(own_label, str | None):
        raise RowProblem("bad_spans", f"a span is {shown(element)}: {_EXPECTED}")
    if not 0 <= start < end <= length:
        raise RowProblem("bad_offsets", f"span [{start}, {end}) does not lie in a text of {length} characters")
    return Span(start, end, _checked_label((own_label or "").strip() or row_label))


def _checked_label(label: str) -> str:
    if not label:
        raise RowProblem("missing_label", "neither the span nor its row has a label")
    if not label.isprintable():
        raise RowProblem("bad_label", f"label {shown(label)} holds characters that cannot be printed")
    return label


def _merged(text: str, statements: Sequence[_Statement], problems: list[tuple[str, str]]) -> LabelledText:
    """The newest word on each label, and of the rest what can stand beside it."""
    settled: dict[str, list[Span]] = {}
    merged = LabelledText(text)
    for statement in sorted(statements, reverse=True):
        said = statement.by_label()
        unsettled = {label: spans for label, spans in said.items() if label not in settled}
        try:
            merged = LabelledText(text, (*merged.spans, *chain.from_iterable(unsettled.values())))
        except ValueError as error:
            problems.append(("overlap", f"{error}, which a newer row has, of {shown(text)}"))
            continue
        settled |= unsettled
        if not said:
            break
    return merged


def _counted(problems: Sequence[tuple[str, str]]) -> Iterator[Rejection]:
    details: defaultdict[str, list[str]] = defaultdict(list)
    for rule, detail in problems:
        details[rule].append(detail)
    for rule, found in sorted(details.items()):
        yield Rejection(rule, len(found), min(found))


def _read_table(address: Address) -> pl.DataFrame:
    file = database_file(parse_url(*address))
    if file is not None and not file.is_file():  # to connect would make it
        raise UsageError(f"train.annotations is on, but there is no warehouse {file}; check warehouse.url")
    with Warehouse(*address).connect() as reader:
        if not is_current(reader.connection, address.schema):
            raise UsageError(
                f"the warehouse {redacted(address.url)} has no up-to-date table {_TABLE}: ecner extract and "
                "ecner retrain bring it up to date; or check warehouse.url"
            )
        try:
            return reader.read(_TABLE)
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            message = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(
                f"the table {_TABLE} holds a value that cannot be read: {message}; expected text, and in labelled_at "
                "times in UTC such as 2026-11-01 12:00:00: mend that row"
            ) from None


def _with_texts(rows: pl.DataFrame, source: SourceSettings) -> pl.DataFrame:
    """Fills in text and updated_at of rows that give a review_id alone; as in a source, blank text counts as none."""
    is_asked = pl.col("review_id").is_not_null() & (pl.col("text").fill_null("").str.strip_chars() == "")
    asked = rows.filter(is_asked).select(pl.col("review_id").unique())
    reviews = pl.DataFrame(schema=ROWS) if asked.is_empty() else _reviews(asked, source)
    found = reviews.filter(~pl.col("deleted")).select("review_id", "updated_at", found="text")
    return rows.join(found, on="review_id", how="left").with_columns(
        text=pl.when(is_asked).then("found").otherwise("text"), updated_at=pl.when(is_asked).then("updated_at")
    )


def _reviews(asked: pl.DataFrame, settings: SourceSettings) -> pl.DataFrame:
    """Rows of the source by id: as in a night, the newest updated_at, then the last in the source."""
    kept, first_row = pl.DataFrame(schema=ROWS), 0
    for batch in open_source(settings).batches():
        rows = check(batch, first_row=first_row, time_zone=settings.time_zone).rows
        first_row += batch.num_rows
        known = pl.concat([kept, rows.join(asked, on="review_id", how="semi")])
        kept = known.sort("updated_at", "source_row", nulls_last=False).unique("review_id", keep="last")
    return kept
