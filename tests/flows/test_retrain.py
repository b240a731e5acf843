import re
from types import ModuleType

import polars as pl
import pytest
from typer.testing import CliRunner

from ecner.cli import with_labels
from ecner.config import load_settings
from ecner.registry import resolve_in
from ecner.retraining.run import prepare, run_retrain
from tests.commands import complaint, ended, is_empty, spawn
from tests.flows.place import CONFIG, crown, read, settle

SERVER_SECONDS = 200  # a little more than the flow itself waits for it


@pytest.fixture
def flow(here) -> ModuleType:
    """The flow's module; Prefect looks for its home when it is imported."""
    from flows import retrain  # noqa: PLC0415

    return retrain


def test_each_task_is_one_stage_and_the_artifact_is_the_report(flow, here, monkeypatch):
    artifacts = {}
    monkeypatch.setattr(
        flow, "create_markdown_artifact", lambda content, *, key, description: artifacts.update({key: content})
    )
    settings = settle(here)
    crown(settings, here / "tiny")
    stages = prepare(settings)
    snapshot = flow.take_labels.fn(stages)
    candidate = flow.train_challenger.fn(stages, snapshot)
    compared = flow.compare_models.fn(stages, snapshot, candidate)
    verdict = flow.decide.fn(stages, snapshot, candidate, compared)
    assert verdict.version == candidate.version
    assert artifacts.keys() == {"ecner-retrain"}
    assert verdict.sentence in plain(artifacts["ecner-retrain"])

    again = run_retrain(prepare(settings))
    assert (again.version, again.outcome) == (verdict.version, verdict.outcome)
    assert read(settings, "model_versions")["version"].to_list().count(verdict.version) == 1


@pytest.mark.slow
def test_a_retrain_with_prefect_gives_the_verdict_of_one_without(here, tmp_path, monkeypatch):
    crown(settle(here), here / "tiny")
    files = ["--train", "train.jsonl", "--dev", "dev.jsonl", "--test", "test.jsonl"]
    status, out, err = ended(spawn("--config", CONFIG, *files, module="flows.retrain"), SERVER_SECONDS)
    assert status == 0, err
    assert "Traceback" not in err
    by_flow = told(out)

    place = tmp_path / "plain" / here.name  # data sets are named after their folder
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    settings = settle(place)
    crown(settings, place / "tiny")
    verdict = run_retrain(prepare(settings))
    assert told(verdict.to_text()) == by_flow
    assert resolve_in(settings.warehouse_at, verdict.version).version == verdict.version
    entered = read(settings, "model_versions").filter(pl.col("parent").is_not_null())
    assert entered["version"].to_list() == [verdict.version]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--config", "bad.yaml"], 2, "train.epoch: no such setting"),
        (["--config", "nosuch.yaml"], 2, "cannot read the settings file"),
        (["--train", "missing.jsonl"], 2, "no such file of labelled texts: missing.jsonl"),
        (["--train", "bad.yaml", "--dev", "missing.jsonl"], 2, "no such file of labelled texts: missing.jsonl"),
    ],
)
def test_bad_input_is_told_before_prefect_starts(arguments, status, message, flow, here, tmp_path):
    (here / "bad.yaml").write_text("train: {epoch: 3}")
    result = CliRunner().invoke(flow.command, arguments)
    assert result.exit_code == status
    assert message in complaint(result)
    (here / "bad.yaml").unlink()
    assert is_empty(here)
    assert not (tmp_path / "prefect/prefect.db").exists()


def test_help_holds_the_command_to_type(flow):
    result = CliRunner().invoke(flow.command, ["--help"])
    assert result.exit_code == 0
    assert "\n  Example: python -m flows.retrain --train train.jsonl" in result.stdout
    assert {"--config", "--train", "--dev", "--test", "--debug"} <= set(result.stdout.split())


def test_parameters_are_those_of_the_command(flow, here):
    settings = settle(here)
    (here / "other.jsonl").touch()
    given = flow.retrain.validate_parameters({"config": CONFIG, "train": ["other.jsonl"]})
    chosen = with_labels(load_settings(given["config"], {}), given["train"], given["dev"], given["test"]).train
    assert [str(path) for path in chosen.train] == ["other.jsonl"]
    assert (chosen.dev, chosen.test) == (settings.train.dev, settings.train.test)


def told(report):
    """A verdict's lines, but for what is measured in seconds and for the report's place."""
    return [line for line in report.splitlines() if not re.match(r"  \w+( \w+)? +slowdown|report: ", line)]


def plain(markdown):
    return markdown.replace("\\", "")
