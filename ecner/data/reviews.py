"""Raw reviews as Arrow batches under our names: what a source hands to the night's rules, and in which types."""

from collections.abc import Callable, Mapping

import pyarrow as pa
from pyarrow import types

# Columns of a batch beside the source's own: what a source itself found wrong with a row, null where it is fine.
REASON, DETAIL = "reason", "detail"
MISSING_COLUMN, WRONG_TYPE = "missing_column", "wrong_type"

_Fits = Callable[[pa.DataType], bool]
_TEXT: tuple[_Fits, ...] = (
    types.is_string, types.is_large_string, types.is_string_view,
    types.is_binary, types.is_large_binary, types.is_binary_view,
)  # fmt: skip
_IDS: tuple[str, tuple[_Fits, ...]] = "text or integers", (types.is_integer,)
_TIMES: tuple[str, tuple[_Fits, ...]] = "times", (types.is_timestamp, types.is_date)
_FLAGS = types.is_boolean, types.is_integer, types.is_floating, *_TIMES[1]  # integers with nulls become floating
_FITTING: Mapping[str, tuple[str, tuple[_Fits, ...]]] = {
    "review_id": _IDS,
    "product_id": _IDS,
    "text": ("text", ()),
    "rating": ("numbers", (types.is_integer, types.is_floating, types.is_decimal)),
    "created_at": _TIMES,
    "updated_at": _TIMES,
    "watermark": _TIMES,
    "deleted": ("true and false, 1 and 0, or times", _FLAGS),
}


def expected(column: str, kind: pa.DataType) -> str | None:
    """What a column of ours should hold, where no value of this type could be used; None where the type will do.

    Any column may come as text. Single values are judged row by row.
    """
    value = kind.value_type if types.is_dictionary(kind) else kind
    name, fitting = _FITTING[column]
    return None if any(fits(value) for fits in (*fitting, *_TEXT, types.is_null)) else name


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, or bytes that may be text."""
    return any(fits(kind) for fits in _TEXT)
