import json
import sqlite3
from types import ModuleType

import polars as pl
import pytest
from typer.testing import CliRunner

from ecner.config import load_settings
from ecner.nightly.run import prepare, run_night
from ecner.nightly.scope import Selection
from ecner.storage.query import run_query
from tests.commands import complaint, ended, invoke, is_empty, spawn
from tests.tables import assert_equal_tables, read_tables
from tests.tiny import tiny

PARTS = ("小米", "华为", "手机", "abc", "h01", "真好用", "，", "👍", "不错")
SERVER_SECONDS = 200  # a little more than the flow itself waits for it
WAREHOUSE = "sqlite:///ecner-data/warehouse.db"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A source of good and bad rows, the settings for it with a small model, and a source that is damaged."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny().save(folder / "model")
    texts = ["".join(PARTS[i % p] for p in (2, 3, 5, 7, 9)) for i in range(40)]
    frame = pl.DataFrame(
        {
            "review_id": [str(i % 38) for i in range(40)],
            "text": [*texts[:36], None, " ", *texts[38:]],
            "product_id": [f"p{i % 3}" for i in range(40)],
            "rating": [i % 5 for i in range(40)],
            "created_at": [f"2026-11-{1 + i % 9:02d}T10:00:00" for i in range(40)],
        }
    )
    frame.write_parquet(folder / "reviews.parquet")
    data = bytearray((folder / "reviews.parquet").read_bytes())
    data[4:300] = b"\xff" * 296
    (folder / "damaged.parquet").write_bytes(data)
    for name in ("reviews", "damaged", "missing"):
        settings = {"source": {"uri": str(folder / f"{name}.parquet")}, "model": {"ref": str(folder / "model")}}
        (folder / f"{name}.yaml").write_text(json.dumps(settings))
    (folder / "bad.yaml").write_text("run: {shard: 3}")
    return folder


@pytest.fixture
def flow(here) -> ModuleType:
    """The flow's module; Prefect looks for its home when it is imported."""
    from flows import extract  # noqa: PLC0415

    return extract


def prefects(home, sql):
    with sqlite3.connect(home / "prefect.db") as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.slow
def test_a_night_with_prefect_writes_the_tables_of_one_without(here, inputs, monkeypatch, tmp_path):
    config = inputs / "reviews.yaml"
    status, out, err = ended(spawn("--config", config, module="flows.extract"), SERVER_SECONDS)
    assert status == 0, err
    assert "Traceback" not in err
    assert "Loading weights" not in err
    assert f"sqlite:///{here}/ecner-data/warehouse.db" in out
    by_flow = read_tables(WAREHOUSE)

    (here / "plain").mkdir()
    monkeypatch.chdir(here / "plain")
    plain = invoke("extract", "--config", config)
    assert plain.exit_code == 0
    assert_equal_tables(read_tables(WAREHOUSE), by_flow)
    assert len(by_flow["mentions"]) > 20
    assert sorted(by_flow["rejected_reviews"]["reason"]) == ["blank_text", "null_text", "repeated_id", "repeated_id"]
    assert told(out) == told(plain.stdout)

    artifacts = {key: (kind, data) for key, kind, data in prefects(
        tmp_path / "prefect", "select key, type, data from artifact where key is not null")}  # fmt: skip
    assert artifacts.keys() == {"ecner-night", "ecner-top-entities"}
    assert artifacts["ecner-night"][0] == "markdown"
    assert "| place | brands | products | model numbers |" in artifacts["ecner-night"][1]
    kind, data = artifacts["ecner-top-entities"]
    rows = json.loads(json.loads(data))
    assert kind == "table"
    assert {row["type"] for row in rows} == {"brand", "model_number"}
    best = by_flow["entity_daily"].group_by("canonical", "entity_type").agg(pl.col("review_count").sum())
    brand = best.filter(entity_type="brand")["review_count"].max()
    assert next(row["reviews"] for row in rows if row["type"] == "brand") == brand


def told(report):
    """A report's lines, but for the run's name, its speed and its place."""
    return [line for line in report.splitlines() if not line.startswith(("run ", "reading ", "steps ", "tables "))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "{}/bad.yaml"], "run.shard: no such setting"),
        (["--config", "{}/nosuch.yaml"], "cannot read the settings file"),
        (["--config", "{}/missing.yaml"], "no Parquet file at"),
        (["--config", "{}/reviews.yaml", "--from", "2026-11-02", "--to", "2026-11-01"], "is after --to"),
    ],
)
def test_bad_input_is_told_before_prefect_starts(arguments, message, flow, here, inputs, tmp_path):
    result = CliRunner().invoke(flow.command, [argument.format(inputs) for argument in arguments])
    assert result.exit_code == 2
    assert message in complaint(result)
    assert is_empty(here)
    assert not (tmp_path / "prefect/prefect.db").exists()


