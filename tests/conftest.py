import tempfile
import warnings
from itertools import count
from pathlib import Path

import hypothesis
import pytest
import torch

from ecner.storage.warehouse import Warehouse
from tests.tiny import ARCHITECTURES, VOCABULARY, tiny

_numbers = count()

hypothesis.settings.register_profile("ecner", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("ecner")


@pytest.fixture(scope="session")
def postgresql_url():
    """A PostgreSQL server of its own, on a socket in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="ecner-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        with warnings.catch_warnings(action="ignore"):
            pgserver = pytest.importorskip("pgserver", reason="no pgserver wheel for this platform")
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        server.psql("alter system set fsync = off; alter system set synchronous_commit = off")
        server.psql("select pg_reload_conf()")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """URL and schema of a warehouse that is not there yet, on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new folder/warehouse.db", None
    return request.getfixturevalue("postgresql_url"), f'Night "{next(_numbers)}" 100%'


@pytest.fixture
def warehouse(place):
    made = Warehouse(*place)
    made.migrate()
    return made


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny models are slower on many threads, and a fixed number of them gives the same bits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def vocabulary():
    return VOCABULARY


@pytest.fixture(params=ARCHITECTURES)
def checkpoint(request):
    """A fresh tiny tagger of each architecture."""
    return tiny(request.param)
