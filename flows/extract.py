"""The nightly extraction as a Prefect flow: plan, extract each shard, publish, report.

Invariant: whatever stops a run, the warehouse holds all of it or nothing; run it again and the tables come out equal.
Idempotency key: (fingerprint, text_hash) for what was read, review_id for what was published.
By hand: ``python -m flows.extract``, which reads the shipped sample where no source is set.
"""

import logging
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.settings import (
    PREFECT_LOGGING_LEVEL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from prefect.task_runners import ThreadPoolTaskRunner

from ecner.config import load_settings
from ecner.nightly.extract import Extracted
from ecner.nightly.plan import Plan, Selection
from ecner.nightly.report import Report
from ecner.nightly.run import Night, prepare

_STARTUP_SECONDS = 180  # a busy two-core machine needs over half a minute to start Prefect's temporary server


@task(cache_policy=NO_CACHE)
def plan_night(night: Night) -> Plan:
    """Reads what is new and lays out the texts to read."""
    return night.plan()


@task(cache_policy=NO_CACHE)
def extract_shard(night: Night, shard: str, plan: Plan) -> Extracted:
    """Reads one shard's texts with the model."""
    return night.extract(shard, plan)


@task(cache_policy=NO_CACHE)
def publish_night(night: Night, plan: Plan, extracted: Sequence[Extracted]) -> None:
    """Writes it all in one transaction."""
    night.publish(plan, extracted)


@task(cache_policy=NO_CACHE)
def report_night(night: Night, plan: Plan, extracted: Sequence[Extracted]) -> Report:
    """Sums the run up, with a table and a Markdown artifact."""
    report = night.report(plan, extracted)
    create_markdown_artifact(report.to_markdown(), key="ecner-night", description=f"Run {plan.run_id}")
    create_table_artifact(report.to_rows(), key="ecner-top-entities", description=f"Top entities after {plan.run_id}")
    return report


# One shard at a time: the model uses every core, or the whole GPU, by itself.
_ONE_AT_A_TIME: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=1)


@flow(name="extract", task_runner=_ONE_AT_A_TIME)
def extract(
    config: Path | None = None, first: date | None = None, last: date | None = None, *, full: bool = False
) -> Report:
    """One night, from the source to the tables; the parameters are those of ``ecner extract``."""
    night = prepare(load_settings(config), Selection(first, last, full))
    with night.ledger():
        plan = plan_night(night)
        extracted = [extract_shard.submit(night, shard, plan) for shard in plan.shards]
        found = [future.result() for future in extracted]
        publish_night(night, plan, found)
        return report_night(night, plan, found)


def run(config: Path | None, selection: Selection, *, debug: bool = False) -> Report:
    """Checks settings and source, then runs the flow once, here; without a server, a temporary one is started.

    Raises:
        EcnerError: with a message for the user.
    """
    prepare(load_settings(config), selection)
    if not debug:
        for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
            logging.getLogger(name).addFilter(_without_traceback)
    with temporary_settings(
        {
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: _STARTUP_SECONDS,
            PREFECT_LOGGING_LEVEL: "DEBUG" if debug else PREFECT_LOGGING_LEVEL.value(),
        }
    ):
        return extract(config, selection.first, selection.last, full=selection.full)


def _without_traceback(record: logging.LogRecord) -> bool:
    """The error goes to the user once, as one message; Prefect's copy of it would be a traceback."""
    record.exc_info = None
    return True


if __name__ == "__main__":
    from ecner.cli import run_flow

    run_flow("extract")
