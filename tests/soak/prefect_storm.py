"""Nights through Prefect, killed at random moments and run again: ``python -m tests.soak.prefect_storm``.

Before each round every review is edited, so that all of them are read and published anew. With Ray and Dask every other
kill takes a worker, the rest take the driver. Ends with status 1 where the tables differ from those of nights that
nobody killed, or where a process stays behind.
"""

# ruff: noqa: S311 - nothing here is secret
import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import chdir, suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import psutil

from ecner.config import load_settings
from ecner.nightly.run import prepare, run_night
from ecner.nightly.scope import Selection
from tests.commands import ROOT
from tests.flows.place import CONFIG, settle
from tests.nightly.reviews import make_reviews, train_tiny, write
from tests.tables import assert_equal_tables, read_tables

REVIEWS = 300
PATIENCE = 150  # seconds for what ends by itself: Ray's agents look after their node for about a minute
WORKERS = ("ray::IDLE", "ray::extract_shard", "spawn_main")
LEASE = {"shards": 4, "lease_seconds": 5, "wait_seconds": 120}


class Storm:
    """A folder of nights that are killed, beside one of nights that are not."""

    def __init__(self, folder: Path, runner: str, random: Random) -> None:
        self.folder, self.random = folder, random
        self.seen: set[psutil.Process] = set()
        self.seconds = 0.0
        model = {"ref": str(train_tiny(folder / "tiny")), "device": "cpu"}
        for name, run in (("killed", {"runner": runner, "workers": 2}), ("never", {})):
            (folder / name).mkdir()
            settle(folder / name, model=model, run=LEASE | run)

    def edit(self, number: int) -> None:
        """Gives the reviews other texts."""
        rows = make_reviews(REVIEWS, seed=number)
        later = [row | {"updated_at": row["updated_at"] + timedelta(days=30 * number)} for row in rows]
        for name in ("killed", "never"):
            write(self.folder / name / "reviews.parquet", later)

    def through(self) -> None:
        """Runs a night to its end."""
        began, night = time.monotonic(), self._start()
        while night.poll() is None:
            self._look(night)
            time.sleep(0.5)
        self.seconds = time.monotonic() - began
        if night.returncode:
            raise SystemExit((self.folder / "log").read_text("utf-8", "replace")[-5000:])

    def kill(self, *, worker: bool) -> tuple[bool, str]:
        """Starts a night and kills it, or one of its workers; whether it was still there, and how the night ended."""
        began, night = time.monotonic(), self._start()
        while worker and night.poll() is None and not any(self._workers(night)):
            time.sleep(0.05)
        time.sleep(self.random.uniform(0, 3) if worker else self.random.uniform(0.1, 1) * self.seconds)
        self._look(night)
        victims = [*self._workers(night)] if worker else []
        with suppress(psutil.NoSuchProcess):
            (self.random.choice(victims) if victims else night).kill()
        moment = time.monotonic() - began
        status = night.wait(600)
        told = f"{'worker' if victims else 'driver'} killed after {moment:.1f} s, the night ended with {status}"
        return bool(victims) or status == -signal.SIGKILL, told

    def difference(self) -> str | None:
        """How the tables differ from those of nights that nobody killed."""
        with chdir(self.folder / "never"):
            settings = load_settings(Path(CONFIG), {})
            run_night(prepare(settings, Selection()))
            never = read_tables(*settings.warehouse_at)
        with chdir(self.folder / "killed"):
            killed = read_tables(*load_settings(Path(CONFIG), {}).warehouse_at)
        try:
            assert_equal_tables(killed, never, but=("extraction_runs",))
        except AssertionError as error:
            return str(error)
        return None

    def left(self) -> list[psutil.Process]:
        """What is still there of all that the nights have started."""
        return psutil.wait_procs(self.seen, PATIENCE)[1]

    def _start(self) -> subprocess.Popen[bytes]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ECNER_"))}
        mine |= {"PREFECT_HOME": str(self.folder / "prefect"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "flows.extract", "--config", CONFIG]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder / "killed", env=mine, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _look(self, night: subprocess.Popen[bytes]) -> None:
        with suppress(psutil.NoSuchProcess):
            self.seen |= {*psutil.Process(night.pid).children(recursive=True)}

    def _workers(self, night: subprocess.Popen[bytes]) -> Iterator[psutil.Process]:
        self._look(night)
        for process in self.seen:
            with suppress(psutil.Error):
                if process.is_running() and any(name in " ".join(process.cmdline()) for name in WORKERS):
                    yield process


def main() -> int:
    """Runs the storm and says how it went."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--runner", choices=["local", "ray", "dask"], default="local")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    different = killed = number = 0
    with tempfile.TemporaryDirectory(prefix="storm-", ignore_cleanup_errors=True) as folder:
        storm = Storm(Path(folder), given.runner, Random(given.seed))
        storm.edit(0)
        storm.through()
        storm.difference()
        while killed < given.kills:
            number += 1
            storm.edit(number)
            hit, told = storm.kill(worker=given.runner != "local" and number % 2 == 0)
            killed += hit
            storm.through()
            difference = storm.difference()
            different += difference is not None
            print(f"night {number}: {told}; rerun in {storm.seconds:.0f} s: {difference or 'equal tables'}", flush=True)
        left = storm.left()
    print(f"{killed} kills on {given.runner}: {different} differing tables, {len(left)} processes left {left or ''}")
    return 1 if different or left else 0


if __name__ == "__main__":
    sys.exit(main())
