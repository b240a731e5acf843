"""A retrain that is killed, wherever that is, goes on when it is run again, and enters one version."""

import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import torch

from ecner import registry
from ecner.config import Settings
from ecner.retraining import run, train
from ecner.retraining.run import prepare, run_retrain
from ecner.storage.transaction import Transaction
from ecner.training import run as training
from ecner.training.run import CURVE
from ecner.training.trainer import TaggerTrainer
from tests.nightly.killing import counted, die

POINTS: dict[str, Callable[[], object]] = {
    "labels written": lambda: counted(training.Job, "write", 1, after=True),
    "first epoch": lambda: counted(TaggerTrainer, "_save_checkpoint", 1, after=True),
    "half a checkpoint": lambda: counted(TaggerTrainer, "_save_rng_state", 2),
    "trained": lambda: counted(train, "save_version", 1),
    "half a version": lambda: counted(train, "merges_exactly", 1),
    "version written": lambda: counted(train, "save_version", 1, after=True),
    "compared": lambda: counted(run, "compare", 1, after=True),
    "registering": lambda: counted(Transaction, "append", 4),
    "commit": lambda: in_decision(lambda: sa.event.listen(sa.Engine, "commit", lambda _connection: die())),
    "committed": lambda: counted(run, "decide", 1, after=True),
}
QUICK = {"first epoch", "version written", "commit"}  # the others are slow tests
NOT_TRAINED_AGAIN = {"trained", "half a version", "version written", "compared", "registering", "commit", "committed"}


def retrain(settings: str, assets: str, point: str) -> None:
    """In a process of its own: a retrain that dies at a point."""
    signal.alarm(120)
    torch.set_num_threads(1)
    registry.asset = Path(assets).joinpath  # type: ignore[assignment]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        POINTS[point]()
        run_retrain(prepare(Settings.model_validate_json(settings)))
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        os._exit(1)


def in_decision(prepare: Callable[[], None]) -> None:
    """Sets a trap when the decision begins."""
    original = run.decide

    def decide(*arguments: Any, **options: Any) -> Any:
        prepare()
        return original(*arguments, **options)

    run.decide = decide


@pytest.fixture(scope="module")
def processes():
    """Processes that are forked from one which has loaded the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=[] if point in QUICK else pytest.mark.slow) for point in POINTS]
)
def test_a_killed_retrain_goes_on_and_registers_one_version(house, configured, processes, shipped, point):
    settings = configured(epochs=3)
    secrets = {"source": {"uri": settings.source.location}, "warehouse": {"url": settings.warehouse_at.url}}
    plain = json.dumps(settings.model_dump(mode="json", exclude_unset=True) | secrets)
    process = processes.Process(target=retrain, args=(plain, str(shipped.parent), point))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    works = list((house.folder / "lake/retrains").iterdir())
    curves = {work: (work / CURVE).stat().st_mtime_ns for work in works if (work / CURVE).exists()}
    assert bool(curves) == (point in NOT_TRAINED_AGAIN)

    verdict = run_retrain(prepare(settings))
    assert verdict.outcome == ("leads already" if point == "committed" else "promoted")
    versions = house.read("model_versions")
    assert sorted(versions["status"]) == ["archived", "champion"]
    assert versions.filter(status="champion")["version"].item() == verdict.version
    assert len(house.read("model_promotions")) == 1
    assert [path.name for path in (house.folder / "lake/models").glob("lora-*")] == [verdict.version]
    assert list((house.folder / "lake/retrains").iterdir()) == works
    for work, changed in curves.items():
        assert (work / CURVE).stat().st_mtime_ns == changed
    epochs = [row["epoch"] for row in json.loads((works[0] / CURVE).read_text()) if "eval_strict_f1" in row]
    assert epochs == [1, 2, 3]
