from contextlib import chdir
from datetime import datetime
from importlib import import_module
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml

from ecner.nightly.run import prepare, run_night
from ecner.nightly.scope import Selection
from ecner.resources import resource
from tests.flows.place import CONFIG, crown, read, settle
from tests.flows.server import serve, wait
from tests.nightly.reviews import make_reviews, train_tiny, write

DEPLOYMENTS = resource("configs/prefect.yaml")
TOUCHY = {"min_runs": 1, "min_reviews": 1, "min_mentions": 0, "mean_confidence": 1e-9}


@pytest.fixture(scope="module")
def deployments():
    return {each["name"]: each for each in yaml.safe_load(DEPLOYMENTS.read_text("utf-8"))["deployments"]}


@pytest.fixture
def flows(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    from flows import extract, retrain  # noqa: PLC0415 - Prefect looks for its home when it is imported

    return extract, retrain


def test_deployments_name_flows_and_parameters_that_there_are(deployments, flows):
    assert deployments.keys() == {"nightly", "retrain"}
    for each in deployments.values():
        module, name = each["entrypoint"].rsplit(".", 1)
        flow = getattr(import_module(module), name)
        assert flow.validate_parameters(each["parameters"])["config"].name == CONFIG
        assert each["work_pool"]["name"] == "ecner"
        assert each["concurrency_limit"]["limit"] == 1


def test_the_trigger_expects_what_a_night_that_has_drifted_emits(deployments, flows):
    extract, _ = flows
    (trigger,) = deployments["retrain"]["triggers"]
    assert trigger["expect"] == [extract.DRIFT_EVENT]
    assert trigger["match"].items() <= extract.DRIFT_RESOURCE.items()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with the deployments, applied as README says, and a worker."""
    with serve(tmp_path_factory.mktemp("server")) as server:
        server.prefect("work-pool", "create", "ecner", "--type", "process")
        server.prefect("--no-prompt", "deploy", "--all", "--prefect-file", DEPLOYMENTS)
        with server.process("-m", "prefect", "worker", "start", "--pool", "ecner"):
            yield server


@pytest.mark.slow
def test_deployments_apply_with_their_schedules_and_the_automation(server, deployments):
    applied = {each["name"]: each for each in server.find("deployments")}
    assert applied.keys() == deployments.keys()
    for name, each in deployments.items():
        (schedule,) = (found["schedule"] for found in applied[name]["schedules"])
        assert each["schedules"] == [{"cron": schedule["cron"], "timezone": schedule["timezone"]}]
        assert applied[name]["global_concurrency_limit"]["limit"] == 1
    (automation,) = server.find("automations")
    assert automation["enabled"]
    assert automation["actions"][0]["deployment_id"] == applied["retrain"]["id"]


@pytest.mark.slow
def test_nights_are_scheduled_in_the_time_zone(server, deployments):
    schedule = deployments["nightly"]["schedules"][0]
    hour = int(schedule["cron"].split()[1])
    nights = wait(lambda: [run for run in runs_of(server, "extract") if run["auto_scheduled"]], 60)
    starts = [datetime.fromisoformat(run["expected_start_time"]) for run in nights]
    assert {start.astimezone(ZoneInfo(schedule["timezone"])).hour for start in starts} == {hour}


@pytest.mark.slow
def test_a_night_that_has_drifted_starts_a_retrain_which_enters_one_version(server):
    with chdir(server.folder):
        settings = settle(server.folder, drift=TOUCHY)
        crown(settings, server.folder / "tiny")
        run_night(prepare(settings, Selection()))
        known = set(read(settings, "model_versions")["version"])
        write(server.folder / "reviews.parquet", make_reviews(120, seed=1))
        server.prefect("deployment", "run", "extract/nightly")
        wait(lambda: ended(server, "extract"))
        (retrain,) = wait(lambda: ended(server, "retrain"))
        assert retrain["state_name"] == "Completed", server.log()
        new = read(settings, "model_versions").filter(~pl.col("version").is_in(known))
        assert len(new) == 1
        assert new["status"].item() in {"candidate", "champion"}
        assert set(read(settings, "gate_decisions")["version"]) == set(new["version"])
    assert {"ecner-drift", "ecner-retrain"} <= {each["key"] for each in server.find("artifacts")}


@pytest.mark.slow
def test_a_night_during_a_promotion_writes_one_model_version(server, tmp_path):
    with chdir(tmp_path):
        settings = settle(tmp_path)
        old = crown(settings, tmp_path / "old")
        new = train_tiny(tmp_path / "new", seed=1)
        with server.process("-m", "tests.flows.promoting", CONFIG, new, folder=tmp_path) as process:
            assert process.wait(300) == 0, server.log()
        for table in ("mentions", "review_coverage", "extraction_runs"):
            assert set(read(settings, table)["model_version"]) == {old}, table
        champion = read(settings, "model_versions").filter(status="champion")
        assert champion["version"].item() != old


def ended(server, flow):
    """Runs of a flow that have come to an end."""
    over = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    return [run for run in runs_of(server, flow) if run["state_type"] in over]


def runs_of(server, flow):
    return server.find("flow_runs", flows={"name": {"any_": [flow]}})
