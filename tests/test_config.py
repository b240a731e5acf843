import json
import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ecner.config import Section, Settings, load_settings, redacted
from ecner.errors import UsageError
from ecner.resources import resource

SECRET = "hunter2"  # noqa: S105


def settings(text: str | bytes, tmp_path, **environ: str) -> Settings:
    path = tmp_path / "settings.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_settings(path, environ)


def problems(text: str, tmp_path, **environ: str) -> str:
    with pytest.raises(UsageError) as caught:
        settings(text, tmp_path, **environ)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_default_reads_the_sample_into_a_warehouse_of_its_own():
    defaults = load_settings(environ={})
    assert defaults.source.is_sample
    assert defaults.source.location.endswith("assets/sample/reviews.parquet")
    assert defaults.warehouse_at.url == "sqlite:///ecner-data/sample.db"
    own = load_settings(environ={"ECNER_SOURCE__URI": "reviews"})
    assert not own.source.is_sample
    assert own.warehouse_at.url == "sqlite:///ecner-data/warehouse.db"


def test_a_variable_goes_over_the_file_and_the_file_over_the_default(tmp_path):
    read = settings(
        "run: {shards: 2, time_zone: Asia/Tokyo}\nmodel: {decoder: beam, min_confidence: {brand: 0.2, product: 0.3}}",
        tmp_path,
        ECNER_RUN__SHARDS="8",
        ECNER_SOURCE__COLUMNS__TEXT="body",
        ECNER_MODEL__MIN_CONFIDENCE__BRAND="0.5",
    )
    assert (read.run.shards, read.run.time_zone, read.run.max_batch_chars) == (8, "Asia/Tokyo", None)
    assert (read.source.columns.text, read.source.columns.review_id) == ("body", "review_id")
    assert read.model.min_confidence == {"brand": 0.5, "product": 0.3}
    assert read.model.decoder == "beam"


def test_the_environment_of_the_process_is_read(monkeypatch):
    monkeypatch.setenv("ECNER_RUN__SHARDS", "9")
    assert load_settings().run.shards == 9


@pytest.mark.parametrize("section", Settings.model_fields)
def test_variables_of_other_programs_are_none_of_ours(section, monkeypatch):
    monkeypatch.setenv(section.upper(), "1")
    monkeypatch.setenv(f"XECNER_{section.upper()}", "1")
    assert load_settings() == load_settings(environ={})


def test_names_of_variables_have_no_case_and_an_empty_one_is_not_set():
    read = load_settings(environ={"ecner_run__shards": "3", "ECNER_RUN__TIME_ZONE": "", "ECNER_NOSUCH": ""})
    assert (read.run.shards, read.run.time_zone) == (3, "UTC")


def test_labels_and_thresholds_come_as_json_too(tmp_path):
    labels = {"GPE": "place", "Per": "Person"}
    variables = {"ECNER_MODEL__LABELS": json.dumps(labels), "ECNER_MODEL__MIN_CONFIDENCE": '{"Person": 0.5}'}
    read = settings("model: {labels: {HPPX: brand}}", tmp_path, **variables)
    assert read.model.labels == labels
    assert read.model.min_confidence == {"Person": 0.5}


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("train.jsonl", ["train.jsonl"]),
        ("a b,c.jsonl", ["a b,c.jsonl"]),
        ('["a.jsonl", "b.jsonl"]', ["a.jsonl", "b.jsonl"]),
        ("[]", []),
    ],
)
def test_files_come_as_one_path_or_as_json(given, paths, tmp_path):
    variables = {f"ECNER_TRAIN__{split}": given for split in ("TRAIN", "DEV", "TEST")}
    read = settings("train: {train: [other.jsonl]}", tmp_path, **variables).train
    assert read.train == read.dev == read.test == tuple(map(Path, paths))


def test_one_file_needs_no_list(tmp_path):
    assert settings("train: {train: train.jsonl}", tmp_path).train.train == (Path("train.jsonl"),)


