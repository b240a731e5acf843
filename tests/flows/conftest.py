from contextlib import chdir

import pytest

from ecner.nightly.run import prepare, run_night
from ecner.nightly.scope import Selection
from tests.flows.nights import settled
from tests.flows.server import serve
from tests.nightly.reviews import train_tiny
from tests.tables import read_tables


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, and another for Prefect."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return tmp_path / "work"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def never(tmp_path_factory, model):
    """The tables of a night without Prefect, during which nobody died."""
    folder = tmp_path_factory.mktemp("never")
    with chdir(folder):
        settings = settled(folder, model, shards=4)
        run_night(prepare(settings, Selection()))
        return read_tables(*settings.warehouse_at)
