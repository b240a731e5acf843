"""Whatever the rows: those that come in are covered, deleted or rejected, each of the latter with its rule."""

import sqlite3
from collections import Counter
from datetime import UTC, datetime

import polars as pl
import psycopg
import pytest

from ecner.config import SourceSettings
from ecner.errors import DataError
from ecner.nightly.rows import check
from ecner.nightly.source import open_source
from tests.nightly.nasty import COLUMNS, MEGABYTE, judged, nasty_files, text_rows, typed_rows

OLDEST = datetime.min.replace(tzinfo=UTC)


def check_all(source):
    """All rows of a source after the rules, numbered in its order."""
    found, first_row = [], 0
    for batch in source.batches():
        found.append(check(batch, first_row=first_row, time_zone="UTC"))
        first_row += batch.num_rows
    return pl.concat([one.rows for one in found]), pl.concat([one.rejected for one in found]), first_row


def assert_rules(nasty, rows, rejected):
    """Each row is where the oracle has it; of those that are told, the rule is one that the row breaks."""
    told = dict(rejected.select("source_row", "reason").iter_rows())
    passed = {row["source_row"]: row for row in rows.iter_rows(named=True)}
    assert sorted([*told, *passed]) == list(range(len(nasty)))
    for number, one in enumerate(nasty):
        if one.broken:
            assert told.get(number) in one.broken, one
        else:
            row = passed.get(number)
            assert row is not None, (one, rejected.filter(source_row=number).rows())
            assert (row["review_id"], row["text"]) == (one.review_id, one.text)
            assert (row["updated_at"], row["deleted"]) == (one.updated_at, one.deleted)
    assert not rejected.filter(pl.col("detail").str.contains("\0", literal=True)).height
    assert rejected.select("reason", "detail").null_count().row(0) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_files(tmp_path, seed):
    nasty = nasty_files(tmp_path / "in", 3000, seed, long_texts=3)
    source = open_source(SourceSettings(uri=str(tmp_path / "in")))
    rows, rejected, total = check_all(source)
    assert total == len(nasty) == source.rows()
    assert_rules(nasty, rows, rejected)
    every = {"invalid_utf8", "null_id", "bad_id", "null_text", "blank_text", "wrong_type", "missing_column"}
    assert set(rejected["reason"]) == every
    assert rows["text"].str.len_bytes().max() > MEGABYTE - 100


def test_sqlite(tmp_path):
    """It holds bytes as text, and numbers beside it in the same column."""
    nasty = [*text_rows(2000, seed=7), *typed_rows(500, seed=7)]
    stored = [one for one in nasty if not isinstance(one.row["created_at"], int)]  # there is no type for times
    stored = numbered(one for one in stored if not isinstance(one.row["updated_at"], int))
    database = sqlite3.connect(tmp_path / "x.db")
    database.execute(f"create table r ({', '.join(COLUMNS)})")
    for one in stored:
        values = [one.row.get(name) for name in COLUMNS]
        places = ", ".join("cast(? as text)" if isinstance(value, bytes) else "?" for value in values)
        database.execute(f"insert into r values ({places})", values)  # noqa: S608
    database.commit()
    database.close()
    assert_by_number(f"sqlite:///{tmp_path}/x.db", "r", stored)


def test_postgresql(postgresql_server):
    """What it refuses, which is a NUL and what is no UTF-8, cannot come out of it."""
    nasty = [one for one in text_rows(3000, seed=8) if "invalid_utf8" not in one.broken]
    stored = [one for one in nasty if not any(b"\0" in (value or b"") for value in one.row.values())]
    stored = numbered(one for one in stored if one.text is not None or one.row["text"] is None)
    url = postgresql_server.admin.render_as_string(hide_password=False)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("drop table if exists nasty")
        cursor.execute(f"create table nasty ({', '.join(f'{name} text' for name in COLUMNS)})")
        with cursor.copy("copy nasty from stdin") as copy:
            for one in stored:
                copy.write_row([value if value is None else value.decode() for value in map(one.row.get, COLUMNS)])
    assert_by_number(url, "nasty", stored)


def numbered(nasty):
    """The rows with their numbers as product_id, as a database gives them in another order."""
    return [judged({**one.row, "product_id": f"{number}".encode()}) for number, one in enumerate(nasty)]


def assert_by_number(url, table, stored):
    source = open_source(SourceSettings(uri=url, table=table))
    numbers = [int(number) for batch in source.batches() for number in batch.column("product_id").to_pylist()]
    rows, rejected, total = check_all(source)
    assert total == len(stored) == len(set(numbers)) > 1000
    assert_rules([stored[number] for number in numbers], rows, rejected)


def settled(nasty):
    """What becomes of each row in a night: covered, deleted, or rejected."""
    winners = {}
    for number, one in enumerate(nasty):
        if not one.broken:
            held = winners.get(one.review_id)
            if held is None or (one.updated_at or OLDEST) >= (held[1].updated_at or OLDEST):
                winners[one.review_id] = number, one
    return dict(winners.values())


def assert_a_night(house, folder, nasty):
    report = house.night(folder, run={"shards": 2, "max_batch_chars": 20_000})
    counts = house.run(report)
    winners = settled(nasty)
    covered = house.read("review_coverage")
    assert set(covered["review_id"]) == {one.review_id for one in winners.values() if not one.deleted}
    rejected = house.read("rejected_reviews")
    assert len(rejected) == counts["reviews_rejected"] == len(nasty) - len(winners)
    deleted = sum(one.deleted for one in winners.values())
    assert counts["reviews_in"] == len(nasty) == len(covered) + len(rejected) + deleted
    for row in rejected.iter_rows(named=True):
        one = nasty[row["source_row"]]
        assert row["reason"] in (one.broken or {"repeated_id"}), one
    assert set(covered["chars"]) <= {len(one.text or "") for one in winners.values()}
    return Counter(rejected["reason"].to_list())


def test_a_night(house, tmp_path):
    nasty = nasty_files(tmp_path / "in", 3000, seed=1)
    assert len(assert_a_night(house, tmp_path / "in", nasty)) == 8
    before = house.tables()
    (tmp_path / "in" / "k-cut.parquet").write_bytes((tmp_path / "in" / "a-text.parquet").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"k-cut\.parquet is not a Parquet file .*; replace or remove it"):
        house.night(tmp_path / "in")
    assert all(house.tables()[name].equals(before[name]) for name in before)


@pytest.mark.slow
def test_a_night_of_a_hundred_thousand(house, tmp_path):
    nasty = nasty_files(tmp_path / "in", 100_000, seed=2, long_texts=12)
    assert len(nasty) > 100_000
    assert len(assert_a_night(house, tmp_path / "in", nasty)) == 8
