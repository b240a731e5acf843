"""Types and values as database drivers give them, column by column into Arrow; SQLite holds anything anywhere."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa

from ecner.data.reviews import DETAIL, REASON, WRONG_TYPE

_IDS = {"review_id", "product_id"}
_FIGURES = {"rating", "deleted"}
_TIMES = {"created_at", "updated_at", "watermark", "deleted"}
_STRICT = {"text": "text", **dict.fromkeys(_IDS, "text or integers")}  # any other value is judged as text
_SHOWN_CHARS = 100
_ARROW_TYPES: tuple[tuple[type[sa.types.TypeEngine[Any]], pa.DataType], ...] = (
    (sa.String, pa.string()),
    (sa.Uuid, pa.string()),
    (sa.LargeBinary, pa.binary()),
    (sa.Boolean, pa.bool_()),
    (sa.Integer, pa.int64()),
    (sa.Float, pa.float64()),
    (sa.DateTime, pa.timestamp("us")),
    (sa.Date, pa.date32()),
    (sa.types.NullType, pa.null()),
)


def arrow_type(kind: sa.types.TypeEngine[Any], *, is_loose: bool) -> pa.DataType:
    """The type to judge a column by; null where its values have to be judged one by one."""
    kind = getattr(kind, "data_type", kind)  # of a domain
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        if is_loose:  # SQLite's for any name of a type that it does not know
            return pa.null()
        return pa.decimal128(38, kind.scale) if kind.scale else pa.int64()
    return next((arrow for known, arrow in _ARROW_TYPES if isinstance(kind, known)), pa.struct([]))


def as_batch(columns: Mapping[str, Sequence[Any]]) -> pa.RecordBatch:
    """A batch of reviews; a value that no id or text can be is left out, and its row said to be of a wrong type."""
    arrays: dict[str, pa.Array] = {}
    wrong: dict[int, str] = {}
    for name, values in columns.items():
        arrays[name] = _as_stored(name, values)
        if arrays[name] is None:
            texts = [_as_bytes(name, value) for value in values]
            arrays[name] = pa.array(texts, pa.large_binary())
            for row, (value, text) in enumerate(zip(values, texts, strict=True)):
                if name in _STRICT and text is None and value is not None:
                    wrong.setdefault(row, f"{name} is {repr(value)[:_SHOWN_CHARS]}: expected {_STRICT[name]}")
    if wrong:
        details = [wrong.get(row) for row in range(len(arrays["review_id"]))]
        arrays[REASON] = pa.array([None if detail is None else WRONG_TYPE for detail in details], pa.string())
        arrays[DETAIL] = pa.array(details, pa.string())
    return pa.RecordBatch.from_pydict(arrays)


def _as_stored(name: str, values: Sequence[Any]) -> pa.Array | None:
    """The values as they are, where all are of one kind that the column may have."""
    kinds = list(set(map(type, values)) - {NoneType}) or [NoneType]
    arrow = _kind_of_values(name, kinds[0], values) if len(kinds) == 1 else None
    try:
        return None if arrow is None else pa.array(values, arrow)
    except (UnicodeEncodeError, OverflowError, pa.ArrowInvalid):  # lone surrogates, huge integers
        return None


def _kind_of_values(name: str, kind: type, values: Sequence[Any]) -> pa.DataType | None:
    if kind is datetime and name in _TIMES:
        zoned = {value.tzinfo is not None for value in values if value is not None}
        return pa.timestamp("us", "UTC" if True in zoned else None) if len(zoned) == 1 else None
    known: Mapping[type, tuple[pa.DataType, set[str] | None]] = {
        NoneType: (pa.null(), None),
        str: (pa.large_string(), None),
        bytes: (pa.large_binary(), None),
        int: (pa.int64(), _IDS | _FIGURES),
        float: (pa.float64(), _FIGURES),
        bool: (pa.bool_(), {"deleted"}),
        date: (pa.date32(), _TIMES),
    }
    arrow, names = known.get(kind, (None, None))
    return arrow if names is None or name in names else None


def _as_bytes(name: str, value: Any) -> bytes | None:
    """A value as text, which the rules judge; None for null, a figure that is none, and what no id or text can be."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    text: str | None
    match value:
        case str():
            text = value
        case float() | Decimal():
            text = _decimal(value)
        case date():  # times, too
            text = value.isoformat()
        case None:
            text = None
        case _:
            text = str(value).lower()
    is_whole = isinstance(value, Decimal) and "." not in (text or ".")
    is_id = isinstance(value, str | UUID) or type(value) is int or is_whole
    is_fitting = {"text": isinstance(value, str), **dict.fromkeys(_IDS, is_id)}.get(name, True)
    return text.encode(errors="surrogatepass") if text is not None and is_fitting else None


def _decimal(value: float | Decimal) -> str | None:
    """All of its digits, without those that say nothing; None for one that is not finite."""
    if isinstance(value, Decimal):
        text = f"{value:f}" if value.is_finite() else None
        return text.rstrip("0").rstrip(".") if text and "." in text else text
    return repr(value).removesuffix(".0") if math.isfinite(value) else None
