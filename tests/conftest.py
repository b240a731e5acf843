from itertools import count

import hypothesis
import pytest
import torch

from ecner.storage.warehouse import Warehouse
from tests.tiny import ARCHITECTURES, VOCABULARY, tiny

pytest_plugins = ["tests.postgresql", "tests.s3"]

hypothesis.settings.register_profile("ecner", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("ecner")


@pytest.fixture
def new_place(request, tmp_path):
    """URL and schema of a warehouse that is not there yet, on a database that is named."""

    numbers = count(1)

    def make(database):
        if database == "sqlite":
            return f"sqlite:///{tmp_path}/new folder {next(numbers)}/warehouse.db", None
        server = request.getfixturevalue("postgresql_server")
        return server.url(), server.new_schema()

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, new_place):
    """URL and schema of a warehouse that is not there yet, on each database."""
    return new_place(request.param)


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
