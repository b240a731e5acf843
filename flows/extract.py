"""The nightly extraction as a Prefect flow: plan, extract each shard, publish, report.

Invariant: whatever stops a run, the warehouse holds all of it or nothing; run it again and the tables come out equal.
Idempotency key: (fingerprint, text_hash) for what was read, review_id for what was published.
By hand: ``python -m flows.extract``, which reads the shipped sample where no source is set.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import typer
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from ecner.cli import (
    PLAIN,
    ConfigOption,
    DebugOption,
    FromOption,
    FullOption,
    ToOption,
    make_selection,
    run_command,
    user_errors,
)
from ecner.config import LakeSettings, ModelSettings, load_settings
from ecner.nightly.extract import Extracted
from ecner.nightly.extract import extract_shard as read_shard
from ecner.nightly.plan import Plan
from ecner.nightly.report import Report
from ecner.nightly.run import Night, prepare
from ecner.nightly.scope import ReadingModel, Selection
from flows.local import run_here
from flows.runners import check_runner, open_runner

command = typer.Typer(**PLAIN)
DRIFT_EVENT = "ecner.drift"  # what the trigger of a retrain expects: this event, of this resource
DRIFT_RESOURCE = {"prefect.resource.id": "ecner.warehouse", "prefect.resource.name": "ecner's warehouse"}


@task(cache_policy=NO_CACHE)
def plan_night(night: Night) -> Plan:
    """Reads what is new and lays out the texts to read."""
    return night.plan()


@task(cache_policy=NO_CACHE)
def extract_shard(
    shard: str, model: ReadingModel, settings: ModelSettings, lake: LakeSettings, batch_chars: int | None
) -> Extracted:
    """Reads one shard's texts with the model; what a worker is given holds no secret and leads to no warehouse."""
    return read_shard(shard, model, settings, lake=lake, batch_chars=batch_chars)


@task(cache_policy=NO_CACHE)
def publish_night(night: Night, plan: Plan, extracted: Sequence[Extracted]) -> None:
    """Writes it all in one transaction."""
    night.publish(plan, extracted)


@task(cache_policy=NO_CACHE)
def report_night(night: Night, plan: Plan, extracted: Sequence[Extracted]) -> Report:
    """Sums the run up, with a table and a Markdown artifact, and makes the page that people read."""
    report = night.page(night.report(plan, extracted))
    create_markdown_artifact(report.to_markdown(), key="ecner-night", description=f"Run {plan.run_id}")
    create_table_artifact(report.to_rows(), key="ecner-top-entities", description=f"Top entities after {plan.run_id}")
    return report


@task(cache_policy=NO_CACHE)
def tell_drift(report: Report) -> None:
    """Tells what has drifted, as a table artifact and as an event; Prefect sends it at the latest as it exits."""
    figures = report.drift.to_dicts()
    create_table_artifact(figures, key="ecner-drift", description=f"Drifted in {report.plan.run_id}")
    emit_event(DRIFT_EVENT, DRIFT_RESOURCE, payload={"run_id": report.plan.run_id, "metrics": figures})


@flow(name="extract")
def extract(
    config: Path | None = None, first: date | None = None, last: date | None = None, *, full: bool = False
) -> Report:
    """One night, from the source to the tables; the parameters are those of ``ecner extract``."""
    night = _prepare(config, Selection(first, last, full))
    with night.ledger():
        plan = plan_night(night)
        found = read_shards(night, plan)
        publish_night(night, plan, found)
        report = report_night(night, plan, found)
        if len(report.drift):
            tell_drift(report)
        return report


def read_shards(night: Night, plan: Plan) -> list[Extracted]:
    """Has the shards read where the settings say; only this goes to workers, and a night without any starts none."""
    if not plan.shards:
        return []
    settings = night.settings
    given = {
        "model": plan.model,
        "settings": settings.model,
        "lake": settings.lake,
        "batch_chars": settings.run.max_batch_chars,
    }
    with open_runner(settings, len(plan.shards)) as runner:
        futures = [runner.submit(extract_shard, {"shard": shard} | given) for shard in plan.shards]
        found = []
        for future in futures:
            night.lease.check()
            found.append(future.result())
        return found


def run(config: Path | None, selection: Selection, *, debug: bool = False) -> Report:
    """Checks settings and source, then runs the flow once, here; without a server, a temporary one is started.

    Raises:
        EcnerError: with a message for the user.
    """
    _prepare(config, selection)
    with run_here(debug=debug):
        return extract(config, selection.first, selection.last, full=selection.full)


def _prepare(config: Path | None, selection: Selection) -> Night:
    settings = load_settings(config)
    check_runner(settings)
    return prepare(settings, selection)


@command.command()
def main(
    config: ConfigOption = None,
    first: FromOption = None,
    last: ToOption = None,
    full: FullOption = False,
    debug: DebugOption = False,
) -> None:
    """One night as a Prefect flow; without a source, over the shipped sample.

    \b
    Example: python -m flows.extract --config nightly.yaml
    """
    with user_errors(debug=debug):
        typer.echo(run(config, make_selection(first, last, full=full), debug=debug).to_text())


if __name__ == "__main__":
    run_command(command)
