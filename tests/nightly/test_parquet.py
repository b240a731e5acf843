from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from ecner.config import SourceSettings
from ecner.errors import DataError, RunError, UsageError
from ecner.nightly import parquet as module
from ecner.nightly.rows import check
from ecner.nightly.source import open_source


def save(path, **columns: Any):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def read(uri, **settings: Any):
    """The rows of a source as the rules see them."""
    batches = open_source(SourceSettings(uri=str(uri), **settings)).batches()
    return pl.concat([check(batch, first_row=0, time_zone="UTC").rows for batch in batches])


def ids(uri, **settings: Any):
    return read(uri, **settings)["review_id"].to_list()


@pytest.fixture
def folder(tmp_path):
    """A folder with files that count and such that writers leave."""
    for number, name in enumerate(["b.parquet", "a.parquet", "deep/er.parquet/c.parquet"]):
        save(tmp_path / "in" / name, review_id=[f"r{number}"], text=["t"])
    for name in ("_temporary/x.parquet", ".hidden.parquet", "deep/_x.parquet", ".deep/x.parquet"):
        save(tmp_path / "in" / name, review_id=["hidden"], text=["t"])
    (tmp_path / "in" / "_SUCCESS").touch()
    (tmp_path / "in" / "notes.txt").write_text("no Parquet")
    return tmp_path / "in"


def test_one_file(folder):
    assert ids(folder / "b.parquet") == ["r0"]
    assert ids(folder / ".hidden.parquet") == ["hidden"]  # it was asked for by its name


def test_a_folder_in_the_order_of_names(folder):
    assert ids(folder) == ["r1", "r0", "r2"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["r1", "r0"]),
        ("[b].parquet", ["r0"]),
        ("deep", ["r2"]),
        ("d*", ["r2"]),
        ("deep/**", ["r2"]),
        ("**/[a-z]*.parquet", ["r1", "r0", "r2"]),
    ],
)
def test_globs(folder, pattern, expected):
    assert ids(folder / pattern) == expected


def test_a_name_with_the_characters_of_a_glob(tmp_path):
    assert ids(save(tmp_path / "[1]*.parquet", review_id=["r"], text=["t"])) == ["r"]


def test_partitions(tmp_path):
    for part in ("date=2026-11-02", "date=2026-11-01", "date=__HIVE_DEFAULT_PARTITION__", "date=2026%2D11%2D03"):
        save(tmp_path / "in" / part / "product_id=p%201" / "f.parquet", review_id=[part], text=["t"])
    rows = read(tmp_path / "in").sort("partition_date")
    days = [None, date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 3)]
    assert rows["partition_date"].to_list() == days
    assert set(rows["product_id"]) == {"p 1"}
    one = read(tmp_path / "in" / "date=2026-11-02" / "product_id=p%201" / "f.parquet")
    assert one["partition_date"].to_list() == [date(2026, 11, 2)]


def test_a_partition_can_be_the_watermark(tmp_path):
    save(tmp_path / "in" / "date=2026-11-02" / "f.parquet", review_id=["r"], text=["t"])
    rows = read(tmp_path / "in", watermark_column="date")
    assert rows["watermark"].to_list() == [datetime(2026, 11, 2, tzinfo=UTC)]


def test_column_names(tmp_path):
    at = datetime(2026, 1, 2, tzinfo=UTC)
    file = save(tmp_path / "f.parquet", id=[7], body=["t"], changed=[at], text=["another column"], star=[3])
    names = {"review_id": "id", "text": "body", "updated_at": "changed", "created_at": "changed", "rating": "star"}
    row = read(file, columns=names, watermark_column="changed").row(0, named=True)
    assert row == {
        "source_row": 0, "review_id": "7", "text": "t", "product_id": None, "rating": 3.0,
        "created_at": at, "updated_at": at, "watermark": at, "partition_date": None, "deleted": False,
    }  # fmt: skip


