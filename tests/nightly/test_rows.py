# ruff: noqa: DTZ001 - naive times are what is tested
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.nightly.rows import REJECTED, ROWS, check, local_date

ZONES = ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
BERLIN = "Europe/Berlin"


def checked(*, time_zone="UTC", first_row=0, **columns: Any):
    """Columns of equal length after the rules; ids and texts that stand in for missing ones are good."""
    length = len(next(iter(columns.values())))
    good = {"review_id": [str(number) for number in range(length)], "text": ["好"] * length}
    return check(pa.RecordBatch.from_pydict(good | columns), first_row=first_row, time_zone=time_zone)


def reasons(**columns: Any):
    """Source row to rule."""
    return dict(checked(**columns).rejected.select("source_row", "reason").iter_rows())


def raw_strings(*values: bytes) -> pa.Array:
    """Bytes under a string type, as a file may hold them."""
    offsets = pa.array([sum(map(len, values[:n])) for n in range(len(values) + 1)], pa.int32())
    return pa.Array.from_buffers(pa.string(), len(values), [None, offsets.buffers()[1], pa.py_buffer(b"".join(values))])


def test_good_rows_go_on():
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    rows, rejected = checked(
        review_id=["甲", "b"], text=["好\0", " x "], product_id=[None, "p"], rating=[1, None], created_at=[at, None],
        first_row=7,
    )  # fmt: skip
    assert rows.schema == ROWS
    assert rejected.schema == REJECTED
    assert rejected.is_empty()
    assert rows["source_row"].to_list() == [7, 8]
    assert rows.select("review_id", "text", "product_id", "rating", "created_at").rows() == [
        ("甲", "好\0", None, 1.0, at),
        ("b", " x ", "p", None, None),
    ]


def test_an_empty_batch():
    rows, rejected = check(pa.RecordBatch.from_pydict({"review_id": [], "text": []}), first_row=0, time_zone="UTC")
    assert rows.schema == ROWS
    assert rejected.schema == REJECTED


def test_each_rule():
    rows, rejected = checked(
        review_id=["a", "b", None, "", " \u3000", "x\0y", "c", "d", "e"],
        text=[None, " \t\n\u00a0\u2003\u3000\u2028", *["好"] * 7],
        product_id=[None] * 6 + ["p\0", "p", "p"],
        rating=["1", "2", "3", "4", "5", "", "nan", "five", " "],
    )
    assert rows["review_id"].to_list() == ["e"]
    assert rejected.select("source_row", "review_id", "reason").rows() == [
        (0, "a", "null_text"),
        (1, "b", "blank_text"),
        (2, None, "null_id"),
        (3, "", "bad_id"),
        (4, " \u3000", "bad_id"),
        (5, "x\\u0000y", "bad_id"),
        (6, "c", "bad_id"),
        (7, "d", "wrong_type"),
    ]
    assert rejected["detail"].to_list()[1] == "text is 7 character(s) of white space"
    assert rejected["detail"].to_list()[-1] == 'rating is "five"'


def test_the_first_rule_counts():
    assert reasons(review_id=[None], text=[None], rating=["x"]) == {0: "null_id"}
    assert reasons(text=[None], rating=["x"]) == {0: "null_text"}


@pytest.mark.parametrize("text", ["\u200b", "\ufeff", "\0", ".", "\u0301"])
def test_what_is_not_white_space_is_not_blank(text):
    assert reasons(text=[text]) == {}


def test_details_can_be_stored():
    detail = checked(rating=['a\0b"\n\x1b好' + "x" * 999]).rejected["detail"].item()
    assert detail.startswith('rating is "a\\u0000b\\"\\n\\u001b好xxx')
    assert len(detail) < 250


def test_columns_of_nulls_alone():
    assert reasons(text=pa.nulls(2), review_id=["a", None]) == {0: "null_text", 1: "null_id"}
    nothing = {name: pa.nulls(1) for name in ("rating", "created_at", "updated_at", "watermark", "partition_date")}
    assert checked(**nothing).rows.select(nothing.keys()).row(0) == (None,) * 5


