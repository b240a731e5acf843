"""Nights on Ray and Dask: equal tables though a worker is lost on the way, and nothing told that is secret."""

import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from sqlalchemy import create_engine, make_url

from ecner.config import Settings
from ecner.errors import UsageError
from tests.flows.dying import READ_LOG
from tests.flows.nights import MARK, night, settled
from tests.flows.place import CONFIG
from tests.tables import assert_equal_tables

LEDGER = ("extraction_runs",)  # names the source, which lies in another folder


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory, server, model, postgresql_server):
    """From PostgreSQL to PostgreSQL, telling all that can be told, and the folder that Ray writes to."""
    folder = tmp_path_factory.mktemp("ray")
    settled(folder, model, shards=4, runner="ray", workers=2)
    url = make_url(postgresql_server.url()).set(password=f"{MARK}-pg").render_as_string(hide_password=False)
    fill(postgresql_server, pl.read_parquet(folder / "reviews.parquet"))
    with tempfile.TemporaryDirectory(prefix="ray-") as logs:  # Ray's sockets need a short path
        done = night(
            folder,
            server,
            CONFIG,
            module="tests.flows.dying",
            ECNER_SOURCE__URI=url,
            ECNER_SOURCE__TABLE="raw",
            ECNER_WAREHOUSE__URL=url,
            ECNER_WAREHOUSE__SCHEMA=postgresql_server.new_schema(),
            AWS_SECRET_ACCESS_KEY=f"{MARK}-aws",
            RAY_AUTH_TOKEN=f"{MARK}-token".ljust(64, "0"),
            RAY_TMPDIR=logs,
            PREFECT_LOGGING_LEVEL="DEBUG",
            PREFECT_LOGGING_ROOT_LEVEL="DEBUG",
        )
        yield done, Path(logs)


def fill(server, reviews):
    """Makes a table of the reviews, which everybody may read."""
    types = {pl.Float64: "double precision", pl.Datetime: "timestamptz"}
    columns = ", ".join(f"{name} {types.get(type(dtype), 'text')}" for name, dtype in reviews.schema.items())
    values = ", ".join(f"%({name})s" for name in reviews.columns)
    engine = create_engine(server.admin.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create table raw ({columns})")
        connection.exec_driver_sql(f"insert into raw values ({values})", reviews.to_dicts())  # noqa: S608
        connection.exec_driver_sql("grant select on raw to public")
    engine.dispose()


@pytest.fixture(scope="module")
def on_dask(tmp_path_factory, server, model):
    """On SQLite."""
    folder = tmp_path_factory.mktemp("dask")
    settled(folder, model, shards=4, runner="dask", workers=2)
    return night(folder, server, CONFIG, module="tests.flows.dying")


def test_tables_on_ray_and_postgresql_are_those_of_a_plain_night(on_ray, never):
    assert_equal_tables(on_ray[0].tables(), never, but=LEDGER)


def test_tables_on_dask_are_those_of_a_plain_night(on_dask, never):
    assert_equal_tables(on_dask.tables(), never, but=LEDGER)


@pytest.mark.parametrize("engine", ["on_ray", "on_dask"])
def test_the_shard_of_a_lost_worker_is_read_again_and_no_other(engine, request):
    done = request.getfixturevalue(engine)
    folder = (done[0] if engine == "on_ray" else done).folder
    times = Counter((folder / READ_LOG).read_text().splitlines())
    assert sorted(times.values()) == [1, 1, 1, 2]


def test_nothing_tells_a_secret(on_ray, server):
    done, logs = on_ray
    home = server.folder.parent / "home"
    assert "DEBUG" in done.told
    assert len(list(logs.rglob("*.log"))) > 5
    assert (home / "prefect.db").exists()
    assert MARK not in done.told
    assert not [path for place in (home, logs, done.folder, server.folder) for path in holding(MARK, place)]


def holding(mark: str, folder: Path) -> list[Path]:
    """Files in which some bytes are found."""
    return [path for path in folder.rglob("*") if path.is_file() and mark.encode() in path.read_bytes()]


def test_a_night_without_shards_needs_no_cluster(monkeypatch, here):
    from flows import extract  # noqa: PLC0415 - Prefect looks for its home when it is imported

    monkeypatch.setattr(extract, "open_runner", lambda *_: pytest.fail("a cluster was made"))
    assert extract.read_shards(SimpleNamespace(), SimpleNamespace(shards=())) == []


@pytest.mark.parametrize(
    ("run", "lake", "message"),
    [
        ({"runner": "ray", "address": "ray://head:10001"}, "/shared", "set PREFECT_API_URL"),
        ({"runner": "dask", "address": "head:8786"}, "/shared", "set PREFECT_API_URL"),
        ({"runner": "dask", "address": "tcp://127.0.0.1:8786"}, "lake", "the absolute path of a folder"),
    ],
)
def test_a_cluster_that_could_not_work_is_refused(run, lake, message, here):
    from flows.runners import check_runner  # noqa: PLC0415 - as above

    with pytest.raises(UsageError, match=message):
        check_runner(Settings.model_validate({"run": run, "lake": {"uri": lake}}))


def test_a_runner_that_is_not_installed_is_named_with_its_extra(monkeypatch, here):
    from flows import runners  # noqa: PLC0415 - as above

    monkeypatch.setattr(runners, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'ecner\[ray\]'"):
        runners.check_runner(Settings.model_validate({"run": {"runner": "ray"}}))


@pytest.mark.parametrize(
    ("nodes", "shards", "workers", "gpu", "share"),
    [
        ([{"CPU": 8}], 16, None, False, (1, 0)),
        ([{"CPU": 8}], 2, None, False, (4, 0)),
        ([{"CPU": 8}], 16, 3, False, (2, 0)),
        ([{"CPU": 8}, {"CPU": 4}], 1, None, False, (4, 0)),  # what no node has would never be given
        ([{"CPU": 2}], 16, 4, False, (1, 0)),
        ([{"CPU": 32, "GPU": 4}, {"CPU": 8}], 16, None, True, (8, 1)),
        ([{"CPU": 2, "GPU": 4}], 16, None, True, (1, 1)),
        ([{"CPU": 32, "GPU": 4}], 4, None, False, (8, 0)),
        ([{"CPU": 32, "GPU": 4}, {"memory": 1.0}], 4, None, True, (8, 1)),
    ],
)
def test_a_worker_has_its_share_of_the_cluster(nodes, shards, workers, gpu, share, here):
    from flows.runners import worker_share  # noqa: PLC0415 - as above

    assert tuple(worker_share(nodes, shards, workers, gpu=gpu).values()) == share


def test_dask_workers_of_several_threads_are_refused(here):
    from flows.runners import check_threads  # noqa: PLC0415 - as above

    check_threads({"tcp://a": {"nthreads": 1}})
    with pytest.raises(UsageError, match="--nthreads 1"):
        check_threads({"tcp://a": {"nthreads": 1}, "tcp://b": {"nthreads": 8}})