def test_each_file_may_have_a_schema_of_its_own(tmp_path):
    text = ["甲", None, "乙"]
    number = [1, 2, 3]
    kinds = [
        (pa.array(text, pa.string()), pa.array(["1", "2", "3"]), {"rating": pa.array([1, None, 5], pa.int8())}),
        (pa.array(text, pa.large_string()), pa.array(number, pa.int64()), {"rating": pa.array([1.0, None, 5.0])}),
        (pa.array(text, pa.string_view()), pa.array(number, pa.uint16()), {}),
        (pa.array(text).dictionary_encode(), pa.array(["1", "2", "3"]).dictionary_encode(), {}),
        (pa.array([t and t.encode() for t in text]), pa.array([b"1", b"2", b"3"]), {"rating": pa.nulls(3)}),
        (
            pa.array(text),
            pa.array(number),
            {"rating": pa.array([Decimal("1.0"), None, Decimal("5.0")]), "product_id": pa.array([4, None, 4])},
        ),
    ]
    for name, (texts, identities, more) in enumerate(kinds):
        save(tmp_path / f"{name}.parquet", text=texts, review_id=identities, **more)
        rows = read(tmp_path / f"{name}.parquet")
        assert rows["text"].to_list() == ["甲", "乙"]
        assert rows["review_id"].to_list() == ["1", "3"]
        assert rows["rating"].to_list() in ([1.0, 5.0], [None, None])
    whole = read(tmp_path)
    assert len(whole) == 2 * len(kinds)
    assert whole["product_id"].to_list()[-2:] == ["4", "4"]


def test_batches_are_streamed(tmp_path, monkeypatch):
    """A file is read piece by piece, and the next one is not opened before it is asked for."""
    monkeypatch.setattr(module, "_BATCH_ROWS", 100)
    for name in "ab":
        save(tmp_path / f"{name}.parquet", review_id=list(range(1000)), text=["t"] * 1000)
    batches = open_source(SourceSettings(uri=str(tmp_path))).batches()
    assert next(batches).num_rows == 100
    (tmp_path / "b.parquet").write_bytes(b"")
    assert sum(next(batches).num_rows for _ in range(9)) == 900
    with pytest.raises(RunError, match=r"cannot read on in .*b\.parquet"):
        next(batches)


def refused(uri, error, message, **settings: Any):
    with pytest.raises(error, match=message) as caught:
        open_source(SourceSettings(uri=str(uri), **settings))
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    for uri in ("no.parquet", "empty", "*.parquet"):
        refused(tmp_path / uri, UsageError, "no Parquet file at .*set source.uri")


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"PAR1" + b"\0" * 90 + b"PAR1"])
def test_no_parquet(tmp_path, content):
    good = save(tmp_path / "in" / "a.parquet", review_id=["r"], text=["t"])
    (tmp_path / "in" / "b.parquet").write_bytes(content)
    refused(good.parent, DataError, r"b\.parquet is not a Parquet file")


def test_a_truncated_file(tmp_path):
    file = save(tmp_path / "a.parquet", review_id=["r"] * 1000, text=["t"] * 1000)
    file.write_bytes(file.read_bytes()[:-9])
    refused(file, DataError, r"a\.parquet is not a Parquet file")


def test_a_missing_column(tmp_path):
    file = save(tmp_path / "in" / "a.parquet", review_id=["r"], body=["t"])
    save(tmp_path / "in" / "b.parquet", review_id=["r"], body=["t"])
    refused(tmp_path / "in", UsageError, r"a\.parquet .*lacks the column\(s\) text; .* body, review_id; set")
    refused(file, UsageError, "lacks the column.* stars", columns={"rating": "stars"})
    refused(file, UsageError, "lacks the column.* changed", watermark_column="changed")


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("review_id", [1.0], "text or integers"),
        ("review_id", [True], "text or integers"),
        ("text", [1], "text"),
        ("text", [["t"]], "text"),
        ("text", pa.array([1]).dictionary_encode(), "text"),
        ("product_id", [1.5], "text or integers"),
        ("rating", [datetime(2026, 1, 1, tzinfo=UTC)], "numbers"),
        ("created_at", [1_700_000_000], "times"),
        ("updated_at", [{"at": 1}], "times"),
    ],
)
def test_types_that_cannot_be_used(tmp_path, name, values, expected):
    file = save(tmp_path / "a.parquet", **{"review_id": ["r"], "text": ["t"], name: values})
    refused(file, UsageError, f"{name} is .*: expected {expected};")


