"""What stands around a night breaks: a clear end, and a night after it that makes up for everything."""

import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import copy_files

from ecner import retry
from ecner.errors import RunError, TransientError
from ecner.nightly import run
from ecner.storage.transaction import Transaction
from tests.nightly.house import House
from tests.nightly.reviews import make_reviews, write
from tests.postgresql import running_server
from tests.s3 import BUCKET
from tests.tables import assert_equal_tables

BUT = ("extraction_runs", "drift_metrics")
ONE = {"shards": 1}  # the fewest requests


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """The sources of two nights."""
    folder, reviews = tmp_path_factory.mktemp("nights"), make_reviews(90)
    return write(folder / "first.parquet", reviews[:50]), write(folder / "second.parquet", reviews)


@pytest.fixture(scope="module")
def never(nights, tmp_path_factory, model):
    """The tables after two nights in which nothing broke."""
    house = House(tmp_path_factory.mktemp("never"), model)
    for source in nights:
        house.night(source)
    return house.tables()


@pytest.fixture(scope="module")
def server():
    """A server of this module's own, as it will be killed."""
    with running_server() as own:
        yield own


def at_append(patch: pytest.MonkeyPatch, number: int, happens) -> None:
    """Makes something happen at a call of Transaction.append within publish."""
    append, publish, calls = Transaction.append, run.publish, iter(range(1, 10**6))

    def trapped(*args: Any) -> None:
        if next(calls) == number:
            happens()
        append(*args)

    def publishing(*args: Any, **options: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Transaction, "append", trapped)
            publish(*args, **options)

    patch.setattr(run, "publish", publishing)


def test_the_database_server_is_killed_while_a_night_publishes(server, tmp_path, model, nights, never, monkeypatch):
    (tmp_path / "own").mkdir()
    house = House(tmp_path / "own", model, server.url(), server.new_schema())
    house.night(nights[0])
    before = house.tables()
    monkeypatch.setattr(run, "retried", partial(retry.retried, attempts=2, longest_seconds=0.1))
    with monkeypatch.context() as patch:
        at_append(patch, 4, server.kill)
        with pytest.raises(TransientError, match=r"the warehouse postgresql\+psycopg://.* failed: "):
            house.night(nights[1], run={"shards": 2, "lease_seconds": 1})
    server.start()
    assert_equal_tables(house.tables(), before)
    assert sorted(house.read("extraction_runs")["status"]) == ["running", "succeeded"]
    # the lease could not be released, and this process lives: it ends by its time
    house.night(nights[1], run={"shards": 2, "wait_seconds": 30})
    assert_equal_tables(house.tables(), never, but=BUT)
    assert sorted(house.read("extraction_runs")["status"]) == ["abandoned", "succeeded", "succeeded"]


@pytest.mark.slow
def test_a_server_that_comes_back_at_once_is_waited_for(server, tmp_path, model, nights, never, monkeypatch):
    (tmp_path / "own").mkdir()
    house = House(tmp_path / "own", model, server.url(), server.new_schema())
    house.night(nights[0])

    def restart():
        server.kill()
        server.start()

    with monkeypatch.context() as patch:
        at_append(patch, 4, restart)
        house.night(nights[1])
    assert_equal_tables(house.tables(), never, but=BUT)
    assert set(house.read("extraction_runs")["status"]) == {"succeeded"}


def test_everything_on_an_object_store_that_refuses_half_of_all_requests(houses, object_store, tmp_path, nights, never):
    """Source, lake and readings on s3://."""
    house = houses()
    for source in nights:
        folder = f"{BUCKET}/night/{source.stem}"
        copy_files(str(source), f"{folder}/part.parquet", destination_filesystem=object_store.files)
        lake = object_store.lake("lake", cache=tmp_path / "cache").model_dump()
        with object_store.refusing(0.5):
            house.night("", source={"uri": f"s3://{folder}", "endpoint": object_store.endpoint}, lake=lake, run=ONE)
        assert object_store.refused > 10
    assert_equal_tables(house.tables(), never, but=BUT)


@pytest.fixture
def disk(tmp_path):
    """A disk of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("only an administrator may mount a disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, left: int) -> Path:
    """Leaves so many bytes of room on a disk."""
    filler = folder / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(folder).free - left))
    return filler


@pytest.mark.parametrize("left", [0, 20_000, 90_000])
@pytest.mark.parametrize("full", ["lake", "warehouse"])
def test_a_full_disk(disk, tmp_path, model, nights, never, full, left):
    database = f"sqlite:///{disk if full == 'warehouse' else tmp_path}/w.db"
    lake = {"uri": str((disk if full == "lake" else tmp_path) / "lake")}
    house = House(tmp_path, model, database)
    house.night(nights[0], lake=lake)
    before = house.tables()
    filler = fill(disk, left)
    with pytest.raises(RunError, match=r"(?i)no space left|disk is full|disk I/O error; check the room") as error:
        house.night(nights[1], lake=lake)
    assert not isinstance(error.value, TransientError)
    filler.unlink()
    statuses = sorted(house.read("extraction_runs")["status"])
    if statuses == ["succeeded", "succeeded"]:  # the disk held the tables, but not the copies
        assert_equal_tables(house.tables(), never, but=BUT)
    else:
        assert_equal_tables(house.tables(), before, but=BUT)
    house.night(nights[1], lake=lake)
    assert_equal_tables(house.tables(), never, but=BUT)
    assert house.read("stale_copies").is_empty()
