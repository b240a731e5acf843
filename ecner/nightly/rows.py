"""Raw batches to rows: one definition of what each rule rejects; what is rejected keeps its place and its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa

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
_TIMES = ("created_at", "updated_at", "watermark")
_FIRST, _LAST = datetime(1, 1, 15), datetime(9999, 12, 15)  # noqa: DTZ001 - local dates and their weeks stay in range
_DETAIL_CHARS = 200


@dataclass(frozen=True)
class Checked:
    """A batch after the rules: rows that go on (schema ROWS) and those that do not (schema REJECTED)."""

    rows: pl.DataFrame
    rejected: pl.DataFrame


def check(batch: pa.RecordBatch, *, first_row: int, time_zone: str) -> Checked:
    """Applies the rules to a batch; the first that a row breaks is its reason.

    Args:
        batch: columns under our names, any of the types that a source may have.
        first_row: number of the batch's first row in the source.
        time_zone: of times without one.
    """
    arrow = {name: _decoded(batch.column(name)) for name in batch.schema.names}
    raw = pl.DataFrame(
        {name: pl.from_arrow(array) for name, (array, _) in arrow.items()}, nan_to_null=False
    ).with_row_index("source_row", offset=first_row)
    broken = pl.DataFrame({name: pl.Series(flags, dtype=pl.Boolean) for name, (_, flags) in arrow.items()})
    converted = raw.with_columns(pl.col("source_row").cast(pl.Int64)).select(
        "source_row",
        *(_convert(name, raw.schema.get(name), time_zone) for name in ROWS.names() if name != "source_row"),
    )
    reason = _reason(raw, converted, broken)
    judged = converted.with_columns(reason=reason)
    rejected = judged.filter(pl.col("reason").is_not_null()).select(
        "source_row",
        review_id=_escaped("review_id"),
        reason=pl.col("reason").str.splitn(":", 2).struct.field("field_0"),
        detail=pl.col("reason").str.splitn(":", 2).struct.field("field_1"),
        watermark="watermark",
    )
    return Checked(
        judged.filter(pl.col("reason").is_null()).select(pl.col(n).cast(t) for n, t in ROWS.items()),
        rejected.cast(REJECTED),
    )


def _decoded(array: pa.Array) -> tuple[pa.Array, list[bool]]:
    """Text as valid UTF-8, and where it was not; files may hold any bytes under a text type."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    clean = [False] * len(array)
    if not _holds_bytes(array.type):
        return array, clean
    raw = array.cast(pa.large_binary())
    try:
        return raw.cast(pa.large_string()), clean
    except pa.ArrowInvalid:  # rare: some row of the batch is damaged; find which
        values = raw.to_pylist()
        broken = [value is not None and not _is_utf8(value) for value in values]
        texts = [None if bad or value is None else value.decode() for value, bad in zip(values, broken, strict=True)]
        return pa.array(texts, pa.large_string()), broken


def _holds_bytes(kind: pa.DataType) -> bool:
    return any(
        check(kind)
        for check in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
            pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
        )
    )  # fmt: skip


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _convert(name: str, dtype: pl.DataType | None, time_zone: str) -> pl.Expr:
    """A column as ROWS has it; what cannot be converted becomes null, and is then told from what was null."""
    column = pl.col(name)
    if dtype is None or dtype == pl.Null:
        return pl.lit(None, ROWS[name]).alias(name)
    if name == "rating":
        rating = column.cast(pl.Float64, strict=False)
        return pl.when(rating.is_finite()).then(rating).alias(name)
    if name == "partition_date":
        text = column.cast(pl.String)
        return pl.coalesce(text.str.to_date("%Y-%m-%d", strict=False), text.str.to_date("%Y%m%d", strict=False)).alias(
            name
        )
    if name in _TIMES:
        return _time(column, dtype, time_zone).alias(name)
    return column.cast(pl.String)


def _time(column: pl.Expr, dtype: pl.DataType, time_zone: str) -> pl.Expr:
    """UTC; naive times are in ``time_zone`` (the earlier of two where a clock was put back)."""
    if dtype == pl.String:
        zoned = column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        column = column.str.to_datetime(time_unit="us", strict=False)
        return pl.coalesce(zoned, _localised(column, time_zone))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return _within(column.dt.convert_time_zone("UTC").cast(TIME))
    return _localised(_within(column.cast(pl.Datetime("us"))), time_zone)


def _localised(column: pl.Expr, time_zone: str) -> pl.Expr:
    return column.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _within(column: pl.Expr) -> pl.Expr:
    """Times that every database can hold; others count as unreadable."""
    naive = column.dt.replace_time_zone(None)
    return pl.when(naive.is_between(_FIRST, _LAST)).then(column)


def _reason(raw: pl.DataFrame, rows: pl.DataFrame, broken: pl.DataFrame) -> pl.Series:
    """The first rule that each row breaks, as ``rule:detail``; null where none."""
    no_utf8 = [
        pl.when(broken[c]).then(pl.lit(f"invalid_utf8:{c} holds bytes that are not UTF-8")) for c in broken.columns
    ]
    unreadable = [
        pl.when(raw[name].is_not_null() & rows[name].is_null() & _is_a_value(raw[name])).then(
            pl.format("wrong_type:{} is {}", pl.lit(name), _shown(raw[name]))
        )
        for name in ("rating", *_TIMES)
        if name in raw.columns
    ]
    review_id, product_id, text = rows["review_id"], rows["product_id"], rows["text"]
    return rows.select(
        pl.coalesce(
            *no_utf8,
            pl.when(review_id.is_null()).then(pl.lit("null_id:review_id is null")),
            pl.when(review_id.str.strip_chars() == "").then(pl.lit("bad_id:review_id is blank")),
            pl.when(review_id.str.contains("\0", literal=True)).then(pl.lit("bad_id:review_id holds a NUL")),
            pl.when(product_id.str.contains("\0", literal=True)).then(pl.lit("bad_id:product_id holds a NUL")),
            pl.when(text.is_null()).then(pl.lit("null_text:text is null")),
            pl.when(text.str.strip_chars() == "").then(
                pl.format("blank_text:{} character(s), all white space", text.str.len_chars())
            ),
            *unreadable,
            pl.lit(None, pl.String),
        ).alias("reason")
    ).to_series()


def _is_a_value(column: pl.Series) -> pl.Series:
    """Leaves out what a source writes for null: NaN ratings and empty strings."""
    if column.dtype == pl.String:
        return column.str.strip_chars() != ""
    return column.is_finite() if column.dtype.is_float() else column.is_not_null()


def _shown(column: pl.Series) -> pl.Expr:
    return pl.lit(column.cast(pl.String, strict=False).str.slice(0, _DETAIL_CHARS).str.escape_regex())


def _escaped(name: str) -> pl.Expr:
    """An id as the ledger of rejections can hold it."""
    return pl.col(name).str.replace_all("\0", "\\u0000", literal=True).str.slice(0, _DETAIL_CHARS)


def local_date(column: pl.Expr, time_zone: str) -> pl.Expr:
    """The date of a UTC time in a time zone."""
    return column.dt.convert_time_zone(ZoneInfo(time_zone).key).dt.date()


def reasons(rejected: pl.DataFrame) -> Mapping[str, int]:
    """How many rows each rule rejected."""
    counts = rejected.group_by("reason").len().sort("reason")
    return dict(zip(counts["reason"].to_list(), counts["len"].to_list(), strict=True))