def test_all_types_are_named_at_once(tmp_path):
    file = save(tmp_path / "a.parquet", review_id=[1.0], text=[1])
    refused(file, UsageError, "review_id is double: expected text or integers; text is int64: expected text")


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.timestamp("ms"), pa.timestamp("ns", "Nowhere/Known")])
def test_types_of_times(tmp_path, kind):
    at = pa.array([1_000_000_000_000 if kind != pa.date32() else 11_574]).cast(
        pa.int32() if kind == pa.date32() else pa.int64()
    )
    file = save(tmp_path / "a.parquet", review_id=["r"], text=["t"], created_at=at.cast(kind))
    assert read(file)["created_at"].null_count() == 0


BAD_PARTITIONS = {
    "no text": ({"review_id": ["b1", None]}, "missing_column", "it lacks the column(s) text", ["b1", None]),
    "no id": ({"text": ["t", "t"]}, "missing_column", "it lacks the column(s) review_id", [None, None]),
    "no columns": ({"body": ["t", "t"]}, "missing_column", "it lacks the column(s) review_id", [None, None]),
    "texts of numbers": (
        {"review_id": [7, 8], "text": [1, 2]},
        "wrong_type",
        "text is int64: expected text",
        ["7", "8"],
    ),
    "ids of floats": (
        {"review_id": [1.0, 2.0], "text": ["t", "t"]},
        "wrong_type",
        "review_id is double: expected text or integers",
        [None, None],
    ),
    "ratings in lists": (
        {"review_id": ["b1", "b2"], "text": ["t", "t"], "rating": [[1], [2]]},
        "wrong_type",
        "rating is list<element: int64>: expected numbers",
        ["b1", "b2"],
    ),
}


@pytest.mark.parametrize("kind", BAD_PARTITIONS)
def test_one_bad_partition_is_told_row_by_row(tmp_path, kind):
    """It stops nothing, whatever its place; where all are like it, the settings are wrong."""
    columns, rule, what, identities = BAD_PARTITIONS[kind]
    for day, name in (("01", "a"), ("03", "c")):
        save(tmp_path / "in" / f"date=2026-11-{day}" / "x.parquet", review_id=[name], text=["t"], rating=[1])
    bad = save(tmp_path / "in" / "date=2026-11-02" / "x.parquet", **columns)
    batches = list(open_source(SourceSettings(uri=str(tmp_path / "in"))).batches())
    checked = [check(batch, first_row=0, time_zone="UTC") for batch in batches]
    rejected = pl.concat([found.rejected for found in checked])
    assert [batch.num_rows for batch in batches] == [1, 2, 1]
    assert pl.concat([found.rows for found in checked])["review_id"].to_list() == ["a", "c"]
    assert rejected.select("review_id", "reason", "detail").rows() == [(n, rule, f"{bad}: {what}") for n in identities]
    refused(bad, UsageError, "it lacks the column|expected")


def test_an_empty_file(tmp_path):
    save(tmp_path / "a.parquet", review_id=pa.array([], pa.string()), text=pa.array([], pa.string()))
    assert not list(open_source(SourceSettings(uri=str(tmp_path))).batches())
    save(tmp_path / "b.parquet", review_id=["r"], text=["t"])
    assert ids(tmp_path) == ["r"]


def test_rows_and_size_come_from_the_metadata(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}.parquet", review_id=[1, 2, 3], text=["好" * 1000, "b", None], other=["x" * 99999] * 3)
    source = open_source(SourceSettings(uri=str(tmp_path)))
    assert source.rows() == 6
    assert 6000 < source.size() < 30000


