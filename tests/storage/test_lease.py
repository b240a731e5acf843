import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from ecner.errors import LeaseError, TransientError
from ecner.storage import engine, lease
from ecner.storage.lease import Lease
from ecner.storage.process import this_process
from ecner.storage.warehouse import Warehouse

DAY = pl.DataFrame({"date": [date(2024, 1, 1)], "week_start": [date(2024, 1, 1)], "month_start": [date(2024, 1, 1)]})
HOLD = """
import sys, time
from ecner.errors import LeaseError
from ecner.storage.lease import Lease
from ecner.storage.warehouse import Warehouse
url, schema, holder, seconds = sys.argv[1:]
warehouse = Warehouse(url, schema or None)
print("ready", flush=True)
sys.stdin.readline()
try:
    with Lease(warehouse, holder, float(seconds)):
        print("held", flush=True)
        sys.stdin.readline()
except LeaseError as error:
    print("refused", error, flush=True)
"""


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)


@contextmanager
def process(place, holder, seconds=300):
    """Another run, which asks for the lease when it is sent a line, and leaves at the next one."""
    command = [sys.executable, "-c", HOLD, place[0], place[1] or "", holder, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as other:
        try:
            assert other.stdout.readline() == "ready\n"
            yield other
        finally:
            with suppress(ProcessLookupError):
                other.kill()


def tell(other) -> None:
    other.stdin.write("\n")


def row(warehouse) -> dict[str, object]:
    with warehouse.connect() as reader:
        return reader.read("leases").row(0, named=True)


def days(warehouse) -> int:
    with warehouse.connect() as reader:
        return reader.read("calendar").height


def set_row(warehouse, *, seconds=None, **values: object) -> None:
    """Changes the lease as another process would, whose time is over after ``seconds``."""
    with warehouse.begin() as transaction:
        if seconds is not None:
            values["expires_at"] = transaction.now() + timedelta(seconds=seconds)
        assert transaction.update("leases", {"name": "run"}, values) == 1


def elsewhere() -> str:
    return json.dumps({**json.loads(this_process()), "machine": "another one", "host": "other"})


def publish(warehouse, mine) -> None:
    with warehouse.begin() as transaction, mine.held(transaction):
        transaction.append("calendar", DAY)


def test_a_released_lease_is_there_for_the_next_run(warehouse):
    with Lease(warehouse, "first", 300) as first:
        assert (first.token, row(warehouse)["holder"]) == (1, "first")
    assert (row(warehouse)["holder"], row(warehouse)["process"]) == (None, None)
    with Lease(warehouse, "second", 300) as second:
        second.check()
        assert (second.token, second.is_lost) == (2, False)


def test_a_held_lease_is_refused_at_once_and_says_what_to_do(warehouse):
    with Lease(warehouse, "first", 300):
        message = rf"held by the run first \(process {os.getpid()} on .*\) until 2\d{{3}}-.* UTC.*run\.wait_seconds"
        with pytest.raises(LeaseError, match=message):
            Lease(warehouse, "second", 300).acquire()
        assert row(warehouse)["token"] == 1


def test_a_commit_whose_answer_was_lost_shuts_nobody_out(warehouse, monkeypatch):
    begin, answers = Warehouse.begin, iter([False])

    @contextmanager
    def unanswered(self):
        with begin(self) as transaction:
            yield transaction
        if not next(answers, True):
            raise TransientError("the connection was lost")

    monkeypatch.setattr(Warehouse, "begin", unanswered)
    with Lease(warehouse, "first", 300) as mine:
        publish(warehouse, mine)
    assert (mine.token, days(warehouse)) == (2, 1)


def test_of_processes_that_ask_at_once_one_wins(warehouse, place):
    with process(place, "a") as a, process(place, "b") as b:
        tell(a)
        tell(b)
        answers = [a.stdout.readline(), b.stdout.readline()]
        assert sorted(answer.split()[0] for answer in answers) == ["held", "refused"]
        winner = "a" if answers[0] == "held\n" else "b"
        assert f"held by the run {winner} " in "".join(answers)
        assert row(warehouse)["holder"] == winner


def test_a_killed_holder_of_this_machine_is_followed_at_once(warehouse, place):
    with process(place, "killed") as other:
        tell(other)
        assert other.stdout.readline() == "held\n"
        other.kill()  # and nobody waits for it: a zombie is dead too
        with Lease(warehouse, "next", 300, wait_seconds=20) as mine:
            assert mine.token == 2


def test_a_holder_of_another_machine_is_followed_after_its_time(warehouse):
    with Lease(warehouse, "first", 300):
        set_row(warehouse, holder="far", process=elsewhere(), seconds=1.5)
        start = time.monotonic()
        with pytest.raises(LeaseError, match=r"held by the run far \(process \d+ on other\)"):
            Lease(warehouse, "next", 300).acquire()
        with Lease(warehouse, "next", 300, wait_seconds=30) as mine:
            assert mine.token == 2
            assert 1 < time.monotonic() - start < 20


def test_a_run_that_waits_comes_when_the_other_leaves(warehouse, place):
    with process(place, "first") as other:
        tell(other)
        assert other.stdout.readline() == "held\n"
        threading.Timer(0.5, tell, [other]).start()
        with Lease(warehouse, "second", 300, wait_seconds=30) as mine:
            assert mine.token == 2


def test_signs_of_life_keep_a_short_lease(warehouse, place):
    with Lease(warehouse, "first", 1), process(place, "second") as other:
        time.sleep(3)
        tell(other)
        assert other.stdout.readline().startswith("refused")


def test_a_failing_warehouse_is_borne(warehouse, monkeypatch, caplog):
    begin, failures = Warehouse.begin, iter([True, True])

    @contextmanager
    def failing(self):
        if threading.current_thread() is not threading.main_thread() and next(failures, False):
            raise TransientError("gone for a moment")
        with begin(self) as transaction:
            yield transaction

    with Lease(warehouse, "first", 1) as mine:
        monkeypatch.setattr(Warehouse, "begin", failing)
        before = row(warehouse)["expires_at"]
        time.sleep(1.5)
        assert row(warehouse)["expires_at"] > before
        assert not mine.is_lost
    assert caplog.text.count("gone for a moment") == 2


def test_a_slow_transaction_does_not_lose_the_lease(warehouse, place, monkeypatch):
    # Signs of life that fail all the time: the transaction alone has to do.
    monkeypatch.setattr(Lease, "_stay", lambda _self: None)
    with Lease(warehouse, "first", 1) as mine, process(place, "second") as other:
        with warehouse.begin() as transaction, mine.held(transaction):
            transaction.append("calendar", DAY)
            time.sleep(1.2)
            tell(other)
            time.sleep(1)
        assert other.stdout.readline().startswith("refused")
        assert row(warehouse)["holder"] == "first"
    assert days(warehouse) == 1


def test_a_run_that_was_taken_over_publishes_nothing(warehouse):
    with Lease(warehouse, "first", 300) as mine:
        set_row(warehouse, holder="second", token=2)
        with pytest.raises(LeaseError, match=r"another run has taken over .*: this one, first, .*run again"):
            publish(warehouse, mine)
        assert mine.is_lost
        with pytest.raises(LeaseError):
            mine.check()
    assert (days(warehouse), row(warehouse)["holder"]) == (0, "second")


def test_a_lost_lease_is_noticed(warehouse):
    with Lease(warehouse, "first", 0.3) as mine:
        set_row(warehouse, holder="second", token=2)
        deadline = time.monotonic() + 10
        while not mine.is_lost and time.monotonic() < deadline:
            time.sleep(0.05)
        assert mine.is_lost


def test_a_lease_whose_time_is_over_still_publishes_while_nobody_took_it(warehouse):
    with Lease(warehouse, "first", 300) as mine:
        set_row(warehouse, seconds=-10)
        publish(warehouse, mine)
        assert row(warehouse)["expires_at"] > datetime.now(UTC) + timedelta(seconds=200)
    assert days(warehouse) == 1


def test_the_heartbeat_and_a_long_write_of_the_same_process_get_on(warehouse, monkeypatch):
    monkeypatch.setattr(engine, "_BUSY_SECONDS", 0.2)
    again = Warehouse(warehouse._url.render_as_string(hide_password=False), warehouse.schema)
    with Lease(again, "first", 0.6) as mine:
        with again.begin() as transaction:
            transaction.append("calendar", DAY)
            time.sleep(1.5)
        mine.check()
        with again.begin() as transaction, mine.held(transaction):
            transaction.delete_all("calendar")
            time.sleep(1)
        mine.check()
    assert row(warehouse)["holder"] is None


def test_leaving_hides_no_error(warehouse, monkeypatch, caplog):
    def leave():
        with Lease(warehouse, "first", 300) as mine:
            monkeypatch.setattr(mine, "_warehouse", Warehouse("sqlite:////nowhere/at/all.db"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    assert "could not be released" in caplog.text
