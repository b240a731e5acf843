# ruff: noqa: DTZ001 - naive times are what is tested
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from ecner.storage.values import as_batch

AT = datetime(2026, 11, 1, 10, 20, 30, 5, tzinfo=UTC)
NAIVE = datetime(2026, 11, 1, 10)


def column(name, *values: Any):
    """The values of a column, and what was said of their rows."""
    batch = as_batch({"review_id": ["r"] * len(values), name: values})
    said = batch.column("detail").to_pylist() if "detail" in batch.schema.names else [None] * len(values)
    return batch.column(name), said


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("review_id", ("a", None), pa.large_string()),
        ("text", (b"\xff", None), pa.large_binary()),
        ("product_id", (2**63 - 1, None), pa.int64()),
        ("rating", (1.5, None), pa.float64()),
        ("deleted", (True, None), pa.bool_()),
        ("created_at", (AT, None), pa.timestamp("us", "UTC")),
        ("updated_at", (NAIVE, None), pa.timestamp("us")),
        ("watermark", (date(2026, 11, 1), None), pa.date32()),
        ("text", (None, None), pa.null()),
    ],
)
def test_values_of_one_kind_stay(name, values, kind):
    array, said = column(name, *values)
    assert array.type == kind
    assert array.to_pylist() == list(values)
    assert said == [None, None]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", "a\ud800", b"a\xed\xa0\x80"),
        ("text", memoryview(b"x"), b"x"),
        ("review_id", 2**64, b"18446744073709551616"),
        ("review_id", Decimal("7.00"), b"7"),
        ("review_id", Decimal("-1e5000"), b"-1" + b"0" * 5000),
        ("review_id", UUID(int=1), f"{UUID(int=1)}".encode()),
        ("rating", Decimal("4.50"), b"4.5"),
        ("rating", Decimal("nan"), None),
        ("rating", float("inf"), None),
        ("rating", 10**400, f"{10**400}".encode()),
        ("rating", True, b"true"),
        ("deleted", Decimal(1), b"1"),
        ("deleted", 1.0, b"1"),
        ("created_at", 1_700_000_000, b"1700000000"),
        ("created_at", time(10), b"10:00:00"),
        ("created_at", AT.astimezone(timezone(timedelta(hours=8))), b"2026-11-01T18:20:30.000005+08:00"),
    ],
)
def test_others_become_text(name, value, expected):
    """Beside a value of another kind, as whole columns of one kind may stay."""
    array, said = column(name, value, b"2")
    assert array.to_pylist() == [expected, b"2"]
    assert said == [None, None]


def test_times_with_and_without_a_zone():
    assert column("created_at", AT, NAIVE)[0].to_pylist() == [
        b"2026-11-01T10:20:30.000005+00:00",
        b"2026-11-01T10:00:00",
    ]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("review_id", 1.0, "review_id is 1.0: expected text or integers"),
        ("review_id", True, "review_id is True: expected text or integers"),
        ("review_id", Decimal("1.5"), "review_id is Decimal('1.5'): expected text or integers"),
        ("review_id", Decimal("nan"), "review_id is Decimal('NaN'): expected text or integers"),
        ("product_id", NAIVE, "product_id is datetime.datetime(2026, 11, 1, 10, 0): expected text or integers"),
        ("text", 5, "text is 5: expected text"),
        ("text", [b"\0"] * 99, f"text is {repr([bytes(1)] * 99)[:100]}: expected text"),
    ],
)
def test_what_no_id_and_no_text_can_be(name, value, message):
    for others in ((None,), ("x",), ()):
        array, said = column(name, value, *others)
        assert array[0].as_py() is None
        assert said[0] == message
        assert said[1:] == [None] * len(others)
