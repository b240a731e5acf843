import pytest

from tests.nightly.reviews import train_tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("models") / "tiny")
