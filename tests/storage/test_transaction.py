from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta

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
        fingerprint=pl.lit("f"),
        start_char=0,
        end_char=2,
        confidence=pl.lit(0.5),
        surface=pl.lit("面霜"),
        left_context=None,
        right_context=pl.lit("很好"),
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


def test_rows_stream_in_order_in_bounded_frames(warehouse):
    size = 2_500
    number = pl.int_range(3 * size + 1, eager=True)
    frame = pl.DataFrame({"text_hash": number.cast(pl.String).shuffle(1)}).with_columns(
        fingerprint=pl.lit("f"), chars=1, chars_read=1, windows=1, unknown_chars=None
    )
    with warehouse.begin() as transaction:
        transaction.append("text_readings", frame)
    with warehouse.connect() as reader:
        options = {"columns": ["text_hash", "unknown_chars"], "order_by": ["text_hash"], "size": size}
        found = list(reader.stream("text_readings", **options, where={"fingerprint": "f"}))
        assert list(reader.stream("text_readings", **options, where={"fingerprint": "g"})) == []
    assert max(part.height for part in found) <= size
    assert all(part.schema == {"text_hash": pl.String(), "unknown_chars": pl.Int64()} for part in found)
    assert pl.concat(found)["text_hash"].to_list() == sorted(map(str, number))


def test_other_tables_can_be_written_while_rows_stream(warehouse):
    days = pl.DataFrame({"date": pl.date_range(date(2024, 1, 1), date(2024, 1, 9), eager=True)})
    with warehouse.begin() as transaction:
        transaction.append("calendar", days.with_columns(week_start="date", month_start="date"))
        for part in transaction.stream("calendar", columns=["date"], size=2):
            transaction.append("stale_copies", part.rename({"date": "review_date"}))
        assert transaction.read("stale_copies").height == 9


def test_deleting_by_more_than_one_column(warehouse):
    with warehouse.begin() as transaction:
        transaction.append("text_spans", spans(("a", 0, "x"), ("a", 1, "y"), ("b", 0, "x"), ("c", 0, "z")))
        transaction.delete("text_spans", "text_hash", pl.Series(["a", "b"]), where={"label": "x"})
        assert labels(transaction) == [("a", 1, "y"), ("c", 0, "z")]
        assert transaction.delete_all("text_spans", {"label": "none"}) == 0
        assert transaction.delete_all("text_spans", {"label": "y"}) == 1
        assert transaction.delete_all("text_spans") == 1
        assert labels(transaction) == []


def test_days_and_times_are_looked_up_and_deleted(warehouse):
    start = datetime(1, 1, 1, 0, 0, 0, 7, tzinfo=UTC)
    stones = pl.DataFrame({"kind": "review", "hash": ["a", "b"], "removed_at": [start, start.replace(year=9999)]})
    days = pl.DataFrame({"review_date": [date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)]})
    with warehouse.begin() as transaction:
        transaction.append("tombstones", stones.with_columns(updated_at=None))
        transaction.append("stale_copies", days)
        assert transaction.lookup("tombstones", "removed_at", stones["removed_at"]).height == 2
        transaction.delete("tombstones", "removed_at", stones["removed_at"][:1])
        assert transaction.read("tombstones")["hash"].to_list() == ["b"]
        assert transaction.lookup("stale_copies", "review_date", days["review_date"]).height == 3
        transaction.delete("stale_copies", "review_date", days["review_date"][1:])
        assert transaction.read("stale_copies").equals(days[:1])


def test_text_that_means_something_to_csv_json_or_sql(warehouse):
    texts = ["", " ", '"', "\\.", "\\N", "a,b", "a\nb", "\r\n", "\r", "'; drop table annotations; --", "{}", "[1]",
             "NULL", "%s", "\u202e", "😀", "\ufeff", "\x1a", "x" * 1_000_000]  # fmt: skip
    frame = pl.DataFrame({"review_id": [*texts, None]}).with_columns(
        text="review_id", spans=None, label=None, annotator=None, labelled_at=None
    )
    with warehouse.begin() as transaction:
        transaction.append("annotations", frame)
        assert_frame_equal(transaction.read("annotations").sort("text"), frame.sort("text"), check_dtypes=False)
        assert transaction.lookup("annotations", "text", pl.Series(texts)).height == len(texts)
        transaction.delete("annotations", "text", pl.Series(texts))
        assert transaction.read("annotations").height == 1


def test_large_values_are_copied_in_parts(warehouse, monkeypatch):
    monkeypatch.setattr(bulk, "_BYTES_AT_ONCE", 100)
    number = pl.int_range(300, eager=True)
    frame = pl.DataFrame({"text_hash": number.cast(pl.String)}).with_columns(
        fingerprint=pl.lit("f"), chars=number, chars_read=1, windows=1, unknown_chars=None
    )
    with warehouse.begin() as transaction:
        transaction.append("text_readings", frame)
        assert transaction.read("text_readings")["chars"].sum() == number.sum()


def test_the_clock_runs_within_a_transaction(warehouse):
    with warehouse.connect() as reader:
        first, second = reader.now(), reader.now()
    assert first < second
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)


def test_an_unfinished_stream_leaves_the_transaction_usable(warehouse):
    days = pl.DataFrame({"date": pl.date_range(date(2024, 1, 1), date(2024, 1, 9), eager=True)})
    with warehouse.begin() as transaction:
        transaction.append("calendar", days.with_columns(week_start="date", month_start="date"))
        stream = transaction.stream("calendar", size=2)
        assert next(stream).height == 2
        assert transaction.read("calendar").height == 9
    with warehouse.connect() as reader:
        assert next(reader.stream("calendar", size=2)).height == 2
    with warehouse.begin() as transaction:
        assert transaction.delete_all("calendar") == 9


def test_orphans_are_what_no_row_of_the_other_table_has(warehouse):
    with rolled_back(warehouse) as transaction:
        assert transaction.orphans("text_spans", "text_hash", "text_readings").is_empty()
        transaction.append("text_spans", spans(("a", 1, "x"), ("b", 1, "x"), ("b", 2, "x")))
        read = pl.DataFrame(
            {"fingerprint": "g", "text_hash": ["a", "c"], "chars": 1, "chars_read": 1, "windows": 1, "unknown_chars": 0}
        )
        transaction.append("text_readings", read)
        assert transaction.orphans("text_spans", "text_hash", "text_readings").to_list() == ["b"]
        assert transaction.delete_orphans("text_spans", "text_hash", "text_readings") == 2
        assert labels(transaction) == [("a", 1, "x")]