def test_help_holds_the_command_to_type(flow):
    result = CliRunner().invoke(flow.command, ["--help"])
    assert result.exit_code == 0
    assert "\n  Example: python -m flows.extract --config nightly.yaml\n" in result.stdout
    assert {"--config", "--from", "--to", "--full", "--debug"} <= set(result.stdout.split())


def test_each_task_is_one_stage(flow, here, inputs, monkeypatch):
    artifacts = {}
    for kind in ("markdown", "table"):
        monkeypatch.setattr(
            flow, f"create_{kind}_artifact", lambda content, *, key, description: artifacts.update({key: content})
        )
    night = prepare(load_settings(inputs / "reviews.yaml", {}), Selection())
    with night.ledger():
        plan = flow.plan_night.fn(night)
        given = (plan.model, night.settings.model, night.settings.lake, None)
        extracted = [flow.extract_shard.fn(shard, *given) for shard in plan.shards]
        flow.publish_night.fn(night, plan, extracted)
        report = flow.report_night.fn(night, plan, extracted)
    assert plan.texts_inferred == sum(part.texts for part in extracted) > 0
    assert artifacts == {"ecner-night": report.to_markdown(), "ecner-top-entities": report.to_rows()}


@pytest.fixture
def drifting(inputs, here):
    """Settings of a second night, whose reviews hold characters that the first had none of."""
    frame = pl.read_parquet(inputs / "reviews.parquet").drop_nulls("text")
    frame.with_columns(pl.col("text").str.replace_all("👍", "，")).write_parquet(here / "reviews.parquet")
    settings = {
        "source": {"uri": str(here / "reviews.parquet")},
        "model": {"ref": str(inputs / "model")},
        "drift": {"min_runs": 1, "min_reviews": 20, "min_mentions": 0},
    }
    (here / "drift.yaml").write_text(json.dumps(settings))
    assert invoke("extract", "--config", here / "drift.yaml").exit_code == 0
    strange = frame.with_columns(pl.format("new-{}", "review_id").alias("review_id"), pl.col("text") + "👍" * 20)
    strange.write_parquet(here / "reviews.parquet")
    return here / "drift.yaml"


def test_drift_is_told(flow, drifting, monkeypatch):
    told = {}
    for kind in ("markdown", "table"):
        monkeypatch.setattr(
            flow, f"create_{kind}_artifact", lambda content, *, key, description: told.update({key: content})
        )
    monkeypatch.setattr(
        flow, "emit_event", lambda event, resource, *, payload: told.update({event: (resource, payload)})
    )
    report = run_night(prepare(load_settings(drifting, {}), Selection()))
    flow.tell_drift.fn(report)
    resource, payload = told["ecner.drift"]
    assert resource["prefect.resource.id"] == "ecner.warehouse"
    assert payload == {"run_id": report.plan.run_id, "metrics": told["ecner-drift"]}
    figures = {(figure["entity_type"], figure["metric"]): figure for figure in payload["metrics"]}
    unknown = figures["all", "unknown_char_share"]
    assert (unknown["baseline"], unknown["drifted"]) == (0, 1)
    json.dumps(payload)


@pytest.mark.slow
def test_the_event_of_drift_reaches_the_server(drifting, tmp_path):
    status, _, err = ended(spawn("--config", drifting, module="flows.extract"), SERVER_SECONDS)
    assert status == 0, err
    (event,) = prefects(tmp_path / "prefect", "select resource_id, payload from events where event = 'ecner.drift'")
    assert event[0] == "ecner.warehouse"
    assert {"all"} <= {figure["entity_type"] for figure in json.loads(event[1])["metrics"]}
    assert ("ecner-drift",) in prefects(tmp_path / "prefect", "select key from artifact")


@pytest.mark.slow
@pytest.mark.parametrize("debug", [False, True])
def test_a_run_that_fails_tells_why_once(debug, here, inputs, tmp_path):
    arguments = ["--config", inputs / "damaged.yaml", *(["--debug"] if debug else [])]
    status, out, err = ended(spawn(*arguments, module="flows.extract"), SERVER_SECONDS)
    assert (status, out) == (1, "")
    assert ("Traceback" in err) is debug
    if not debug:
        assert err.count("cannot read on") == 1
    assert err.splitlines()[-2].startswith("error: cannot read on") or "\nerror: cannot read on" in err
    assert prefects(tmp_path / "prefect", "select state_name from flow_run") == [("Failed",)]
    runs = run_query(WAREHOUSE, None, "select status, error from extraction_runs")
    assert runs["status"].to_list() == ["failed"]
    assert read_tables(WAREHOUSE)["mentions"].is_empty()
