"""The grid of runners, databases and shards, nights on clusters that are there already, and nights that fail."""

import socket
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.flows.nights import MARK, night, settled
from tests.flows.place import CONFIG
from tests.flows.server import wait
from tests.tables import assert_equal_tables

pytestmark = pytest.mark.slow
LEDGER = ("extraction_runs",)  # names the source, which lies in another folder
TOKEN = "0123456789abcdef" * 4


@pytest.fixture
def place_of_nights(server, model, never):
    return server, model, never


@pytest.mark.parametrize("shards", [1, 16])
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("runner", ["local", "ray", "dask"])
def test_every_runner_on_every_database(runner, database, shards, new_place, place_of_nights, tmp_path):
    server, model, never = place_of_nights
    settled(tmp_path, model, shards=shards, runner=runner)
    url, schema = new_place(database)
    variables = {"ECNER_WAREHOUSE__URL": url} | ({"ECNER_WAREHOUSE__SCHEMA": schema} if schema else {})
    assert_equal_tables(night(tmp_path, server, "--config", CONFIG, **variables).tables(), never, but=LEDGER)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def listens(port):
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


def test_a_dask_cluster_by_its_address(server, model, never, tmp_path):
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    settled(tmp_path, model, shards=4, runner="dask")
    with server.process("-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"):
        wait(lambda: listens(port))
        with server.process("-m", "dask", "worker", address, "--nthreads", "1", "--nworkers", "2"):
            done = on_cluster(tmp_path, server, address)
    assert_equal_tables(done.tables(), never, but=LEDGER)


def test_a_ray_cluster_by_its_address(server, model, never, tmp_path, monkeypatch):
    monkeypatch.setitem(server.environment, "RAY_AUTH_MODE", "token")
    monkeypatch.setitem(server.environment, "RAY_AUTH_TOKEN", TOKEN)
    settled(tmp_path, model, shards=4, runner="ray")
    head = [
        *("-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", free_port(), "--num-cpus", "2"),
        *("--ray-client-server-port", port := 10001, "--include-dashboard", "false", "--disable-usage-stats"),
    ]
    with server.process(*head):
        wait(lambda: listens(port))
        done = on_cluster(tmp_path, server, f"ray://127.0.0.1:{port}")
    assert_equal_tables(done.tables(), never, but=LEDGER)


def on_cluster(folder: Path, server, address):
    """A night whose workers run in another folder than it does."""
    return night(folder, server, "--config", CONFIG, ECNER_RUN__ADDRESS=address, ECNER_LAKE__URI=str(folder / "shared"))


def test_a_night_that_fails_tells_no_secret(postgresql_server, server, model, tmp_path):
    """The warehouse is there when the night is prepared, and has no schema when it begins."""
    url = make_url(postgresql_server.url()).set(password=f"{MARK}-pg").render_as_string(hide_password=False)
    settled(tmp_path, model, shards=1)
    variables = {"PREFECT_LOGGING_LEVEL": "DEBUG", "ECNER_WAREHOUSE__URL": url, "ECNER_WAREHOUSE__SCHEMA": "nosuch"}
    done = night(tmp_path, server, "--config", CONFIG, "--debug", **variables)
    assert done.status == 1
    assert "Traceback" in done.told
    assert MARK not in done.told
    home = server.folder.parent / "home"
    assert (home / "prefect.db").exists()
    assert not [path for path in home.rglob("*") if path.is_file() and MARK.encode() in path.read_bytes()]
