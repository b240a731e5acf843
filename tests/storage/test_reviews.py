# ruff: noqa: S608 - names of these tests' own
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

import polars as pl
import pytest
import sqlalchemy as sa

from ecner.config import SourceSettings
from ecner.errors import RunError, UsageError
from ecner.nightly.rows import check
from ecner.storage import reviews as module
from ecner.storage.engine import open_engine, parse_url
from ecner.storage.reviews import open_reviews

AT = datetime(2026, 11, 1, 10, 20, 30, 125_000, tzinfo=UTC)
_numbers = count()


class Database:
    """A database of somebody else's; ``schema`` is for PostgreSQL, where tests share one."""

    def __init__(self, url: str, schema: str | None) -> None:
        self.url, self.schema = url, schema
        self.engine = open_engine(parse_url(url, None))
        if schema:
            with self.engine.begin() as connection:
                connection.execute(sa.schema.CreateSchema(schema))

    @property
    def is_sqlite(self):
        return self.schema is None

    def table(self, name: str, *columns: Any, rows: Any = ()):
        """Makes a table out of names, types and rows; returns what the settings call it."""
        made = sa.Table(
            name, sa.MetaData(), *(sa.Column(name, kind) for name, kind in columns), schema=self.schema
        )  # fmt: skip
        with self.engine.begin() as connection:
            made.create(connection)
            raw = sa.table(name, *(sa.column(column) for column, _ in columns), schema=self.schema)
            for row in rows:
                connection.execute(raw.insert().values(dict(zip(made.columns.keys(), row, strict=True))))
        return name if self.is_sqlite else f"{self.schema}.{name}"

    def source(self, **settings: Any):
        return open_reviews(SourceSettings(uri=self.url, **settings))

    def checked(self, since: datetime | None = None, **settings: Any):
        batches = list(self.source(**settings).batches(since))
        found = [check(batch, first_row=0, time_zone="UTC") for batch in batches]
        return pl.concat([one.rows for one in found]), pl.concat([one.rejected for one in found])

    def ids(self, since: datetime | None = None, **settings: Any):
        return self.checked(since, **settings)[0]["review_id"].to_list()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        return Database(f"sqlite:///{tmp_path}/some [1]%20.db", None)
    server = request.getfixturevalue("postgresql_server")
    return Database(server.admin.render_as_string(hide_password=False), f'Reviews "{next(_numbers)}" 100%.x')


TYPED = [
    ("review_id", sa.BigInteger()), ("text", sa.Text()), ("product_id", sa.Integer()), ("rating", sa.Numeric(3, 1)),
    ("created_at", sa.DateTime(timezone=True)), ("updated_at", sa.DateTime()), ("deleted", sa.Boolean()),
]  # fmt: skip


def typed_rows(database, number):
    """Rows as the driver of that database takes them."""
    times = (AT, AT.replace(tzinfo=None))
    if database.is_sqlite:
        times = (times[0].isoformat(), times[1].isoformat(" "))
    return [(n, f"好{n}", 7, 4.5 if database.is_sqlite else Decimal("4.5"), *times, n == 2) for n in range(number)]


def test_a_table(database):
    rows, rejected = database.checked(table=database.table("r", *TYPED, rows=typed_rows(database, 3)))
    assert rejected.is_empty()
    assert rows.drop("source_row", "partition_date", "watermark").rows() == [
        (f"{n}", f"好{n}", "7", 4.5, AT, AT, n == 2) for n in range(3)
    ]


def test_names_are_quoted(database):
    """Names of a table and of columns that are SQL, reserved words, ours for another, and of capitals and signs."""
    names = {"review_id": 'Id"; drop table "r', "text": "review_id", "product_id": "text", "rating": "Order By %s :x"}
    table = database.table(
        'r"; drop table "r', *((name, sa.Text()) for name in names.values()), rows=[("a", "b", "c", "5")]
    )
    for reading in ({"table": table}, {"query": f"select * from {quoted(database, table)}"}):
        (row,) = database.checked(columns=names, **reading)[0].rows(named=True)
        assert (row["review_id"], row["text"], row["product_id"], row["rating"]) == ("a", "b", "c", 5.0)


def quoted(database, table):
    """The name in SQL."""
    name = table.removeprefix(f"{database.schema}.")
    parts = [name] if database.is_sqlite else [database.schema, name]
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in parts)