@pytest.mark.parametrize("kind", ["binary", "string", "large_string", "string_view", "dictionary"])
@pytest.mark.parametrize("through_a_file", [False, True])
def test_bytes_that_are_not_utf8(tmp_path, kind, through_a_file):
    texts = raw_strings(b"\xe5\xa5\xbd", b"ab\xff\xfe\0", "😀".encode("utf-16-le"), b"\xed\xa0\x80", b"x")
    texts = {
        "binary": lambda: texts.cast(pa.binary()),
        "string": lambda: texts,
        "large_string": lambda: texts.cast(pa.large_binary()).view(pa.large_string()),
        "string_view": lambda: texts.cast(pa.binary_view()).view(pa.string_view()),
        "dictionary": texts.dictionary_encode,
    }[kind]()
    ids = raw_strings(b"a", b"b", b"c", b"d", b"\xc3")
    if through_a_file:
        pq.write_table(pa.table({"review_id": ids, "text": texts}), tmp_path / "x.parquet")
        batch = next(pq.ParquetFile(tmp_path / "x.parquet").iter_batches())
    else:
        batch = pa.RecordBatch.from_pydict({"review_id": ids, "text": texts})
    rows, rejected = check(batch, first_row=0, time_zone="UTC")
    assert rows.select("review_id", "text").rows() == [("a", "好")]
    assert rejected["reason"].to_list() == ["invalid_utf8"] * 4
    assert rejected["review_id"].to_list() == ["b", "c", "d", None]
    assert rejected["detail"].to_list() == [
        'text is not UTF-8: "ab\\\\xff\\\\xfe\\u0000"',
        'text is not UTF-8: "=\\\\xd8\\u0000\\\\xde"',
        'text is not UTF-8: "\\\\xed\\\\xa0\\\\x80"',
        'review_id is not UTF-8: "\\\\xc3"',
    ]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.int64()])
def test_integer_ids_become_decimal_text(kind):
    highest = {pa.int8(): 127, pa.uint64(): 2**64 - 1, pa.int64(): 2**63 - 1}[kind]
    rows = checked(review_id=pa.array([7, highest], kind), product_id=pa.array([None, 0], kind)).rows
    assert rows["review_id"].to_list() == ["7", str(highest)]
    assert rows["product_id"].to_list() == [None, "0"]


def test_numbers_that_are_none():
    rows, rejected = checked(rating=[float("nan"), float("inf"), None, 2.5])
    assert rows["rating"].to_list() == [None, None, None, 2.5]
    assert rejected.is_empty()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01 10:20:30", datetime(2026, 3, 1, 9, 20, 30)),
        ("2026-03-01T10:20:30.125", datetime(2026, 3, 1, 9, 20, 30, 125_000)),
        ("2026-03-01T10:20", datetime(2026, 3, 1, 9, 20)),
        ("2026/03/01 10:20", datetime(2026, 3, 1, 9, 20)),
        (" 2026-03-01 ", datetime(2026, 2, 28, 23)),
        ("2026-03-01T10:20:30Z", datetime(2026, 3, 1, 10, 20, 30)),
        ("2026-03-01 10:20Z", datetime(2026, 3, 1, 10, 20)),
        ("2026-03-01T10:20:30.5+08:00", datetime(2026, 3, 1, 2, 20, 30, 500_000)),
        ("2026-03-01 10:20:30 +0800", datetime(2026, 3, 1, 2, 20, 30)),
    ],
)
def test_text_as_times(text, expected):
    rows = checked(created_at=[text], time_zone=BERLIN).rows
    assert rows["created_at"].to_list() == [expected.replace(tzinfo=UTC)]


def test_a_time_does_not_depend_on_its_neighbours():
    forms = ["2026-03-01T10:20:30Z", "2026-03-01", "2026/03/01 10:20", "x", "", "2026-03-01 10:20:30+01:00"]
    for column in (forms, forms[::-1]):
        rows, rejected = checked(created_at=column)
        alone = [checked(created_at=[form]) for form in column]
        assert rows["created_at"].to_list() == [t for one in alone for t in one.rows["created_at"]]
        assert rejected["detail"].to_list() == ['created_at is "x"']


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2026-02-30", "2026-03-01 25:00:00", "0001-01-01", "9999-12-31", "0001-01-01T00:00:00Z", "1e9"],
)
@pytest.mark.parametrize("column", ["created_at", "updated_at", "watermark"])
def test_text_that_is_no_time(text, column):
    rejected = checked(**{column: [text]}).rejected
    assert rejected["reason"].to_list() == ["wrong_type"]
    assert rejected["detail"].to_list() == [f'{column} is "{text}"']