def test_layers_and_projections_come_as_json_too():
    variables = {"ENCODER_LAYERS": "[0]", "DECODER_LAYERS": "[]", "PROJECTIONS": '["query", "value"]'}
    lora = load_settings(environ={f"ECNER_TRAIN__LORA__{name}": text for name, text in variables.items()}).train.lora
    assert (lora.encoder_layers, lora.decoder_layers, lora.projections) == ((0,), (), ("query", "value"))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("train.train", "[a.jsonl]"),
        ("train.lora.encoder_layers", "0"),
        ("train.lora.decoder_layers", "0,1"),
        ("train.lora.decoder_layers", '{"0": 1}'),
        ("train.lora.projections", "query"),
        ("train.lora.projections", '"query"'),
    ],
)
def test_a_list_that_is_none_is_told(name, given, tmp_path):
    variable = f"ECNER_{name.upper().replace('.', '__')}"
    message = problems("", tmp_path, **{variable: given})
    assert f"\n  {name}: expected a list; in a variable as a JSON list, such as " in message


def test_all_problems_of_file_and_environment_are_told_at_once(tmp_path):
    message = problems(
        "run: {shards: -1, time_zone: Mars/Olympus}\nsource: {lookback: -1, no_such: 1}\nno_section: {}\nlake: 5",
        tmp_path,
        ECNER_NOSUCH__X="1",
        ECNER_MODEL__NO_SUCH="1",
        ECNER_MODEL__LABELS="{oops",
        ECNER_MODEL__DEVICE="gpu",
    )
    assert "10 problem(s)" in message
    for line in (
        "run.shards: Input should be greater than or equal to 1",
        "run.time_zone: 'Mars/Olympus' is not an IANA time zone",
        "source.lookback: Input should be greater than or equal to 0 seconds",
        "source.no_such: no such setting",
        "no_section: no such setting",
        "lake: expected a section",
        "nosuch: no such setting",
        "model.no_such: no such setting",
        "model.labels: expected a mapping",
        "model.device: ",
    ):
        assert f"\n  {line}" in message
    assert "settings.yaml" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("source: {uri: ''}", "source.uri"),
        ("warehouse: {url: ''}", "warehouse.url"),
        ("source: {columns: {text: 5}}", "source.columns.text"),
        ("source: {time_zone: ../etc}", "source.time_zone"),
        ("source: {lookback: 2 moons}", "source.lookback"),
        ("lake: {uri: gs://bucket/lake}", "lake.uri"),
        ("lake: {keep_days: -1}", "lake.keep_days"),
        ("model: {dtype: int8}", "model.dtype"),
        ("model: {decoder: greedy}", "model.decoder"),
        ("model: {min_confidence: {brand: 1.5}}", "model.min_confidence.brand"),
        ("model: {min_confidence: {HPPX: 0.5}}", "name HPPX by its type brand"),
        ("run: {shards: 0}", "run.shards"),
        ("run: {shards: many}", "run.shards"),
        ("run: {max_batch_chars: 1}", "run.max_batch_chars"),
        ("train: {scheme: IOB1}", "train.scheme"),
        ("train: {experts: 1}", "experts_per_token is 2: expected at most 1"),
        ("train: {decoder_size: 100, decoder_heads: 3}", "expected a multiple of 6"),
        ("train: {adversarial: 0.5}", "method lora freezes the embeddings"),
        ("train: {average: 0.9, launcher: pyproject.toml}", "expected no launcher beside"),
        ("1: {}", "Keys should be strings"),
        ("source: nightly", "source: expected a section"),
    ],
)
def test_a_bad_value_is_told_by_the_name_of_its_setting(text, named, tmp_path):
    assert "1 problem(s)" in (message := problems(text, tmp_path))
    assert named in message


def test_a_threshold_may_be_of_a_label_that_is_its_own_type(tmp_path):
    read = settings("model: {labels: {HPPX: brand, XH: XH}, min_confidence: {XH: 0.5, GPE: 0.5}}", tmp_path)
    assert read.model.min_confidence == {"XH": 0.5, "GPE": 0.5}


