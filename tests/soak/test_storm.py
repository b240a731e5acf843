from random import Random

import pytest

from tests.nightly.killing import forking
from tests.soak.storm import storm


@pytest.mark.parametrize("database", [pytest.param("sqlite", marks=pytest.mark.slow), "postgresql"])
def test_a_short_storm(tmp_path, database):
    with forking() as fork:
        assert storm(tmp_path, database, fork, kills=1, random=Random()) == 0  # noqa: S311
