from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ecner.schema import TABLES
from ecner.storage import bulk
from ecner.storage.warehouse import Warehouse
from tests.storage.frames import frames

ON_ONE_WAREHOUSE = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(params=["sqlite", "postgresql", "plain"])
def warehouse(request, new_place, monkeypatch):
    """A warehouse on each database, and one taken for a database of another kind."""
    if request.param == "plain":
        monkeypatch.setattr("ecner.storage.transaction.way_of", lambda _dialect: bulk.Plain())
    made = Warehouse(*new_place("postgresql" if request.param == "postgresql" else "sqlite"))
    made.migrate()
    return made


def spans(*rows: tuple[str, int, str]) -> pl.DataFrame:
    """Rows of text_spans: text_hash, span_no, label."""
    return pl.DataFrame(rows, schema=["text_hash", "span_no", "label"], orient="row").with_columns(
        fingerprint=pl.lit("f"), start_char=0, end_char=2, confidence=pl.lit(0.5), surface=pl.lit("面霜")
    )


@contextmanager
def rolled_back(warehouse):
    """A transaction that leaves nothing, so that the next example finds the tables empty."""
    with suppress(ZeroDivisionError), warehouse.begin() as transaction:
        yield transaction
        raise ZeroDivisionError


def labels(reader) -> list[tuple[str, int, str]]:
    frame = reader.read("text_spans", columns=["text_hash", "span_no", "label"], order_by=["text_hash", "span_no"])
    return frame.rows()


@pytest.mark.parametrize("name", TABLES)
@ON_ONE_WAREHOUSE
@given(data=st.data())
def test_every_table_comes_back_as_it_went_in(warehouse, name, data):
    frame = data.draw(frames(TABLES[name]))
    table = TABLES[name]
    key = list(table.key) or [column.name for column in table.columns]
    with rolled_back(warehouse) as transaction:
        transaction.append(name, frame)
        back = transaction.read(name)
        assert back.schema == table.polars_schema
        assert_frame_equal(back.sort(key), frame.sort(key))
        if table.key:
            paged = pl.concat([frame.clear(), *transaction.pages(name, size=2)])
            assert_frame_equal(paged, frame.sort(key))
            assert_frame_equal(transaction.lookup(name, key[0], frame[key[0]]).sort(key), frame.sort(key))


def test_times_compare_in_the_database(warehouse):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = [start + timedelta(microseconds=step) for step in (0, 1, 10**6, 86_400 * 10**6, 10**15)]
    versions = pl.DataFrame({"version": list("badce"), "created_at": times}).with_columns(
        status=pl.lit("candidate"), architecture=pl.lit("hybrid"), uri=pl.lit("x"), base=None, parent=None,
        data_fingerprint=None, reason=None,
    )  # fmt: skip
    with warehouse.begin() as transaction:
        transaction.append("model_versions", versions.reverse())
        assert transaction.read("model_versions", order_by=["created_at"])["version"].to_list() == list("badce")
        assert transaction.read("model_versions", where={"created_at": times[1]})["version"].to_list() == ["a"]
        assert transaction.lookup("model_versions", "created_at", pl.Series(times[2:4])).height == 2


def test_text_is_ordered_by_bytes(warehouse):
    names = ["a", "B", "é", "Z", "ｚ", "中", "😀", "aa", "A"]
    rows = pl.DataFrame({"text_hash": names}).with_columns(
        fingerprint=pl.lit("f"), chars=1, chars_read=1, windows=1, unknown_chars=None
    )
    with warehouse.begin() as transaction:
        transaction.append("text_readings", rows)
        read = transaction.read("text_readings", order_by=["text_hash"])["text_hash"].to_list()
        paged = pl.concat(transaction.pages("text_readings", columns=["text_hash"], size=4))
    assert read == sorted(names, key=str.encode)
    assert paged.columns == ["text_hash"]
    assert paged["text_hash"].to_list() == read