def test_a_view_and_a_query(database):
    table = quoted(
        database, database.table("r", ("id", sa.Text()), ("body", sa.Text()), rows=[("a", "x:y"), ("b", "z")])
    )
    view = "v" if database.is_sqlite else f'"{next(_numbers)}v"'
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            f"create view {view} as select id as review_id, body as text from {table}".replace("%", "%%")
        )
    assert database.ids(table=view.strip('"')) == ["a", "b"]
    columns = {"review_id": "id"}
    for query in (
        f"select id, body as text from {table}",
        f"select id, body as text from {table} where body like '%:y%' union all select 'b', ':name' -- two; parts\n ;",
        f"with x as (select * from {table}) select id, cast(body as varchar(9)) as text from x;",
    ):
        assert database.ids(query=query, columns=columns) == ["a", "b"]


def test_rows_come_in_order(database):
    rows = [("b", "x", 1), ("a", "z", 2), ("a", "y", 2), ("a", "w", 3), ("a", "w", 1), ("ä", "x", None)]
    stored = [(i, t, u and (AT + timedelta(days=u)).isoformat()) for i, t, u in rows]
    table = database.table("r", ("review_id", sa.Text()), ("text", sa.Text()), ("updated_at", sa.Text()), rows=stored)
    found = database.checked(table=table)[0].rows(named=True)
    order = [(row["review_id"], row["updated_at"] and (row["updated_at"] - AT).days, row["text"]) for row in found]
    assert [entry for entry in order if entry[0] == "a"] == [("a", 1, "w"), ("a", 2, "y"), ("a", 2, "z"), ("a", 3, "w")]


def test_it_is_streamed(database, monkeypatch):
    """One statement, batches bounded in rows and bytes, and a state that later writes do not change."""
    monkeypatch.setattr(module, "_FETCHED_ROWS", 10)
    monkeypatch.setattr(module, "_BATCH_ROWS", 50)
    monkeypatch.setattr(module, "_BATCH_BYTES", 100_000)
    rows = [(number, "x" * (1 if number < 100 else 9000)) for number in range(150)]
    table = database.table("r", ("review_id", sa.Integer()), ("text", sa.Text()), rows=rows)
    batches = database.source(table=table).batches()
    first = next(batches)
    if not database.is_sqlite:
        with database.engine.begin() as connection:
            connection.exec_driver_sql(f"delete from {quoted(database, table)}".replace("%", "%%"))
    sizes = [batch.num_rows for batch in [first, *batches]]
    assert sizes == [50, 50, 20, 20, 10]


def test_nothing_but_the_watermarks_from_a_time_on(database):
    """Where the database knows times; those without one are read every night."""
    times = [None, *(AT + timedelta(days=days) for days in (-9, -1, 0, 9))]
    for kind in (sa.DateTime(timezone=True), sa.DateTime(), sa.Date()):
        stored = [at and (at.isoformat() if database.is_sqlite else at.replace(tzinfo=None)) for at in times]
        rows = [(f"{number}", "t", at) for number, at in enumerate(stored)]
        columns = ("review_id", sa.Text()), ("text", sa.Text()), ("changed", kind)
        table = database.table(f"r{type(kind).__name__}{kind!r}"[:50], *columns, rows=rows)
        found = database.ids(AT - timedelta(hours=1), table=table, watermark_column="changed")
        late = ["3", "4"] if isinstance(kind, sa.Date) else ["2", "3", "4"]  # a time zone's distance is let pass
        assert found == (["0", "1", "2", "3", "4"] if database.is_sqlite else ["0", *late])


