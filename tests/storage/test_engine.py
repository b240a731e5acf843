"""Which failures of a database are worth another try, on real databases that fail."""

import sqlite3
import threading
from datetime import date

import polars as pl
import pytest
import sqlalchemy as sa

from ecner.errors import RunError, TransientError
from ecner.retry import retried
from ecner.storage import engine
from ecner.storage.engine import explained, parse_url
from ecner.storage.warehouse import Warehouse
from tests.postgresql import JOB, running_server

DAYS = pl.DataFrame({"date": [date(2024, 1, 1), date(2024, 1, 2)]}).with_columns(week_start="date", month_start="date")


@pytest.fixture(scope="module")
def mortal():
    """A server that a test may kill."""
    with running_server() as server:
        yield server


def at(server) -> Warehouse:
    made = Warehouse(server.url(), server.new_schema())
    made.migrate()
    return made


def rows(warehouse) -> int:
    with warehouse.connect() as reader:
        return reader.read("calendar").height


def test_a_server_that_is_killed_in_a_transaction(mortal):
    warehouse, errors = at(mortal), []

    def publish():
        with warehouse.begin() as transaction:
            transaction.append("calendar", DAYS)
            if not errors:
                mortal.kill()
            transaction.append("stale_copies", DAYS.select(review_date="date"))

    def attempt():
        try:
            publish()
        except TransientError as error:
            errors.append(str(error))
            if len(errors) == 2:  # the first time the transaction is cut off, the second nobody answers
                mortal.start()
            raise

    retried(attempt, longest_seconds=0.1)
    assert len(errors) == 2
    assert "check its URL and that the server is running" in errors[1]
    assert rows(warehouse) == 2


def test_a_connection_that_is_cut_while_rows_are_read_and_copied(mortal):
    warehouse = at(mortal)

    def cut(transaction):
        ours = transaction.connection.scalar(sa.select(sa.func.pg_backend_pid()))
        address = mortal.admin.set(drivername="postgresql+psycopg")
        with engine.open_engine(address).begin() as connection:
            connection.execute(sa.select(sa.func.pg_terminate_backend(ours, 5000)))

    def use(work):
        with warehouse.begin() as transaction:
            cut(transaction)
            work(transaction)

    for work in (
        lambda t: t.append("calendar", DAYS),
        lambda t: t.read("calendar"),
        lambda t: t.delete_all("calendar"),
    ):
        with pytest.raises(TransientError, match="terminating connection"):
            use(work)
    assert rows(warehouse) == 0


def test_a_lock_that_is_not_given(mortal, monkeypatch):
    monkeypatch.setattr(engine, "_BUSY_SECONDS", 0.2)
    warehouse = at(mortal)
    with warehouse.begin() as first:
        first.append("calendar", DAYS)
        message = "lock timeout; another process is writing"
        with pytest.raises(TransientError, match=message), warehouse.begin() as second:
            second.append("calendar", DAYS)
    assert rows(warehouse) == 2


def test_a_deadlock(mortal):
    warehouse, errors = at(mortal), []
    with warehouse.begin() as transaction:
        transaction.append("calendar", DAYS)
    both = threading.Barrier(2)

    def write(order):
        try:
            with warehouse.begin() as transaction:
                for step, day in enumerate(order):
                    transaction.update("calendar", {"date": day}, {"week_start": day})
                    if step == 0:
                        both.wait(10)
        except TransientError as error:
            errors.append(str(error))

    days = DAYS["date"].to_list()
    threads = [threading.Thread(target=write, args=[order]) for order in (days, days[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert "deadlock" in errors[0]


def test_no_more_connections(mortal):
    warehouse = at(mortal)
    admin = mortal.admin.set(drivername="postgresql+psycopg")
    with engine.open_engine(admin).connect() as connection:
        quoted = connection.dialect.identifier_preparer.quote(JOB)
        connection.exec_driver_sql(f"alter role {quoted} connection limit 0")
        connection.commit()
        try:
            with pytest.raises(TransientError, match="too many connections"):
                rows(warehouse)
        finally:
            connection.exec_driver_sql(f"alter role {quoted} connection limit -1")
            connection.commit()
    assert rows(warehouse) == 0


@pytest.mark.parametrize(
    ("user", "database", "message"), [("nobody", "postgres", "role .*nobody"), (JOB, "nothing", "database .*nothing")]
)
def test_what_a_second_try_does_not_mend(mortal, user, database, message):
    with pytest.raises(RunError, match=message) as caught:
        Warehouse(mortal.url(user, database)).migrate()
    assert not isinstance(caught.value, TransientError)


def test_a_statement_that_is_wrong_is_for_good(warehouse):
    with pytest.raises(RunError, match="nowhere") as caught, warehouse.connect() as reader:
        reader.connection.exec_driver_sql("select * from nowhere")
    assert not isinstance(caught.value, TransientError)


def test_a_full_disk_is_for_good(tmp_path):
    warehouse = Warehouse(f"sqlite:///{tmp_path}/warehouse.db")
    warehouse.migrate()
    many = pl.DataFrame({"date": pl.date_range(date(1000, 1, 1), date(1100, 1, 1), eager=True)})

    def fill():
        with warehouse.begin() as transaction:
            transaction.connection.exec_driver_sql("pragma max_page_count = 1")
            transaction.append("calendar", many.with_columns(week_start="date", month_start="date"))

    with pytest.raises(RunError, match="is full; make room") as caught:
        fill()
    assert not isinstance(caught.value, TransientError)
    assert rows(warehouse) == 0


@pytest.mark.parametrize(
    ("state", "passes"),
    [("08006", True), ("40001", True), ("40P01", True), ("53200", True), ("53300", True), ("53100", False),
     ("55P03", True), ("57P01", True), ("57P02", True), ("57P03", True), ("57P04", False), ("57014", False),
     ("42501", False), ("23505", False), ("22P02", False)],
)  # fmt: skip
def test_states_of_postgresql(state, passes):
    psycopg = pytest.importorskip("psycopg")
    with pytest.raises(RunError) as caught, explained(parse_url("postgresql://host/db", None)):
        raise sa.exc.OperationalError("select 1", None, psycopg.errors.lookup(state)("no"))
    assert isinstance(caught.value, TransientError) == passes


def test_a_locked_file_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_BUSY_SECONDS", 0.1)
    warehouse = Warehouse(f"sqlite:///{tmp_path}/warehouse.db")
    warehouse.migrate()
    other = sqlite3.connect(tmp_path / "warehouse.db", isolation_level=None)
    other.execute("begin immediate")

    def write():
        with warehouse.begin() as transaction:
            transaction.append("calendar", DAYS)

    with pytest.raises(TransientError, match="database is locked; another process is writing"):
        write()
    other.execute("rollback")
    other.close()
    retried(write)
    assert rows(warehouse) == 2


def test_the_server_is_asked_for_signs_of_life(mortal):
    warehouse = at(mortal)
    with warehouse.connect() as reader:
        parameters = reader.connection.connection.driver_connection.info.get_parameters()
        assert (parameters["keepalives_idle"], parameters["tcp_user_timeout"]) == ("30", "90000")
        assert reader.connection.scalar(sa.text("show lock_timeout")) == "2min"
    named = mortal.url() + "&keepalives_idle=7"
    with Warehouse(named, warehouse.schema).connect() as reader:
        assert reader.connection.connection.driver_connection.info.get_parameters()["keepalives_idle"] == "7"
