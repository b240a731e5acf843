"""Columns as a source has them, in types that Polars knows; text is made sure to be UTF-8."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from ecner.data.reviews import is_text

TIMES = ("created_at", "updated_at", "watermark")
FIRST, LAST = datetime(1, 2, 15), datetime(9999, 11, 15)  # noqa: DTZ001 - local dates and the months beside them stay in range


def decode(name: str, array: pa.Array) -> tuple[pa.Array, list[str | None]]:
    """Values that Polars knows, text as valid UTF-8; and the bytes that were not, as files may hold any as text."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        return array.cast(pa.timestamp(array.type.unit, "UTC")), []  # the same time under a zone known everywhere
    if not is_text(array.type):
        return array, []
    raw = array.cast(pa.large_binary())
    try:
        text = raw.cast(pa.large_string())
        return _as_times(text) if name in TIMES else text, []
    except pa.ArrowInvalid:  # rare: some row of the batch is damaged; find which
        values = raw.to_pylist()
    escaped = [
        None if value is None or _is_utf8(value) else value.decode(errors="backslashreplace") for value in values
    ]
    texts = [None if value is None or bad else value.decode() for value, bad in zip(values, escaped, strict=True)]
    return pa.array(texts, pa.large_string()), escaped


def _as_times(text: pa.Array) -> pa.Array:
    """Text whose every value is a plain ISO time, all with a zone or all without, as times: ten times faster."""
    hours_alone = pc.and_(
        pc.greater(pc.utf8_length(text), 10), pc.not_equal(pc.utf8_slice_codeunits(text, 13, 14), ":")
    )
    if text.null_count == len(text) or pc.any(hours_alone).as_py():
        return text
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            times = text.cast(kind)
        except pa.ArrowInvalid:
            continue
        is_early, is_late = pc.less(times, pa.scalar(FIRST, kind)), pc.greater(times, pa.scalar(LAST, kind))
        return text if pc.any(pc.or_(is_early, is_late)).as_py() else times
    return text


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