def test_the_name_is_that_of_the_place(database, monkeypatch, tmp_path):
    table = database.table("r", ("review_id", sa.Text()), ("text", sa.Text()))
    name = database.source(table=table).name
    assert name.endswith(f"#{table}")
    query = f"select * from {quoted(database, table)}"
    others = {database.source(query=query).name, database.source(query=f"{query} where 1 = 1").name}
    assert len({name, *others}) == 3
    if database.is_sqlite:
        monkeypatch.chdir(tmp_path)
        assert open_reviews(SourceSettings(uri="sqlite:///some [1]%20.db", table=table)).name == name
    else:
        other = sa.make_url(database.url).set(password=f"secret {table}").render_as_string(hide_password=False)
        for url in (other, other.replace("postgresql:", "postgresql+psycopg:")):
            assert open_reviews(SourceSettings(uri=url, table=table)).name == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"table": "nosuch"}, "no table or view 'nosuch'"),
        ({"table": "nosuch.r"}, "no table or view 'nosuch.r'"),
        ({"table": "r; drop table r"}, "no table or view 'r; drop table r'"),
        ({"query": "selec 1"}, "source.query failed: .*; expected one SELECT"),
        ({"query": "select * from nosuch"}, "source.query failed: .*nosuch"),
        ({"query": "select 1 as review_id, 2 as review_id, 'x' as text"}, "several columns review_id: name each"),
        ({"query": "select 'a' as review_id"}, r"lacks the column\(s\) text; it has the columns review_id; set"),
        ({"query": "select 'a' as review_id, 't' as text", "watermark_column": "at"}, r"lacks the column\(s\) at"),
        ({"query": "select 'a' as review_id, 't' as text", "columns": {"rating": "text)"}}, r"column\(s\) text\)"),
        ({"query": "delete from r"}, "expected one SELECT"),
        ({"query": "select 1) as reviews; drop table r; --"}, "expected one SELECT"),
        ({"query": "select 1) as reviews; commit; drop table r; --"}, "expected one SELECT"),
        ({"query": "with x as (delete from r returning *) select * from x"}, "expected one SELECT"),
        ({"query": "select * from r where review_id = :id"}, "expected one SELECT"),
    ],
)
def test_what_is_refused(database, settings, message):
    with database.engine.begin() as connection:
        connection.exec_driver_sql("drop table if exists r")
        connection.exec_driver_sql("create table r (review_id text, text text)")
        connection.exec_driver_sql("insert into r values ('a', 't')")
    with pytest.raises(UsageError, match=message) as caught:
        database.source(**settings)
    assert "\n" not in str(caught.value)
    assert database.ids(table="r") == ["a"]


