"""A night that is killed at any point and started again ends as one that never was."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from random import Random

import pytest
import yaml

from tests.nightly.house import House
from tests.nightly.killing import READ_LOG, forking
from tests.nightly.reviews import bad_rows, make_reviews, write
from tests.tables import assert_equal_tables

BEFORE_THE_COMMIT = [
    ("ledger", 1), ("plan", 9), ("shard", 2), ("half a shard", 1), ("publish", 9), ("commit", 1),
    *(pytest.param(*point, marks=pytest.mark.slow) for point in (
        ("plan", 2), ("planned", 1), ("half a shard", 2), ("extracted", 1), ("publish", 1), ("deletion", 1),
    )),
]  # fmt: skip


def changed(reviews):
    """The same reviews a night later: some edited, some on another day."""
    random, later = Random(5), []  # noqa: S311
    for review, other in zip(reviews, make_reviews(len(reviews), seed=1), strict=True):
        taken = {name: other[name] for name in ("text", "rating", "created_at") if random.random() < 0.2}
        later.append(review | taken | {"updated_at": review["updated_at"] + timedelta(hours=1)})
    return later


@pytest.fixture(scope="module")
def nights(tmp_path_factory, model):
    """Two nights of some 200 reviews: what is before the second, its source, and what it ends with."""
    folder = tmp_path_factory.mktemp("nights")
    reviews = make_reviews(200)
    House(folder / "before", model).folder.mkdir()
    before = House(folder / "before", model)
    before.night(write(folder / "first.parquet", reviews[:120]))
    source = write(folder / "second.parquet", changed(reviews) + bad_rows())
    never = House(shutil.copytree(before.folder, folder / "never"), model)
    started = time.perf_counter()
    never.night(source)
    return before, source, never.tables(), time.perf_counter() - started


@pytest.fixture(scope="module")
def forks():
    with forking() as run:
        yield run


@pytest.fixture
def house(nights, tmp_path):
    """A copy of the house before the second night."""
    before, *_ = nights
    return House(shutil.copytree(before.folder, tmp_path / "house"), before.model)


def times_read(house):
    log = house.folder / READ_LOG
    return Counter(json.loads(line) for line in log.read_text().splitlines()) if log.exists() else Counter()


def statuses(house):
    return sorted(house.read("extraction_runs")["status"])


@pytest.mark.parametrize(("point", "count"), BEFORE_THE_COMMIT)
def test_before_the_commit(nights, house, forks, point, count):
    _, source, never, _ = nights
    before = house.tables()
    assert forks(house, source, point=point, count=count) == -signal.SIGKILL
    assert_equal_tables(house.tables(), before)
    assert statuses(house) == ["running", "succeeded"]
    assert forks(house, source) == 0, (house.folder / "night.log").read_text()
    assert_equal_tables(house.tables(), never)
    assert statuses(house) == ["abandoned", "succeeded", "succeeded"]
    read = times_read(house)
    assert len(read) > 50
    twice = {text for text, times in read.items() if times > 1}
    if point == "half a shard":  # the shard whose reading was lost, and no other
        assert 0 < len(twice) < len(read)
    else:
        assert not twice


@pytest.mark.parametrize("point", ["committed", "report"])
def test_behind_the_commit(nights, house, forks, point):
    _, source, never, _ = nights
    assert forks(house, source, point=point) == -signal.SIGKILL
    assert_equal_tables(house.tables(), never)
    assert forks(house, source) == 0
    assert_equal_tables(house.tables(), never, but=("extraction_runs",))
    assert statuses(house) == ["succeeded"] * 3
    assert max(times_read(house).values()) == 1


def test_while_the_tables_are_made(nights, forks, tmp_path):
    before, source, *_ = nights
    house, never = House(tmp_path / "house", before.model), House(tmp_path / "never", before.model)
    for each in (house, never):
        each.folder.mkdir()
    assert forks(house, source, point="migration") == -signal.SIGKILL
    assert forks(house, source) == forks(never, source) == 0
    assert_equal_tables(house.tables(), never.tables())


def killed_at(nights, house, forks, moments):
    """Kills a night after each of some shares of the time that it takes; then lets it through."""
    _, source, never, seconds = nights
    for moment in moments:
        assert forks(house, source, seconds=moment * seconds) in {0, -signal.SIGKILL}
    assert forks(house, source) == 0
    assert_equal_tables(house.tables(), never, but=("extraction_runs",))
    assert set(statuses(house)) <= {"abandoned", "succeeded"}


def test_at_any_moment(nights, house, forks):
    random = Random()  # noqa: S311
    moments = [random.uniform(0, 1.5) for _ in range(4)]
    print(moments)
    killed_at(nights, house, forks, moments)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_at_many_moments(nights, house, forks, seed):
    random = Random(seed)  # noqa: S311
    killed_at(nights, house, forks, [random.uniform(0, 2) for _ in range(random.randint(1, 5))])


@pytest.mark.slow
@pytest.mark.parametrize("count", range(1, 60, 2))
@pytest.mark.parametrize("point", ["plan", "publish", "deletion"])
def test_at_many_points(nights, house, forks, point, count):
    _, source, never, _ = nights
    assert forks(house, source, point=point, count=count) in {0, -signal.SIGKILL}
    assert forks(house, source) == 0
    assert_equal_tables(house.tables(), never, but=("extraction_runs",))


@pytest.mark.slow
def test_the_command(nights, house):
    """The command itself, killed from outside."""
    _, source, never, _ = nights
    config = house.folder / "night.yaml"
    config.write_text(yaml.safe_dump({
        "source": {"uri": str(source)}, "warehouse": {"url": house.url}, "lake": {"uri": str(house.folder / "lake")},
        "model": {"ref": str(house.model), "device": "cpu"},
    }))  # fmt: skip
    command = [sys.executable, "-m", "ecner.cli", "extract", "--config", str(config)]
    started = time.perf_counter()
    subprocess.run([*command, "--help"], check=True, capture_output=True)
    loaded = time.perf_counter() - started
    for share in (1, 2, 2.5, 3, 3.5, 4, 5):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(share * loaded)
            process.kill()
    subprocess.run(command, check=True, capture_output=True)
    assert_equal_tables(house.tables(), never, but=("extraction_runs",))
