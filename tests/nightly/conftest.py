import pytest

from tests.nightly.house import House
from tests.nightly.reviews import bad_rows, make_reviews, train_tiny, write


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def other_model(tmp_path_factory):
    return train_tiny(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture
def houses(tmp_path, model):
    """Makes houses where no night has been yet."""
    made = []

    def make():
        made.append(House(tmp_path / f"house [{len(made)}] of=all", model))
        made[-1].folder.mkdir()
        return made[-1]

    return make


@pytest.fixture
def house(houses):
    return houses()


@pytest.fixture(scope="session")
def rows():
    """A night's rows, some of them bad."""
    return make_reviews(90) + bad_rows()


@pytest.fixture(scope="session")
def source(tmp_path_factory, rows):
    return write(tmp_path_factory.mktemp("source") / "reviews.parquet", rows)
