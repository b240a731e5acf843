import sqlite3

import polars as pl
import pytest

from ecner.config import SourceSettings
from ecner.errors import UsageError
from ecner.nightly.rows import check
from ecner.nightly.source import open_source


@pytest.fixture
def uris(tmp_path):
    """The same two reviews as a file and as a database."""
    pl.DataFrame({"review_id": ["a", "b"], "text": ["t", "u"]}).write_parquet(tmp_path / "x.parquet")
    database = sqlite3.connect(tmp_path / "x.db")
    database.executescript("create table reviews (review_id, text); insert into reviews values ('a', 't'), ('b', 'u')")
    database.close()
    return {"file": f"{tmp_path}/x.parquet", "database": f"sqlite:///{tmp_path}/x.db"}


def test_it_goes_by_the_address(uris):
    for uri, more in ((uris["file"], {}), (uris["database"], {"table": "reviews"})):
        source = open_source(SourceSettings(uri=uri, **more))
        (batch,) = source.batches()
        assert check(batch, first_row=0, time_zone="UTC").rows["review_id"].to_list() == ["a", "b"]
        assert source.name.startswith(uri)


def test_the_sample_is_read_where_nothing_is_named():
    source = open_source(SourceSettings())
    assert source.rows() == sum(batch.num_rows for batch in source.batches()) == 347


@pytest.mark.parametrize(
    ("uri", "more", "message"),
    [
        ("file", {"table": "reviews"}, "source.table is set, but source.uri names files"),
        ("file", {"query": "select 1"}, "source.query is set, but source.uri names files"),
        ("database", {}, "expected source.table or source.query"),
        (
            "nosuch://user:secret@host/x",
            {"table": "t"},
            r"source.uri is .*user:\*\*\*@host/x.*expected a SQLAlchemy URL",
        ),
        ("s3://user:secret@host/x", {}, r"s3://user:\*\*\*@host/x is no store"),
        ("sqlite:///nosuch.db", {"table": "t"}, "no such database"),
    ],
)
def test_what_cannot_be_a_source(uris, uri, more, message):
    with pytest.raises(UsageError, match=message) as caught:
        open_source(SourceSettings(uri=uris.get(uri, uri), **more))
    assert "secret" not in str(caught.value)