def test_where_and_columns(warehouse):
    frame = pl.DataFrame({
        "run_id": ["1", "1", "2"], "source_row": [1, 2, 1], "review_id": ["a", None, None],
        "reason": ["bad_id", "null_id", "null_id"], "detail": None,
    })  # fmt: skip
    with warehouse.begin() as transaction:
        transaction.append("rejected_reviews", frame)
    with warehouse.connect() as reader:
        read = reader.read("rejected_reviews", where={"review_id": None, "run_id": "1"}, columns=["reason"])
        assert read.to_dicts() == [{"reason": "null_id"}]
        found = reader.lookup("rejected_reviews", "source_row", pl.Series([1, 7]), where={"run_id": "2"})
        assert found["reason"].to_list() == ["null_id"]
        assert sum(page.height for page in reader.pages("rejected_reviews", where={"run_id": "1"}, size=1)) == 2


def test_nothing_looked_up_is_an_empty_typed_frame(warehouse):
    with warehouse.connect() as reader:
        for values in (pl.Series([], dtype=pl.String), pl.Series([None], dtype=pl.String), pl.Series(["x"])):
            found = reader.lookup("mentions", "review_id", values, columns=["review_date", "confidence"])
            assert found.schema == {"review_date": pl.Date(), "confidence": pl.Float64()}
            assert found.is_empty()


@pytest.mark.parametrize("staged_from", [0, 1000])
def test_append_missing_leaves_what_is_there(warehouse, monkeypatch, staged_from):
    monkeypatch.setattr(bulk, "_STAGED_FROM", staged_from)
    with warehouse.begin() as transaction:
        transaction.append("text_spans", spans(("a", 0, "old"), ("b", 1, "old")))
        transaction.append_missing("text_spans", spans(("a", 0, "new"), ("a", 1, "new"), ("c", 0, "new")))
        transaction.append_missing("text_spans", spans(("c", 0, "newer")))
        assert labels(transaction) == [("a", 0, "old"), ("a", 1, "new"), ("b", 1, "old"), ("c", 0, "new")]


def test_delete_and_update(warehouse):
    with warehouse.begin() as transaction:
        transaction.append("text_spans", spans(("a", 0, "x"), ("a", 1, "y"), ("b", 0, "x")))
        assert transaction.update("text_spans", {"label": "x", "text_hash": "a"}, {"label": "z"}) == 1
        assert transaction.update("text_spans", {"label": "none"}, {"label": "z"}) == 0
        transaction.delete("text_spans", "text_hash", pl.Series(["b", "q", None]))
        assert labels(transaction) == [("a", 0, "z"), ("a", 1, "y")]


def test_wrong_rows_change_nothing(warehouse):
    def write():
        with warehouse.begin() as transaction:
            transaction.append("text_spans", spans(("a", 0, "x")))
            transaction.append("text_spans", spans(("b", 0, "x")).drop("label"))

    with pytest.raises(ValueError, match="text_spans: label is missing"):
        write()
    with warehouse.connect() as reader:
        assert labels(reader) == []


def test_a_reader_sees_one_state(warehouse):
    with warehouse.connect() as reader:
        assert labels(reader) == []
        with warehouse.begin() as transaction:
            transaction.append("text_spans", spans(("a", 0, "x")))
        assert labels(reader) == []


def test_more_rows_than_a_statement_takes(warehouse):
    number = pl.int_range(2 * bulk.ROWS_AT_ONCE + 1, eager=True)
    frame = pl.DataFrame({"fingerprint": "f", "text_hash": number.cast(pl.String)}).with_columns(
        chars=number, chars_read=number, windows=1, unknown_chars=number
    )
    with warehouse.begin() as transaction:
        transaction.append("text_readings", frame)
    with warehouse.connect() as reader:
        found = reader.lookup("text_readings", "text_hash", frame["text_hash"])
    assert_frame_equal(found.sort("chars"), frame, check_column_order=False, check_dtypes=False)
