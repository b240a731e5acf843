"""A kill storm: night after night killed by SIGKILL at a random moment, run again, and held against one that was not.

    python -m tests.soak.storm [--kills 100] [--database sqlite|postgresql] [--seed N]

Each night brings edited, moved, deleted and returning reviews into a warehouse that has seen all the nights before;
the victim is the driver or the process that reads for it. Whatever the moment, the night after the kill must leave
tables equal to those of a warehouse where nothing was ever killed. Exits with 1 if any table differs.
"""

# ruff: noqa: S311 - nothing here is secret
import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from tests.nightly.copied import assert_copied
from tests.nightly.house import House
from tests.nightly.killing import Forks, forking
from tests.nightly.reviews import make_reviews, train_tiny, write
from tests.postgresql import running_server
from tests.tables import assert_equal_tables

REVIEWS = 150
BUT = ("extraction_runs", "drift_metrics")  # which hold what was tried
DATABASES = ("sqlite", "postgresql")


def main() -> None:
    """Runs the storm on the databases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--database", choices=DATABASES, action="append")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    differing = 0
    for database in options.database or DATABASES:
        with tempfile.TemporaryDirectory() as folder, forking() as fork:
            differing += storm(Path(folder), database, fork, kills=options.kills, random=Random(options.seed))
    sys.exit(bool(differing))


def storm(folder: Path, database: str, fork: Forks, *, kills: int, random: Random) -> int:
    """Kills so many nights on a database; returns the number of nights that left differing tables."""
    model = train_tiny(folder / "tiny")
    with houses(folder, model, database) as (stormy, calm):
        reviews = make_reviews(REVIEWS, random.randrange(999))
        seconds, killed, differing, night = 1.0, Counter[str](), 0, 0
        while sum(killed.values()) < kills:
            night += 1
            source = write(folder / "source.parquet", next_state(reviews, random))
            began = time.perf_counter()
            assert fork(calm, source) == 0, (calm.folder / "night.log").read_text()
            seconds = 0.5 * seconds + 0.5 * (time.perf_counter() - began)
            victim, moment = random.choice(["driver", "worker"]), random.uniform(0, 1.2 * seconds)
            status = fork(stormy, source, seconds=moment, victim=victim)
            if status == -signal.SIGKILL:
                killed["driver"] += 1
            elif status != 0:
                assert is_lost_worker(stormy), (stormy.folder / "night.log").read_text()
                killed["worker"] += 1
            assert fork(stormy, source) == 0, (stormy.folder / "night.log").read_text()
            differing += not is_equal(stormy, calm, f"{database}, night {night}, {victim} after {moment:.2f} s")
        statuses = Counter(stormy.read("extraction_runs")["status"])
        print(
            f"{database}: {night} nights, {killed['driver']} drivers and {killed['worker']} workers killed, "
            f"ledger {dict(statuses)}, {differing} with differing tables",
            flush=True,
        )
    return differing


def is_equal(stormy: House, calm: House, what: str) -> bool:
    """Whether two warehouses hold the same, and the lake of the first what its tables do."""
    try:
        assert_equal_tables(stormy.tables(), calm.tables(), but=BUT)
        assert_copied(stormy)
    except AssertionError as error:
        print(f"FAIL {what}: {error}", flush=True)
        return False
    return "running" not in set(stormy.read("extraction_runs")["status"])


def is_lost_worker(house: House) -> bool:
    """Whether the last run failed as the process that read for it was gone."""
    run = house.read("extraction_runs").sort("started_at").row(-1, named=True)
    return (run["status"], run["error"]) == ("failed", "the worker was lost")


def next_state(reviews: list[dict[str, Any]], random: Random) -> list[dict[str, Any]]:
    """Changes some reviews in place, as a night later; each change is newer than what was there."""
    others = make_reviews(len(reviews), random.randrange(999))
    for review, other in zip(reviews, others, strict=True):
        if random.random() < 0.25:
            review |= {name: other[name] for name in ("text", "rating", "created_at") if random.random() < 0.5}
            review |= {
                "deleted": random.random() < 0.2,
                "updated_at": review["updated_at"] + timedelta(hours=1),
            }
        review.setdefault("deleted", False)
    return [review for review in reviews if random.random() < 0.9]


@contextmanager
def houses(folder: Path, model: Path, database: str) -> Iterator[tuple[House, House]]:
    """A house for the storm, and one that is spared."""
    for name in ("stormy", "calm"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    if database == "sqlite":
        yield House(folder / "stormy", model), House(folder / "calm", model)
        return
    with running_server() as server:
        stormy, calm = (House(folder / name, model, server.url(), server.new_schema()) for name in ("stormy", "calm"))
        yield stormy, calm


if __name__ == "__main__":
    main()