@pytest.mark.parametrize("encoding", ["dictionary", "plain"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.string_view()])
def test_batches_are_bounded_in_bytes(tmp_path, monkeypatch, encoding, kind):
    """A dictionary holds a long text once, however many rows it stands for: what counts is what they decode to."""
    monkeypatch.setattr(module, "_BATCH_BYTES", 1 << 20)
    texts = ["short", "长" * 100_000, None, "x" * 3_000_000] * 20
    table = pa.table({"review_id": list(range(80)), "text": pa.array(texts).cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=encoding == "dictionary")
    batches = list(open_source(SourceSettings(uri=str(tmp_path))).batches())
    checked = [check(batch, first_row=0, time_zone="UTC") for batch in batches]
    assert pl.concat([rows for rows, _ in checked])["text"].to_list() == [text for text in texts if text]
    for rows, _ in checked:
        assert len(rows) == 1 or rows["text"].str.len_bytes().sum() <= 1 << 20


def test_short_texts_come_in_full_batches(tmp_path):
    save(tmp_path / "a.parquet", review_id=list(range(100_000)), text=["好"] * 100_000)
    batches = list(open_source(SourceSettings(uri=str(tmp_path))).batches())
    assert [batch.num_rows for batch in batches] == [32768] * 3 + [1696]


DELETED = {
    "booleans": ([True, False, None], pa.bool_()),
    "integers": ([1, 0, None], pa.int8()),
    "floats": ([1.0, 0.0, float("nan")], pa.float64()),
    "words": (["TRUE", "no", " "], pa.string()),
    "bytes": ([b"yes", b"0", None], pa.binary()),
    "times": ([datetime(2026, 1, 1, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
    "times as text": (["2026-01-01 10:00", "", None], pa.string()),
    "days": ([date(2026, 1, 1), None, None], pa.date32()),
}


@pytest.mark.parametrize("kind", DELETED)
def test_deleted(tmp_path, kind):
    values, dtype = DELETED[kind]
    gone = pa.array(values, dtype)
    save(tmp_path / "a.parquet", review_id=["a", "b", "c"], text=[None, "t", "t"], gone=gone)
    assert read(tmp_path, columns={"deleted": "gone"})["deleted"].to_list() == [True, False, False]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["1", "2", "3"]),
        ("/date=2026-11-02", ["2"]),
        ("/date=2026-11-02/x.parquet", ["2"]),
        ("/*/x.parquet", ["1", "2"]),
        ("/date=2026-11-0[13]", ["1", "3"]),
        ("/**/*.parquet", ["1", "2", "3"]),
    ],
)
def test_an_object_store(object_store, tmp_path, pattern, expected):
    """The same files in the same order as on disk, half of the requests refused."""
    for day, name in (("01", "x"), ("02", "x"), ("03", "deep/er"), ("01", "_temporary"), ("02", ".hidden")):
        file = save(tmp_path / "in" / f"date=2026-11-{day}" / f"{name}.parquet", review_id=[int(day)], text=["t"])
        key = file.relative_to(tmp_path)
        fs.copy_files(str(file), f"reviews/source/{key}", destination_filesystem=object_store.files)
    uri = f"s3://reviews/source/in{pattern}"
    with object_store.refusing(0.5):
        assert ids(uri, endpoint=object_store.endpoint) == expected == ids(f"{tmp_path}/in{pattern}")
        assert object_store.refused
    source = open_source(SourceSettings(uri=uri, endpoint=object_store.endpoint))
    assert source.name == uri
    assert source.rows() == len(expected)


def test_what_an_object_store_lacks(object_store, tmp_path):
    refused(
        "s3://reviews/nothing", UsageError, "no Parquet file at s3://reviews/nothing", endpoint=object_store.endpoint
    )
    refused("s3://nosuch/x", UsageError, "there is no bucket nosuch", endpoint=object_store.endpoint)
    file = save(tmp_path / "a.parquet", review_id=["r"] * 1000, text=["t"] * 1000)
    with object_store.files.open_output_stream("reviews/cut/a.parquet") as cut:
        cut.write(file.read_bytes()[:-9])
    refused("s3://reviews/cut", DataError, r"cut/a\.parquet is not a Parquet file", endpoint=object_store.endpoint)
    with object_store.files.open_output_stream("reviews/lost/a.parquet") as whole:
        whole.write(file.read_bytes())
    source = open_source(SourceSettings(uri="s3://reviews/lost", endpoint=object_store.endpoint))
    object_store.files.delete_file("reviews/lost/a.parquet")
    with pytest.raises(RunError, match=r"cannot read on in reviews/lost/a\.parquet"):
        next(source.batches())