def test_a_query_cannot_write(database):
    """Not even through a function, or by a copy into a file."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql("drop table if exists r")
        connection.exec_driver_sql("create table r (review_id text, text text)")
        if not database.is_sqlite:
            connection.exec_driver_sql(
                "create or replace function w() returns text language sql as 'insert into r values (''w'', ''t'') "
                "returning text'"
            )
    call = "w()" if not database.is_sqlite else "load_extension('made')"
    with pytest.raises((RunError, UsageError)):
        list(database.source(query=f"select 'a' as review_id, {call} as text").batches())
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("select count(*) from r").scalar() == 0


@pytest.mark.parametrize(
    ("name", "kind", "due"),
    [
        ("review_id", sa.Float(), "text or integers"),
        ("review_id", sa.Double(), "text or integers"),
        ("text", sa.Integer(), "text"),
        ("text", sa.DateTime(), "text"),
        ("created_at", sa.BigInteger(), "times"),
        ("rating", sa.Date(), "numbers"),
        ("deleted", sa.Time(), "true and false"),
    ],
)
def test_types_that_cannot_be_used(database, name, kind, due):
    columns = {"review_id": sa.Text(), "text": sa.Text(), name: kind}
    table = database.table("r", *columns.items())
    readings = (
        [{"table": table}] if database.is_sqlite else [{"table": table}, {"query": f"table {quoted(database, table)}"}]
    )
    for reading in readings:
        with pytest.raises(UsageError, match=f"{name} is .*: expected {due}"):
            database.source(**reading)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_types_of_postgresql(database):
    """Times out of Python's range, numerics of any size, uuids, enums, domains and bytes; all judged, none a crash."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql("drop table if exists r")
        connection.exec_driver_sql("drop domain if exists word; drop type if exists colour")
        connection.exec_driver_sql("create domain word as varchar(9); create type colour as enum ('red')")
        connection.exec_driver_sql(
            "create table r (review_id numeric, product_id uuid, text bytea, word word, colour colour, rating numeric, "
            "created_at timestamptz, updated_at date, deleted timestamp)"
        )
        values = [
            f"1, '{UUID(int=10)}', 'a', 'w', 'red', 4.5, '2026-11-01 10:20:30.125+00', '2026-11-01'",
            "2.5, null, 'b', 'w', 'red', 4, null, null",
            "1e99, null, '\\xff', 'w', 'red', 4, null, null",
            "4, null, 'd', 'w', 'red', 'nan', 'infinity', null",
            "5, null, 'e', 'w', 'red', 1, '20000-01-01', null",
            "6, null, 'f', 'w', 'red', 1, null, '0044-03-15 BC'",
            "7, null, 'g', 'w', 'red', 'nan', null, null",
        ]
        for row in values:
            connection.exec_driver_sql(f"insert into r values ({row}, null)".replace("%", "%%"))
        connection.exec_driver_sql("insert into r (review_id, deleted) values (8, 'infinity'), ('nan', null)")
    rows, rejected = database.checked(table="r")
    assert rows.select("review_id", "product_id", "text", "rating", "created_at", "updated_at", "deleted").rows() == [
        ("1", f"{UUID(int=10)}", "a", 4.5, AT, datetime(2026, 11, 1, tzinfo=UTC), False),
        ("7", None, "g", None, None, None, False),
    ]
    assert rejected.select("review_id", "reason").sort("review_id", nulls_last=True).rows() == [
        ("1" + "0" * 99, "invalid_utf8"), ("4", "wrong_type"), ("5", "wrong_type"), ("6", "wrong_type"),
        ("8", "wrong_type"), (None, "wrong_type"), (None, "wrong_type"),
    ]  # fmt: skip
    for text in ("word", "colour"):
        found = database.checked(table="r", columns={"text": text, "deleted": "updated_at"})[0]
        assert found.filter(pl.col("text").is_not_null())["text"].unique().to_list() == [
            database.checked(query=f"select review_id, {text} as text from r where review_id = 1")[0]["text"].item()
        ]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_sqlite_holds_anything_anywhere(database):
    values = [
        ("a", "text"), (7, "an integer id"), (b"c", b"bytes"), (2.5, "a float id"), (b"\xff", "no UTF-8"), ("f", 5),
        ("g", 1.5), ("h", b"\xc3"), (None, "no id"), ("i\0", "a NUL"), ("j", "x\0y"), (2**63 - 1, "large"),
    ]  # fmt: skip
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            "create table r (n integer primary key, review_id, text, rating, created_at, deleted)"
        )
        insert = "insert into r (review_id, text, rating, created_at, deleted) values (?, ?, ?, ?, ?)"
        connection.exec_driver_sql(insert, [(i, t, 1, "2026-11-01", 0) for i, t in values])
        connection.exec_driver_sql("insert into r (review_id, text) values ('k', cast(x'ff41' as text))")
        mixed = [
            ("l", 1.5, 5, "no"),
            ("m", "4", "x", 1),
            ("n", b"3", "2026-11-01 10:00", 1.0),
            ("o", "five", None, None),
        ]
        connection.exec_driver_sql(insert, [(i, "t", *rest) for i, *rest in mixed])
        connection.exec_driver_sql(insert, [("p", None, None, None, "true"), ("q", "t", None, None, "perhaps")])
    rows, rejected = database.checked(table="r")
    assert set(rows.select("review_id", "text", "rating", "deleted").rows()) == {
        ("a", "text", 1, False), ("7", "an integer id", 1, False), ("c", "bytes", 1, False), ("j", "x\0y", 1, False),
        (f"{2**63 - 1}", "large", 1, False), ("m", "t", 4, True), ("n", "t", 3, True),
        ("p", None, None, True),
    }  # fmt: skip
    assert set(rejected.select("review_id", "reason", "detail").rows()) == {
        (None, "wrong_type", "review_id is 2.5: expected text or integers"),
        (None, "invalid_utf8", 'review_id is not UTF-8: "\\\\xff"'),
        ("f", "wrong_type", "text is 5: expected text"), ("g", "wrong_type", "text is 1.5: expected text"),
        ("h", "invalid_utf8", 'text is not UTF-8: "\\\\xc3"'), (None, "null_id", "review_id is null"),
        ("i\\u0000", "bad_id", "review_id holds a NUL"), ("k", "invalid_utf8", 'text is not UTF-8: "\\\\xffA"'),
        ("l", "wrong_type", 'created_at is "5"'),
        ("o", "wrong_type", 'rating is "five"'), ("q", "wrong_type", 'deleted is "perhaps"'),
    }  # fmt: skip


def test_it_cannot_be_reached():
    with pytest.raises(RunError, match=r"the source postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/x failed") as caught:
        open_reviews(SourceSettings(uri="postgresql://me:secret@127.0.0.1:1/x", table="r"))
    assert "secret" not in str(caught.value)


def test_a_driver_that_is_not_there():
    with pytest.raises(UsageError, match=r"the driver of mysql.* is not installed"):
        open_reviews(SourceSettings(uri="mysql+pymysql://host/x", table="r"))


def test_dates_are_days(database):
    table = database.table("r", *TYPED[:2], ("created_at", sa.Date()), rows=[
        (1, "t", "2026-11-01" if database.is_sqlite else date(2026, 11, 1))])  # fmt: skip
    assert database.checked(table=table)[0]["created_at"].to_list() == [datetime(2026, 11, 1, tzinfo=UTC)]