@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.date32()])
def test_times_out_of_range(kind):
    days = pa.array([0, 2_932_896, -719_162, 2**31 - 1, -(2**31)], pa.int64())  # 9999-12-31, 0001-01-01
    unit = {"ms": 86_400_000, "us": 86_400_000_000}.get(getattr(kind, "unit", ""), 1)
    stored = pa.array([min(max(day * unit, -(2**63)), 2**63 - 1) for day in days.to_pylist()])
    column = stored.cast(pa.int32()).cast(kind) if kind == pa.date32() else stored.cast(kind)
    rows, rejected = checked(created_at=column)
    assert rows["created_at"].to_list() == [datetime(1970, 1, 1, tzinfo=UTC)]
    assert rejected["detail"].to_list() == ["created_at is not of the years 1 to 9999"] * 4


@given(
    at=st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    zone=st.sampled_from(ZONES),
)
def test_naive_times_are_local(at, zone):
    """zoneinfo with fold=0 says the same: the earlier of two where there are two, the offset before in a gap."""
    expected = at.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    for column in (pa.array([at], pa.timestamp("us")), [at.isoformat(sep=" ")]):
        assert checked(created_at=column, time_zone=zone).rows["created_at"].to_list() == [expected]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 3, 29, 2, 30), datetime(2026, 3, 29, 1, 30)),  # no such time there: put on at 2:00
        (datetime(2026, 10, 25, 2, 30), datetime(2026, 10, 25, 0, 30)),  # twice there: put back at 3:00
    ],
)
def test_where_clocks_change(at, expected):
    assert checked(created_at=[at], time_zone=BERLIN).rows["created_at"].to_list() == [expected.replace(tzinfo=UTC)]


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), st.sampled_from(ZONES))
def test_local_dates(at, zone):
    utc = at.replace(tzinfo=UTC)
    series = pl.DataFrame({"at": [utc]}, schema={"at": ROWS["created_at"]})
    assert series.select(local_date(pl.col("at"), zone)).item() == utc.astimezone(ZoneInfo(zone)).date()


@pytest.mark.parametrize(
    ("value", "day", "rule"),
    [
        ("2026-11-01", date(2026, 11, 1), None),
        ("20261101", date(2026, 11, 1), None),
        ("2026-13-01", None, "wrong_type"),
        ("0001-01-01", None, "wrong_type"),
        (None, None, None),
    ],
)
def test_partition_dates(value, day, rule):
    column = pa.repeat(pa.scalar(value, pa.string()), 1)
    rows, rejected = checked(partition_date=column)
    assert rows["partition_date"].to_list() == ([] if rule else [day])
    assert rejected["reason"].to_list() == ([rule] if rule else [])
    dated = checked(partition_date=column, created_at=[datetime(2026, 1, 1, tzinfo=UTC)])
    assert dated.rejected.is_empty()  # nobody asks for it


# Unicode's; str.strip takes four separators of control characters as well
WHITE_SPACE = [c for c in map(chr, range(0x3001)) if c.isspace() and c not in "\x1c\x1d\x1e\x1f"]
TEXTS = st.none() | st.text(max_size=4) | st.sampled_from(["", " ", "\0", "\u3000", "好", "2026-01-01", "1.5"])
COLUMNS = st.fixed_dictionaries(
    {"review_id": TEXTS | st.sampled_from(["a", "b"]), "text": TEXTS},
    optional=dict.fromkeys(("product_id", "rating", "created_at", "updated_at", "watermark"), TEXTS),
)


@st.composite
def batches(draw):
    """Batches of text columns, some of whose bytes are not UTF-8."""
    names = draw(COLUMNS).keys()
    length = draw(st.integers(0, 8))
    dirty = st.binary(max_size=4) | TEXTS.map(lambda text: text if text is None else text.encode(errors="ignore"))
    return pa.RecordBatch.from_pydict(
        {name: pa.array(draw(st.lists(dirty, min_size=length, max_size=length)), pa.binary()) for name in names}
    )