@pytest.mark.parametrize(
    ("given", "meant"),
    [("3600", timedelta(hours=1)), ("P2D", timedelta(days=2)), ("PT0.5S", timedelta(seconds=0.5)), ("0", timedelta(0))],
)
def test_a_lookback_is_seconds_or_iso_8601(given, meant, tmp_path):
    assert load_settings(environ={"ECNER_SOURCE__LOOKBACK": given}).source.lookback == meant
    assert settings(f"source: {{lookback: {given}}}", tmp_path).source.lookback == meant


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "source:\n  columns:\nmodel:\n  labels:\nrun:\n  # shards: 8\n"]
)
def test_an_empty_file_or_section_changes_nothing(text, tmp_path):
    assert settings(text, tmp_path) == load_settings(environ={})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"warehouse:\n  url: 'postgresql://u:{SECRET}@h/d\n", "line 3"),
        (f"warehouse: [postgresql://u:{SECRET}@h/d", "is not YAML"),
        (b"\xff\xfe" + SECRET.encode(), "is not YAML in UTF-8"),
        (f"\0 {SECRET}", "is not YAML"),
        (f"- {SECRET}", "holds a list"),
        (SECRET, "holds a str"),
    ],
)
def test_a_file_that_is_no_settings_file(text, told, tmp_path):
    message = problems(text, tmp_path)
    assert told in message
    assert str(tmp_path / "settings.yaml") in message
    assert SECRET not in message


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match=r"nosuch\.yaml: No such file"):
        load_settings(tmp_path / "nosuch.yaml", {})
    with pytest.raises(UsageError, match="Is a directory"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize(
    "text",
    [
        f"warehouse: postgresql://u:{SECRET}@h/d",
        f"warehouse: {{'postgresql://u:{SECRET}@h/d': 1}}",
        f"'postgresql://u:{SECRET}@h/d': 1",
        f"warehouse: {{url: ['postgresql://u:{SECRET}@h/d']}}",
        f"warehouse: {{url: {{postgresql: '//u:{SECRET}@h/d'}}}}",
    ],
)
def test_no_message_tells_a_secret(text, tmp_path):
    assert SECRET not in problems(text, tmp_path)


def test_no_print_of_the_settings_tells_a_secret():
    url = f"postgresql://u:{SECRET}@h/d"
    read = load_settings(environ={"ECNER_WAREHOUSE__URL": url, "ECNER_SOURCE__URI": url})
    assert read.warehouse_at.url == url
    assert read.source.location == url
    for shown in (str(read), repr(read), f"{read.source}", read.model_dump_json(), str(read.model_dump())):
        assert SECRET not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://u:{SECRET}@h/d", "postgresql://u:***@h/d"),
        (f"postgresql://u:{SECRET}@{SECRET}@h:5432/d", "postgresql://u:***@h:5432/d"),
        (f"redis://:{SECRET}/@h", "redis://:***@h"),
        (
            f"postgresql://h/d?user=u&password={SECRET}&sslmode=require",
            "postgresql://h/d?user=u&password=***&sslmode=require",
        ),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("sqlite:///folder/warehouse.db", "sqlite:///folder/warehouse.db"),
        ("/data/reviews/*.parquet", "/data/reviews/*.parquet"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert redacted(url) == shown
    assert redacted(shown) == shown


@given(password=st.text(st.characters(exclude_characters="/@"), min_size=1).map(lambda text: f"~{text}~"))
def test_no_password_is_shown(password):
    assert password not in redacted(f"postgresql://user:{password}@host/database")


def test_settings_do_not_change():
    read = load_settings(environ={})
    with pytest.raises(ValidationError):
        read.run.shards = 5
    with pytest.raises(ValidationError):
        read.run = read.run


EXAMPLES = {"nightly.yaml": Settings.model_fields.keys() - {"train"}, "retrain.yaml": {"train"}}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_shipped_examples_say_what_the_defaults_are(name):
    assert load_settings(resource(f"configs/{name}"), {}) == load_settings(environ={})


@pytest.mark.parametrize(("name", "sections"), EXAMPLES.items())
def test_every_line_that_the_shipped_examples_comment_out_is_a_setting(tmp_path, name, sections):
    lines = resource(f"configs/{name}").read_text("utf-8").splitlines()
    text = "\n".join(re.sub(r"^( +)# (?=\w+: )", r"\1", line) for line in lines)
    # A table and a query exclude each other.
    assert load_settings(environ={}) != settings(re.sub(r"\n +query: .*", "", text), tmp_path)
    given = yaml.safe_load(text)
    assert given.keys() == sections
    for section, values in given.items():
        assert_all_are_there(values, getattr(load_settings(environ={}), section))


def assert_all_are_there(values, section):
    assert values.keys() == {field.alias or name for name, field in type(section).model_fields.items()}
    for key, value in section:
        if isinstance(value, Section):
            assert_all_are_there(values[key], value)


def test_nothing_is_read_at_import():
    assert load_settings.__defaults__[1] is os.environ
