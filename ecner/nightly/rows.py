"""Raw batches to rows: one definition of what each rule rejects; what is rejected keeps its place and its reason."""

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from ecner.data.reviews import DETAIL, REASON
from ecner.nightly.decoding import FIRST, LAST, TIMES, decode

TIME = pl.Datetime("us", "UTC")
ROWS = pl.Schema(
    {
        "source_row": pl.Int64(),
        "review_id": pl.String(),
        "text": pl.String(),
        "product_id": pl.String(),
        "rating": pl.Float64(),
        "created_at": TIME,
        "updated_at": TIME,
        "watermark": TIME,
        "partition_date": pl.Date(),
        "deleted": pl.Boolean(),
    }
)
REJECTED = pl.Schema(
    {
        "source_row": pl.Int64(),
        "review_id": pl.String(),
        "reason": pl.String(),
        "detail": pl.String(),
        "watermark": TIME,
    }
)
_ZONED = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_NAIVE = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_IS_DELETED = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SHOWN_CHARS = 200


class Checked(NamedTuple):
    """A batch after the rules: rows that go on (schema ROWS) and those that do not (schema REJECTED).

    A row that says of its review that it was deleted goes on whatever its text is, or without one.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame


class _Rule(NamedTuple):
    """What is wrong with a row, over our columns, the values as ``given_``, bytes that are not UTF-8 as ``bytes_``."""

    name: str
    applies: pl.Expr
    detail: pl.Expr


def check(batch: pa.RecordBatch, *, first_row: int, time_zone: str) -> Checked:
    """Applies the rules to a batch; the first that a row breaks is its reason.

    Args:
        batch: columns under our names, any of the types that a source may have; see ecner.data.reviews.
        first_row: number of the batch's first row in the source.
        time_zone: of times without one.
    """
    decoded = {name: decode(name, batch.column(name)) for name in batch.schema.names}
    given = pl.DataFrame({name: pl.from_arrow(array) for name, (array, _) in decoded.items()})
    broken = [pl.Series(f"bytes_{name}", shown) for name, (_, shown) in decoded.items() if any(shown)]
    frame = given.select(
        pl.int_range(first_row, first_row + pl.len()).alias("source_row"),
        *(_converted(name, given.schema.get(name), time_zone) for name in ROWS.names()[1:]),
        *broken,
        pl.all().name.prefix("given_"),
    )
    rules = list(_rules(frame))
    is_rejected = frame.select(pl.any_horizontal(rule.applies for rule in rules).fill_null(value=False)).to_series()
    rejected = frame.filter(is_rejected).select(
        "source_row",
        review_id=pl.col("review_id").str.replace_all("\0", "\\u0000", literal=True),
        reason=pl.coalesce(pl.when(rule.applies).then(pl.lit(rule.name)) for rule in rules),
        detail=pl.coalesce(pl.when(rule.applies).then(rule.detail) for rule in rules),
        watermark="watermark",
    )
    rows = frame.filter(~is_rejected).select(ROWS.names()).with_columns(pl.col("deleted").fill_null(value=False))
    assert rows.schema == ROWS, rows.schema  # noqa: S101
    return Checked(rows, rejected.cast(REJECTED))


def _converted(name: str, dtype: pl.DataType | None, time_zone: str) -> pl.Expr:
    """A column as ROWS has it; what cannot be converted becomes null, and is then told from what was null."""
    column = pl.col(name)
    if dtype is None or dtype == pl.Null:
        converted = pl.lit(None, ROWS[name])
    elif name == "rating":
        rating = column.cast(pl.Float64, strict=False)
        converted = pl.when(rating.is_finite()).then(rating)
    elif name == "partition_date":
        converted = _within(pl.coalesce(column.str.to_date(form, strict=False) for form in ("%Y-%m-%d", "%Y%m%d")))
    elif name in TIMES:
        converted = _time(column, dtype, time_zone)
    elif name == "deleted":
        converted = _flag(column, dtype, time_zone)
    else:
        converted = column.cast(pl.String)
    return converted.alias(name)


def _flag(column: pl.Expr, dtype: pl.DataType, time_zone: str) -> pl.Expr:
    """Whether a review was deleted: a flag, or the time when it was."""
    if dtype.is_temporal():
        return column.is_not_null()
    if dtype != pl.String:
        number = column.cast(pl.Float64)
        return pl.when(number.is_in([0.0, 1.0])).then(number == 1)
    words = column.str.strip_chars().str.to_lowercase().replace_strict(_IS_DELETED, default=None)
    at = _time(column, dtype, time_zone)
    return pl.coalesce(words, pl.when(at.is_not_null()).then(pl.lit(value=True)))


def _time(column: pl.Expr, dtype: pl.DataType, time_zone: str) -> pl.Expr:
    """UTC of times, or of text in ISO 8601 (a blank for the T and / for - will do); naive ones are in ``time_zone``."""
    if dtype == pl.String:
        text = column.str.strip_chars().str.replace("T", " ", literal=True).str.replace_all("/", "-", literal=True)
        zoned = [text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False) for form in _ZONED]
        naive = [text.str.to_datetime(form, time_unit="us", strict=False) for form in _NAIVE]
        return pl.coalesce(_within(pl.coalesce(zoned)), _localised(_within(pl.coalesce(naive)), time_zone))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return _within(column).cast(TIME)
    return _localised(_within(column).cast(pl.Datetime("us")), time_zone)


def _localised(column: pl.Expr, time_zone: str) -> pl.Expr:
    """UTC of naive times: the earlier of two where a clock was put back, the offset before where it was put on."""

    def localised(times: pl.Expr) -> pl.Expr:
        zoned = times.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
        return zoned.dt.convert_time_zone("UTC")

    day = pl.duration(days=1)
    return pl.coalesce(localised(column), localised(column - day) + day)


def _within(column: pl.Expr) -> pl.Expr:
    """Times and days that every database can hold; others count as unreadable."""
    day = column.dt.date()
    return pl.when(day.is_between(FIRST.date(), LAST.date())).then(column)


def _rules(frame: pl.DataFrame) -> Iterator[_Rule]:
    """The rules in the order in which they are applied."""
    if f"given_{REASON}" in frame.columns:
        for rule in frame[f"given_{REASON}"].unique().drop_nulls():
            yield _Rule(rule, pl.col(f"given_{REASON}") == rule, pl.col(f"given_{DETAIL}"))
    is_kept = pl.col("deleted").not_().fill_null(value=True)
    for column in (name.removeprefix("bytes_") for name in frame.columns if name.startswith("bytes_")):
        shown = pl.format("{} is not UTF-8: {}", pl.lit(column), _shown(pl.col(f"bytes_{column}")))
        is_damaged = pl.col(f"bytes_{column}").is_not_null()
        yield _Rule("invalid_utf8", is_damaged & is_kept if column == "text" else is_damaged, shown)
    review_id, text = pl.col("review_id"), pl.col("text")
    yield _Rule("null_id", review_id.is_null(), pl.lit("review_id is null"))
    yield _Rule("bad_id", _is_blank(review_id), pl.lit("review_id is blank"))
    for name in ("review_id", "product_id"):
        yield _Rule("bad_id", pl.col(name).str.contains("\0", literal=True), pl.lit(f"{name} holds a NUL"))
    yield from _unreadable(frame, "deleted")  # before the rules that go by it
    yield _Rule("null_text", text.is_null() & is_kept, pl.lit("text is null"))
    white = pl.format("text is {} character(s) of white space", text.str.len_chars())
    yield _Rule("blank_text", _is_blank(text) & is_kept, white)
    yield from _unreadable(frame, "updated_at", "watermark")
    yield from _unreadable(frame, "rating", "created_at", "partition_date", unless=pl.col("deleted"))


def _unreadable(frame: pl.DataFrame, *names: str, unless: pl.Expr | None = None) -> Iterator[_Rule]:
    """Values that are there, but not as what the column holds."""
    for name in names:
        if f"given_{name}" in frame.columns:
            given, dtype = pl.col(f"given_{name}"), frame.schema[f"given_{name}"]
            unreadable = pl.col(name).is_null() & _is_a_value(given, dtype)
            if unless is not None:
                unreadable &= unless.not_().fill_null(value=True)
            if name == "partition_date":
                unreadable &= pl.col("created_at").is_null()  # else nobody asks for it
            shown = pl.lit("not of the years 1 to 9999") if dtype.is_temporal() else _shown(given)
            yield _Rule("wrong_type", unreadable, pl.format("{} is {}", pl.lit(name), shown))


def _is_blank(column: pl.Expr) -> pl.Expr:
    return column.str.strip_chars() == ""


def _is_a_value(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Leaves out what a source writes for null: NaN ratings and empty strings."""
    if dtype == pl.String:
        return ~_is_blank(column)
    return column.is_finite() if dtype.is_float() else column.is_not_null()


def _shown(column: pl.Expr) -> pl.Expr:
    """A value as a JSON string, which escapes what no database holds."""
    text = column.cast(pl.String).str.slice(0, _SHOWN_CHARS)
    return pl.struct(text.alias("x")).struct.json_encode().str.slice(5).str.strip_suffix("}")


def local_date(column: pl.Expr, time_zone: str) -> pl.Expr:
    """The date of a UTC time in a time zone."""
    return column.dt.convert_time_zone(time_zone).dt.date()
