import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import typer

from ecner import cli, registry
from ecner.config import load_settings
from ecner.data.corpus import read_corpus
from ecner.model.checkpoint import Checkpoint
from ecner.nightly.run import prepare
from ecner.nightly.scope import Selection
from tests.commands import ROOT, complaint, ended, invoke, is_empty, spawn
from tests.tiny import tiny

TEXTS = ["小米9真好用👍", "", "买了abc，不错", "华为h0"]
ROWS = [
    '{"text": "小米9真好用", "entities": '
    '[{"start_idx": 0, "end_idx": 2, "entity_text": "小米", "entity_label": "HPPX"}]}',
    '{"text": "买了abc", "entities": [{"start_idx": 2, "end_idx": 5, "entity_text": "abc", "entity_label": "XH"}]}',
    '{"text": "真好", "entities": []}',
]
BAD_ROW = '{"text": "小米", "entities": [{"start_idx": 0, "end_idx": 9, "entity_text": "小", "entity_label": "XH"}]}'


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny().save(folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Input of every kind, good and bad."""
    folder = tmp_path_factory.mktemp("files")
    reviews = pl.DataFrame({"review_id": [1, 2, 3, 4], "text": TEXTS, "created_at": ["2026-11-01"] * 4})
    reviews.write_parquet(folder / "reviews.parquet")
    reviews.rename({"text": "body"}).write_parquet(folder / "no-text.parquet")
    (folder / "corrupt.parquet").write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    (folder / "texts.txt").write_bytes("\r\n".join(TEXTS).encode())
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    (folder / "labelled.jsonl").write_text("\n".join([*ROWS, *ROWS]))
    (folder / "labelled.txt").write_text("小 B-HPPX\n米 I-HPPX\n手 O\n\n真 O\n好 O\n")
    (folder / "some-bad.jsonl").write_text("\n".join([*ROWS, BAD_ROW]))
    (folder / "no-labels.txt").write_text("just some lines\nof text\n")
    (folder / "unknown-setting.yaml").write_text("run: {shard: 3}")
    (folder / "unknown-section.yaml").write_text("runs: {shards: 3}")
    (folder / "broken.yaml").write_text("run: {shards: 3")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def night(tmp_path_factory, model, files):
    """A folder in which a night has run."""
    folder = tmp_path_factory.mktemp("night")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ECNER_MODEL__REF", str(model))
        patch.setenv("ECNER_SOURCE__URI", str(files / "reviews.parquet"))
        result = invoke("extract")
    assert result.exit_code == 0, result.stderr
    return folder, result


@pytest.fixture
def after_night(night, monkeypatch, files):
    monkeypatch.chdir(night[0])
    monkeypatch.setenv("ECNER_SOURCE__URI", str(files / "reviews.parquet"))
    return night[0]


def commands(group=None, path=()):
    """Each command and group by what is typed for it."""
    group = group or typer.main.get_command(cli.app)
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


COMMANDS = dict(commands())


# Help and status


def test_every_command_is_there():
    assert {" ".join(path) for path in COMMANDS} >= {
        *("extract", "retrain", "evaluate", "predict", "convert", "query", "bench"),
        *("models list", "models show", "models promote", "models rollback"),
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("columns", ["50", "200"])
def test_help_holds_an_example_that_can_be_copied(path, columns, here, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    result = invoke(*path, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = [line for line in result.stdout.splitlines() if line.strip().startswith("Example: ")]
    program, *words = shlex.split(line.strip().removeprefix("Example: "))
    assert program == "ecner"
    if not hasattr(COMMANDS[path], "commands"):
        assert tuple(words[: len(path)]) == path
        COMMANDS[path].make_context(program, words[len(path) :])  # fails on an option that is none
    assert is_empty(here)


def test_help_needs_no_heavy_package(here):
    probe = "import sys\nfrom ecner.cli import app\ntry: app(sys.argv[1:])\nfinally: print(*sys.modules)"
    for path in ((), ("extract",), ("models", "show")):
        done = subprocess.run(
            [sys.executable, "-c", probe, *path, "--help"],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
        assert not loaded & {"torch", "transformers", "polars", "pyarrow", "prefect", "sqlalchemy", "numpy"}
        assert "pydantic" in loaded


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["extract", "--nosuch"],
        ["extract", "--from", "yesterday"],
        ["extract", "--from", "2026-13-01"],
        ["evaluate"],
        ["retrain", "--output", "a"],
        ["convert", "--input", "a"],
        ["query", "runs", "--format", "xml"],
        ["predict", "a", "--decoder", "greedy"],
        ["predict", "a", "--top-k", "0"],
        ["bench", "--preset", "huge"],
        ["models", "nosuch"],
        ["models", "show"],
        ["models", "promote"],
    ],
    ids=" ".join,
)
def test_a_usage_error_ends_with_status_2(arguments, here):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr
    assert is_empty(here)


BAD_INPUT = {
    "extract --config missing.yaml": (2, "cannot read the settings file missing.yaml"),
    "extract --config {files}/broken.yaml": (2, "is not YAML"),
    "extract --config {files}/unknown-setting.yaml": (2, "run.shard: no such setting"),
    "extract --config {files}/unknown-section.yaml": (2, "runs: no such setting"),
    "ECNER_NOSUCH__X=1 extract": (2, "nosuch: no such setting"),
    "ECNER_RUN__NOSUCH=1 query runs": (2, "run.nosuch: no such setting"),
    "extract --from 2026-11-02 --to 2026-11-01": (2, "--from 2026-11-02 is after --to 2026-11-01"),
    "ECNER_SOURCE__URI=missing.parquet extract": (2, "no Parquet file at missing.parquet"),
    "ECNER_SOURCE__URI={files}/no-text.parquet extract": (2, "lacks the column(s) text"),
    "ECNER_SOURCE__URI={files}/corrupt.parquet extract": (1, "corrupt.parquet is not a Parquet file"),
    "ECNER_MODEL__REF=nosuch extract": (2, "no model 'nosuch'"),
    "ECNER_MODEL__REF={files} extract": (1, "is not a model folder"),
    "ECNER_WAREHOUSE__URL=warehouse.db extract": (2, "expected a SQLAlchemy URL"),
    "predict": (2, "expected one of the two"),
    "predict a --input {files}/texts.txt": (2, "expected one of the two"),
    "predict --input missing.txt": (2, "cannot read missing.txt"),
    "predict --input {files}/corrupt.parquet": (1, "cannot be read as Parquet"),
    "predict --input {files}/no-text.parquet": (1, "has no column 'text'"),
    "predict a --model nosuch": (2, "no model 'nosuch'"),
    "predict a --model {files}": (1, "is not a model folder"),
    "predict a --model {model} --output missing/out.jsonl": (2, "cannot write missing/out.jsonl"),
    "predict a --config {files}/unknown-setting.yaml": (2, "run.shard: no such setting"),
    "ECNER_MODEL__DEVICE=gpu predict a": (2, "model.device"),
    "evaluate --data missing.jsonl --model {model}": (2, "cannot read missing.jsonl"),
    "evaluate --data {files}/no-labels.txt --model {model} --json out.json": (1, "does not hold labelled texts"),
    "evaluate --data {files}/labelled.txt --train {files}/no-labels.txt --model {model}": (1, "does not hold"),
    "evaluate --data {files}/reviews.parquet --model {model} --json out.json": (1, "does not hold labelled texts"),
    "convert --input missing.jsonl --output out.txt": (2, "cannot read missing.jsonl"),
    "convert --input {files}/no-labels.txt --output out.txt": (1, "does not hold labelled texts"),
    "convert --input {files}/labelled.txt --output missing/out.txt": (2, "cannot write missing/out.txt"),
    "retrain": (2, "nothing to train on"),
    "retrain --train missing.jsonl --dev {files}/labelled.jsonl": (2, "no such file of labelled texts: missing.jsonl"),
    "retrain --train {files}/no-labels.txt --dev {files}/labelled.jsonl": (1, "does not hold"),
    "retrain --train {files}/some-bad.jsonl --dev {files}/labelled.jsonl": (1, "line 4: bad_offsets"),
    "retrain --train {files}/labelled.txt --dev {files}/labelled.jsonl --dev {files}/labelled.txt": (2, "labelled"),
    "ECNER_TRAIN__DROPOUT=0.2 retrain --train {files}/labelled.jsonl": (2, "whose dropout cannot be changed"),
    "ECNER_TRAIN__LABELS={files}/labelled.jsonl retrain --train {files}/labelled.jsonl": (1, "is not a label file"),
    "ECNER_SOURCE__URI=nosuch retrain --train {files}/labelled.jsonl": (2, "nosuch"),
    "ECNER_TRAIN__BASE=no/such/folder retrain --train {files}/labelled.jsonl": (2, "train.base: no model"),
    "query runs": (2, "there is no warehouse"),
    "models list": (2, "there is no warehouse"),
    "models show champion": (2, "there is no warehouse"),
    "models promote nosuch": (2, "no model 'nosuch'"),
    "models rollback": (2, "there is no warehouse"),
    "bench --input missing.txt": (2, "cannot read missing.txt"),
}


@pytest.mark.parametrize("line", BAD_INPUT)
def test_bad_input_gives_one_message_and_leaves_nothing(line, here, files, model, monkeypatch):
    status, told = BAD_INPUT[line]
    words = shlex.split(line.format(files=files, model=model))
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    result = invoke(*words)
    assert told in complaint(result)
    assert result.exit_code == status
    assert is_empty(here)


def test_a_traceback_comes_only_with_debug(here):
    result = invoke("convert", "--input", "missing.jsonl", "--output", "out.txt", "--debug")
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: cannot read missing.jsonl")


def test_an_error_that_nobody_foresaw_is_one_message_too(here, monkeypatch):
    monkeypatch.setattr(cli, "load_settings", lambda _: 1 / 0)
    result = invoke("extract")
    assert result.exit_code == 1
    assert complaint(result) == "error: ZeroDivisionError: division by zero (--debug shows where)\n"


# Commands that need no warehouse


def predicted(*arguments: object, stdin=b""):
    result = invoke("predict", *arguments, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout_bytes.decode().split("\n")[:-1]]


@pytest.mark.parametrize("name", ["texts.txt", "texts.jsonl", "reviews.parquet", "-"])
def test_predict_reads_every_form_of_input(name, here, files, model):
    source, stdin = ("-", (files / "texts.txt").read_bytes()) if name == "-" else (files / name, b"")
    rows = predicted("--input", source, "--model", model, stdin=stdin)
    assert [row["text"] for row in rows] == TEXTS
    assert rows == predicted(*TEXTS, "--model", model)
    assert any(row["mentions"] for row in rows)
    assert is_empty(here)


def test_predict_writes_a_file_whole(here, files, model):
    result = invoke("predict", "--input", files / "texts.txt", "--model", model, "--output", "out.jsonl")
    assert (result.exit_code, result.output) == (0, "")
    rows = [json.loads(line) for line in (here / "out.jsonl").read_bytes().decode().split("\n")[:-1]]
    assert rows == predicted(*TEXTS, "--model", model)
    assert [path.name for path in here.iterdir()] == ["out.jsonl"]


def test_predict_with_settings_decoder_and_paths(here, files, model, monkeypatch):
    (here / "own.yaml").write_text(f"model: {{ref: {model}, decoder: beam, labels: {{HPPX: marque}}}}")
    (row,) = predicted(TEXTS[0], "--config", "own.yaml", "--top-k", 3)
    assert {m["type"] for m in row["mentions"]} <= {"marque", "XH"}
    scores = [path["score"] for path in row["paths"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    monkeypatch.setenv("ECNER_MODEL__REF", str(model))
    same = [m["text"] for m in predicted(TEXTS[0], "--decoder", "beam")[0]["mentions"]]
    assert same == [m["text"] for m in row["mentions"]]


def test_predict_takes_the_champion_by_default_and_a_version_of_the_warehouse(after_night, model, monkeypatch):
    monkeypatch.setattr(registry, "asset", lambda _: model)
    version = invoke("query", "select version from model_versions", "--format", "csv").stdout.split()[1]
    assert predicted(*TEXTS, "--model", version) == predicted(*TEXTS) == predicted(*TEXTS, "--model", model)


@pytest.mark.slow
def test_bytes_that_are_no_text_and_a_locale_without_it(here, model):
    process = subprocess.Popen(
        [sys.executable, "-m", "ecner.cli", "predict", "小米👍".encode(), b"\xff\xe5", "--model", model],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    status, out, err = ended(process)
    assert (status, err) == (0, "")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["小米👍", "\udcff\udce5"]
    assert is_empty(here)


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(here, tmp_path_factory, model):
    texts = tmp_path_factory.mktemp("many") / "texts.txt"
    texts.write_text("小米\n" * 3000)
    predict = [sys.executable, "-m", "ecner.cli", "predict", "--input", str(texts), "--model", str(model)]
    done = subprocess.run(  # noqa: S602 - a pipe is what is tested
        f"{shlex.join(predict)} | head -1",
        shell=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["text"] == "小米"
    assert done.stderr == ""


def test_evaluate(here, files, model):
    result = invoke("evaluate", "--data", files / "some-bad.jsonl", "--train", files / "labelled.txt",
                    "--model", model, "--json", "scores.json")  # fmt: skip
    assert result.exit_code == 0
    assert result.stderr == result.stderr.splitlines()[0] + "\n"
    assert f"warning: {files / 'some-bad.jsonl'}, line 4: bad_offsets" in result.stderr
    assert "3 texts" in result.stdout
    scores = json.loads((here / "scores.json").read_text("utf-8"))
    assert scores["n_texts"] == 3
    assert scores["strict"]["support"] == 2
    assert scores["strict"]["per_type"].keys() == {"brand", "model_number"}
    assert (scores["seen"]["n_texts"], scores["unseen"]["n_texts"]) == (1, 2)
    assert [path.name for path in here.iterdir()] == ["scores.json"]


def test_convert_there_and_back(here, files):
    result = invoke("convert", "--input", files / "some-bad.jsonl", "--output", "out.txt")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: line 4: bad_offsets")
    assert result.stdout == "jsonl to conll: 4 rows read, 3 written, 1 bad\n"
    assert invoke("convert", "--input", "out.txt", "--output", "back.jsonl").exit_code == 0
    assert read_corpus("back.jsonl").texts == read_corpus(files / "some-bad.jsonl").texts
    assert sorted(path.name for path in here.iterdir()) == ["back.jsonl", "out.txt"]


def test_retrain_promote_and_roll_back(here, files, model, monkeypatch):
    monkeypatch.setattr(registry, "asset", lambda _: model)
    for name, value in {"EPOCHS": 1, "PROMOTE": "false", "OVERLAP_REVIEWS": 2}.items():
        monkeypatch.setenv(f"ECNER_TRAIN__{name}", str(value))
    monkeypatch.setenv("ECNER_SOURCE__URI", str(files / "reviews.parquet"))
    tags = ["B-HPPX", "I-HPPX", "O", "B-XH", "I-XH", "B-OTHER", "I-OTHER"]
    Path("schema.json").write_text(json.dumps({tag: i for i, tag in enumerate(tags)}))
    monkeypatch.setenv("ECNER_TRAIN__LABELS", "schema.json")
    result = invoke("retrain", "--train", files / "labelled.jsonl", "--dev", files / "labelled.jsonl")
    assert result.exit_code == 0, result.stderr
    version = result.stdout.split()[0]
    assert "is not comparable: its labels are HPPX, OTHER, XH" in result.stdout
    assert "texts in both: train/dev" in result.stderr
    assert "strict F1 on dev" in result.stderr
    folder = Path(invoke("models", "show", version).stdout.splitlines()[0].split(" in ")[1])
    assert Checkpoint.load(folder).tagger.config.tag_set.tags == tuple(tags)
    assert f"{version} is champion now" in invoke("models", "promote", version).stdout
    assert [row["text"] for row in predicted("a", "--model", "champion")] == ["a"]
    assert "champion already" in invoke("models", "promote", version).stdout
    assert f"{version} was before (rollback)" in invoke("models", "rollback").stdout
    assert "no promotion to go back from" in complaint(invoke("models", "rollback"))
    Path("other.json").write_text(json.dumps({"O": 0, "B-OTHER": 1, "I-OTHER": 2}))
    monkeypatch.setenv("ECNER_TRAIN__LABELS", "other.json")
    refused = invoke("retrain", "--train", files / "labelled.jsonl", "--dev", files / "labelled.jsonl")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith("error: other.json lacks the label(s) HPPX, XH")


# Commands on a warehouse


def test_extract_tells_what_it_found_and_where(night):
    folder, result = night
    assert f"sqlite:///{folder}/ecner-data/warehouse.db" in result.stdout
    assert "4 in, 1 rejected (1 blank_text)" in result.stdout
    assert result.stderr.startswith("reading shard 1 of ")
    assert "Traceback" not in result.stderr
    assert (folder / "ecner-data/warehouse.db").is_file()


def test_a_damaged_file_fails_the_run_and_publishes_nothing(here, files, model, monkeypatch):
    frame = pl.DataFrame({"review_id": range(2000), "text": [f"小米{i}" for i in range(2000)]})
    frame.write_parquet("reviews.parquet")
    data = bytearray((here / "reviews.parquet").read_bytes())
    data[4:5000] = b"\xff" * 4996  # the footer stays: the file looks right until its rows are read
    (here / "reviews.parquet").write_bytes(data)
    monkeypatch.setenv("ECNER_SOURCE__URI", "reviews.parquet")
    monkeypatch.setenv("ECNER_MODEL__REF", str(model))
    result = invoke("extract")
    assert result.exit_code == 1
    assert "cannot read on in reviews.parquet" in complaint(result)
    status = json.loads(invoke("query", "select status, error from extraction_runs", "--format", "json").stdout)
    assert [row["status"] for row in status] == ["failed"]
    assert "cannot read on" in status[0]["error"]
    assert invoke("query", "select count(*) from review_coverage", "--format", "csv").stdout.split() == [
        "count(*)",
        "0",
    ]


def test_an_interrupt_ends_with_one_line_and_a_failed_run(here, model, monkeypatch):
    frame = pl.DataFrame({"review_id": range(300), "text": [f"小米{i}" + "真好用" * 300 for i in range(300)]})
    frame.write_parquet("reviews.parquet")
    process = spawn("extract", ECNER_SOURCE__URI="reviews.parquet", ECNER_MODEL__REF=str(model))
    assert process.stderr.readline().startswith(b"reading shard 1")
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process)
    assert (status, out, err.splitlines()[-1]) == (130, "", "interrupted")
    assert "Traceback" not in err
    monkeypatch.setenv("ECNER_SOURCE__URI", "reviews.parquet")
    assert invoke("query", "select status from extraction_runs", "--format", "csv").stdout.split() == [
        "status",
        "failed",
    ]


def test_query_in_every_form(after_night, tmp_path):
    sql = "select review_id, surface, start_char, confidence from mentions order by review_id, mention_no"
    out = tmp_path / "out.parquet"
    assert invoke("query", sql, "--format", "parquet", "--output", out).output == ""
    frame = pl.read_parquet(out)
    assert len(frame) > 0
    assert json.loads(invoke("query", sql, "--format", "json").stdout) == frame.to_dicts()
    as_csv = invoke("query", sql, "--format", "csv").stdout
    assert pl.read_csv(as_csv.encode(), schema=frame.schema).equals(frame)
    table = invoke("query", sql).stdout
    assert all(surface in table for surface in frame["surface"])
    assert invoke("query", sql, "--format", "json", "--output", tmp_path / "out.json").output == ""
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == frame.to_dicts()
    assert "--output" in complaint(invoke("query", sql, "--format", "parquet"))


def test_query_knows_tables_and_views_by_name(after_night):
    for name in ("mentions", "run_history"):
        result = invoke("query", name, "--format", "json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)


def test_query_takes_one_statement_that_reads(after_night):
    for sql in ("delete from mentions", "select 1; select 2", "nosuch", "select nosuch from mentions"):
        result = invoke("query", sql)
        assert result.exit_code == 2
        complaint(result)


def test_models_are_listed_and_shown(after_night, model, monkeypatch, files):
    monkeypatch.setattr(registry, "asset", lambda _: model)
    version = registry.resolve(str(model)).version
    listed = invoke("models", "list")
    assert version in listed.stdout
    assert "candidate" in listed.stdout
    shown = invoke("models", "show", version)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.startswith(f"{version} in {model}\n")
    unknown = invoke("models", "show", "nosuch")
    assert unknown.exit_code == 2
    assert "no model 'nosuch'" in complaint(unknown)


def test_query_describes_a_view_without_a_warehouse(here):
    result = invoke("query", "--describe", "new_entities")
    assert result.exit_code == 0
    assert "first_week" in result.stdout
    assert is_empty(here)
    assert invoke("query", "--describe", "nothing").exit_code == 2
    assert "expected one of the two" in complaint(invoke("query"))


def test_forget_takes_a_review_out_and_keeps_it_out(here, files, model, monkeypatch):
    monkeypatch.setenv("ECNER_MODEL__REF", str(model))
    monkeypatch.setenv("ECNER_SOURCE__URI", str(files / "reviews.parquet"))
    ids = "select review_id from review_coverage order by review_id"

    def covered():
        rows = json.loads(invoke("query", ids, "--format", "json").stdout)
        return [row["review_id"] for row in rows]

    invoke("extract")
    assert covered() == ["1", "3", "4"]
    result = invoke("forget", "3")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("forgotten: days computed anew: ")
    assert covered() == ["1", "4"]
    assert invoke("extract").exit_code == 0
    assert covered() == ["1", "4"]


def test_a_held_lease_ends_with_status_1_and_a_runner_is_for_flows(here, files, model, monkeypatch):
    monkeypatch.setenv("ECNER_MODEL__REF", str(model))
    monkeypatch.setenv("ECNER_SOURCE__URI", str(files / "reviews.parquet"))
    monkeypatch.setenv("ECNER_RUN__RUNNER", "ray")
    night = prepare(load_settings(), Selection())
    with night.ledger():
        held = invoke("extract")
    assert held.exit_code == 1
    assert f"is held by the run {night.run_id}" in held.stderr
    assert held.stderr.count("\n") == 2  # the one about the runner, and the error
    done = invoke("extract")
    assert done.exit_code == 0
    assert done.stderr.startswith("run.runner is ray, for python -m flows.extract: this reads here\n")