@given(batches(), st.integers(0, 10**12))
def test_no_row_is_lost(batch, first_row):
    rows, rejected = check(batch, first_row=first_row, time_zone=BERLIN)
    seen = [*rows["source_row"], *rejected["source_row"]]
    assert sorted(seen) == list(range(first_row, first_row + batch.num_rows))
    assert rejected["reason"].null_count() == rejected["detail"].null_count() == 0
    for row in rows.to_dicts():
        given_row = {name: batch.column(name)[row["source_row"] - first_row].as_py() for name in batch.schema.names}
        assert row["review_id"].encode() == given_row["review_id"]
        assert row["text"].encode() == given_row["text"]
        assert set(row["text"]) - set(WHITE_SPACE)
        assert "\0" not in row["review_id"]
    assert not rejected.filter(pl.col("detail").str.contains("\0", literal=True)).height


def test_rows_at_the_edge_of_a_day():
    at = datetime(2026, 11, 1, 16, tzinfo=UTC)
    frame = pl.DataFrame({"at": [at - timedelta(microseconds=1), at]}, schema={"at": ROWS["created_at"]})
    days = frame.select(local_date(pl.col("at"), "Asia/Shanghai")).to_series().to_list()
    assert days == [date(2026, 11, 1), date(2026, 11, 2)]


def test_deleted_rows_need_no_more_than_an_id_and_when():
    """Rows that do not say so are there."""
    texts = raw_strings(b"x", b" ", b"\xff", b"x", b"x", b" ")
    rows, rejected = checked(
        text=texts,
        review_id=["a", "b", "c", None, "e", "f"],
        rating=["", "", "", "", "x", ""],
        created_at=["", "", "", "", "never", ""],
        updated_at=["", "", "", "", "", ""],
        deleted=[*["yes"] * 5, ""],
    )
    texts = [("a", "x"), ("b", " "), ("c", None), ("e", "x")]
    assert rows.select("review_id", "text", "deleted").rows() == [(*row, True) for row in texts]
    assert rejected["reason"].to_list() == ["null_id", "blank_text"]
    assert checked(text=["x"], updated_at=["never"], deleted=["1"]).rejected["reason"].to_list() == ["wrong_type"]
    assert checked(text=[None, "x"], deleted=pa.array([True, None])).rows["deleted"].to_list() == [True, False]
    assert checked(text=["x"]).rows["deleted"].to_list() == [False]


@pytest.mark.parametrize("values", [["maybe"], ["2"], ["1.0"], [2], [0.5], [-1]])
def test_flags_that_cannot_be_read(values):
    rejected = checked(deleted=values, text=[None]).rejected
    assert rejected.select("reason", "detail").rows() == [("wrong_type", f'deleted is "{values[0]}"')]


def test_what_the_source_says_of_a_row_comes_first():
    rows, rejected = checked(
        review_id=["a", None, "c"],
        reason=pa.array(["missing_column", "wrong_type", None]),
        detail=pa.array(["x lacks it", "y is odd", None]),
    )
    assert rows["review_id"].to_list() == ["c"]
    assert rejected.select("review_id", "reason", "detail").rows() == [
        ("a", "missing_column", "x lacks it"),
        (None, "wrong_type", "y is odd"),
    ]


FORMS = [
    "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H",
    "%Y-%m-%d %H:%M:%S.%f+00", "%Y-%m-%d %H:%M+0530", "%Y-%m-%dT%H:%M:%S-03:00", "%Y-%m-%d %HZ", "%Y%m%dT%H%M%S", "%Y",
]  # fmt: skip


@given(
    st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), min_size=1, max_size=4),
    st.sampled_from(FORMS),
    st.sampled_from(ZONES),
)
def test_plain_times_are_read_as_any_others(times, form, zone):
    """Where all of a batch are plain they take a faster way: the same times, and the same words on what is none."""
    texts = [time.strftime(form.replace("%Y", f"{time.year:04}")) for time in times]
    fast = checked(created_at=texts, time_zone=zone)
    slow = checked(created_at=[*texts, " "], time_zone=zone)
    assert slow.rows["created_at"].to_list() == [*fast.rows["created_at"], None]
    assert slow.rejected["detail"].to_list() == fast.rejected["detail"].to_list()
