"""The retrain as a Prefect flow: take the labels, train, compare with the champion, decide.

Invariant: whatever stops a run, one training enters one version into the registry; run it again and it goes on.
Idempotency key: the training's, which is over its labels, its base, its tags and its recipe.
By hand: ``python -m flows.retrain --train train.jsonl --dev dev.jsonl --test test.jsonl``.
"""

from pathlib import Path

import typer
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from ecner.cli import (
    PLAIN,
    ConfigOption,
    DebugOption,
    DevOption,
    TestOption,
    TrainOption,
    run_command,
    user_errors,
    with_labels,
)
from ecner.config import load_settings
from ecner.retraining.run import MARKDOWN, Compared, Retrain, prepare
from ecner.retraining.snapshot import Snapshot
from ecner.retraining.train import Candidate
from ecner.retraining.verdict import Verdict
from flows.local import run_here

command = typer.Typer(**PLAIN)
Files = list[Path] | None


@task(cache_policy=NO_CACHE)
def take_labels(stages: Retrain) -> Snapshot:
    """Collects the labels and writes them once."""
    return stages.snapshot()


@task(cache_policy=NO_CACHE)
def train_challenger(stages: Retrain, snapshot: Snapshot) -> Candidate:
    """Trains, or finds what the same training has given before."""
    return stages.train(snapshot)


@task(cache_policy=NO_CACHE)
def compare_models(stages: Retrain, snapshot: Snapshot, candidate: Candidate) -> Compared:
    """Has champion and challenger read the same test texts."""
    return stages.compare(snapshot, candidate)


@task(cache_policy=NO_CACHE)
def decide(stages: Retrain, snapshot: Snapshot, candidate: Candidate, compared: Compared) -> Verdict:
    """Judges, and enters version, figures, decisions and promotion; the report is a Markdown artifact too."""
    verdict = stages.decide(snapshot, candidate, compared)
    report = (Path(candidate.work) / MARKDOWN).read_text("utf-8")
    create_markdown_artifact(report, key="ecner-retrain", description=verdict.sentence)
    return verdict


@flow(name="retrain")
def retrain(config: Path | None = None, train: Files = None, dev: Files = None, test: Files = None) -> Verdict:
    """One retrain, from the labels to the verdict; the parameters are those of ``ecner retrain``."""
    stages = prepare(with_labels(load_settings(config), train, dev, test))
    snapshot = take_labels(stages)
    candidate = train_challenger(stages, snapshot)
    return decide(stages, snapshot, candidate, compare_models(stages, snapshot, candidate))


def run(config: Path | None, train: Files, dev: Files, test: Files, *, debug: bool = False) -> Verdict:
    """Checks settings, label files and base, then runs the flow once, here.

    Raises:
        EcnerError: with a message for the user.
    """
    prepare(with_labels(load_settings(config), train, dev, test))
    with run_here(debug=debug):
        return retrain(config, train, dev, test)


@command.command()
def main(
    config: ConfigOption = None,
    train_files: TrainOption = None,
    dev_files: DevOption = None,
    test_files: TestOption = None,
    debug: DebugOption = False,
) -> None:
    """One retrain as a Prefect flow.

    \b
    Example: python -m flows.retrain --train train.jsonl --dev dev.jsonl --test test.jsonl
    """
    with user_errors(debug=debug):
        typer.echo(run(config, train_files, dev_files, test_files, debug=debug).to_text())


if __name__ == "__main__":
    run_command(command)
