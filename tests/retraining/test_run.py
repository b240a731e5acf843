"""A retrain as a whole: what it trains, what it enters, and that it is entered once."""

# ruff: noqa: S311 - nothing here is secret

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ecner.data.corpus import read_corpus, write_corpus
from ecner.data.hashes import text_hash
from ecner.data.rows import LabelledText
from ecner.errors import ModelError, RunError, UsageError
from ecner.inference.reader import Reader
from ecner.labels import Span
from ecner.model.checkpoint import Checkpoint
from ecner.model.manifest import write_manifest
from ecner.registry import resolve, resolve_in, training_texts
from ecner.retraining import run, train
from ecner.retraining.promotion import promote, rollback
from ecner.retraining.run import prepare, run_retrain
from ecner.training.run import CURVE
from tests.retraining.conftest import CHAMPION_KNOWS

READ = """
import json, sys
from pathlib import Path
from ecner.data.corpus import read_corpus
from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint
from ecner.model.manifest import write_manifest
reader = Reader(Checkpoint.load(Path(sys.argv[1])), device="cpu")
texts = [row.text for row in read_corpus(sys.argv[2]).texts]
print(json.dumps(reader.read(texts).spans(reader.tag_set.labels)))
"""


def statuses(house):
    return dict(house.read("model_versions").select("version", "status").iter_rows())


def retrained(settings):
    return run_retrain(prepare(settings))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_challenger_that_passes_is_promoted(house, configured, labels, method):
    verdict = retrained(configured(method=method))
    old = resolve("default").version
    assert (verdict.outcome, verdict.champion) == ("promoted", old)
    assert statuses(house) == {old: "archived", verdict.version: "champion"}
    (row,) = house.read("model_versions", version=verdict.version).to_dicts()
    assert (row["parent"], row["architecture"]) == (old, "hybrid")
    assert row["base"].startswith("base-")
    folder = Path(row["uri"])
    trained_on = {text_hash(text.text) for text in read_corpus(labels / "train.jsonl").texts}
    assert training_texts(folder) == trained_on | training_texts(house.model)  # its parent's are in it too
    assert (folder / "adapter_model.safetensors").exists() == (method == "lora")
    assert (folder / "model.safetensors").exists() == (method == "full")
    assert "<svg" in (folder / "curve.svg").read_text()
    decisions = house.read("gate_decisions", version=verdict.version)
    assert set(decisions["outcome"]) <= {"passed", "not judged"}
    assert {"gain", "gain_lower", "slowdown", "fresh_texts"} < set(decisions["rule"])
    assert decisions.filter(rule="fresh_texts")["value"].item() == 160 - CHAMPION_KNOWS
    assert not house.read("model_bridge", new_version=verdict.version).is_empty()
    for version in (old, verdict.version):
        figures = house.read("model_evaluations", version=version, metric="strict_f1", entity_type="all")
        assert {f"{labels.name}_test", f"{labels.name}_test:fresh"} <= set(figures["dataset"])
    report = Path(verdict.report).read_text()
    assert verdict.version in report
    assert verdict.sentence in verdict.to_text()


@pytest.mark.slow
def test_a_rerun_finds_what_was_done(house, configured):
    first = retrained(configured(promote=False))
    work = Path(first.report).parent
    before = (work / CURVE).stat().st_mtime_ns
    assert not list(work.glob("checkpoint-*"))
    again = retrained(configured(promote=False))
    assert (first.outcome, again.outcome) == ("waiting", "waiting")
    assert again.version == first.version
    assert (work / CURVE).stat().st_mtime_ns == before
    assert list(statuses(house).values()).count("candidate") == 1
    assert retrained(configured()).outcome == "promoted"
    assert retrained(configured()).outcome == "leads already"
    assert len(statuses(house)) == 2
    rollback(configured())
    taken_back = retrained(configured())
    assert (taken_back.outcome, taken_back.reason) == ("waiting", "it was champion before")
    assert statuses(house)[first.version] == "archived"


@pytest.mark.slow
def test_texts_of_any_ancestor_are_not_new(house, configured, labels):
    """A second generation from the champion, judged on what the first was trained on."""
    first = retrained(configured())
    second = retrained(configured(base="champion", seed=1, test=[str(labels / "train.jsonl")]))
    (row,) = house.read("gate_decisions", version=second.version, champion=first.version, rule="fresh_texts").to_dicts()
    assert (row["value"], row["outcome"]) == (0, "failed")


def test_a_twin_of_the_champion_changes_nothing(house, configured):
    """The same model from another training: its folder has another name."""
    first = retrained(configured())
    models = house.folder / "lake/models"
    shutil.copytree(models / first.version, models / "twin")
    (models / "twin/curve.json").write_text("[]")
    write_manifest(models / "twin")
    stages = prepare(configured())
    snapshot = stages.snapshot()
    candidate = replace(stages.train(snapshot), version="twin", folder=str(models / "twin"))
    found = stages.decide(snapshot, candidate, stages.compare(snapshot, candidate))
    assert found.outcome == "leads already"
    assert f"is the same model as the champion {first.version}" in found.sentence
    assert statuses(house)[first.version] == "champion"


def test_a_lake_that_was_moved_is_found_again(house, configured):
    version = retrained(configured()).version
    lake = house.folder / "lake"
    lake.rename(house.folder / "moved")
    with pytest.raises(ModelError, match=r"if it was moved, ecner models promote FOLDER"):
        resolve_in(house.address, "champion")
    promote(configured(), str(house.folder / "moved/models" / version))
    assert resolve_in(house.address, "champion").folder == house.folder / "moved/models" / version


@pytest.mark.slow
def test_a_retrain_on_an_object_store_leads_on_any_machine(house, configured, object_store, tmp_path):
    lake = object_store.lake("retrain", cache=tmp_path / "cache")
    settings = configured().model_copy(update={"lake": lake})
    verdict = retrained(settings)
    assert (verdict.outcome, retrained(settings).outcome) == ("promoted", "leads already")
    (row,) = house.read("model_versions", version=verdict.version).to_dicts()
    assert row["uri"] == f"{lake.uri}/models/{verdict.version}"
    assert not (house.folder / "lake").exists()
    there = lake.model_copy(update={"cache": tmp_path / "another"})
    found = resolve_in(house.address, "champion", there)
    assert found.folder == tmp_path / "another/models" / verdict.version
    Checkpoint.load(found.folder)
    elsewhere = settings.model_copy(update={"lake": there})
    assert rollback(elsewhere).version == resolve("default").version
    assert promote(elsewhere, verdict.version).version == verdict.version
    based = settings.train.model_copy(update={"base": "champion", "promote": False, "seed": 1})
    following = retrained(elsewhere.model_copy(update={"train": based}))
    (row,) = house.read("model_versions", version=following.version).to_dicts()
    assert (row["parent"], row["uri"]) == (verdict.version, f"{lake.uri}/models/{following.version}")


def test_a_lake_that_cannot_be_used_is_told_first(configured, object_store):
    lake = object_store.lake("x").model_copy(update={"uri": "s3://another/x"})
    with pytest.raises(UsageError, match="there is no bucket another"):
        prepare(configured().model_copy(update={"lake": lake}))


def test_one_training_is_done_by_one_process(configured, monkeypatch):
    stages = prepare(configured())
    snapshot = stages.snapshot()

    def at_once(_work):
        stages.train(snapshot)

    monkeypatch.setattr(train, "run_training", at_once)
    with pytest.raises(RunError, match="another retrain is at this very training"):
        stages.train(snapshot)


def test_an_empty_note_of_a_version_is_no_version(house, configured):
    first = retrained(configured(promote=False))
    (Path(first.report).parent / "version").write_text("")
    assert retrained(configured(promote=False)).version == first.version


@pytest.mark.slow
def test_a_changed_recipe_is_another_training(house, configured):
    versions = {retrained(configured(promote=False, seed=seed)).version for seed in (0, 1)}
    assert len(versions) == 2
    bases = house.read("model_versions").filter(status="candidate")["base"]
    assert bases.n_unique() == 1


def test_an_adapter_is_read_the_same_in_a_fresh_process(house, configured, labels):
    verdict = retrained(configured(promote=False))
    folder = resolve_in(house.address, verdict.version).folder
    data = labels / "dev.jsonl"
    reader = Reader(Checkpoint.load(folder), device="cpu")
    spans = reader.read([text.text for text in read_corpus(data).texts]).spans(reader.tag_set.labels)
    found = subprocess.run([sys.executable, "-c", READ, folder, data], capture_output=True, check=True)
    assert json.loads(found.stdout) == [[list(span) for span in row] for row in spans]
    assert sum(map(len, spans)) > 50


def test_a_flipped_byte_in_any_file_of_a_version_is_refused(house, configured):
    verdict = retrained(configured(promote=False))
    folder = resolve_in(house.address, verdict.version).folder
    base = folder.parent / json.loads((folder / "version.json").read_text())["base"]
    files = sorted([*folder.iterdir(), *base.iterdir()])
    assert len(files) >= 11
    for path in files:
        content = path.read_bytes()
        place = random.Random(path.name).randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ModelError, match="back"):
            Checkpoint.load(resolve_in(house.address, verdict.version).folder)
        path.write_bytes(content)
    Checkpoint.load(resolve_in(house.address, verdict.version).folder)


def test_a_challenger_trained_on_shuffled_labels_is_refused(house, configured, labels, tmp_path):
    texts = read_corpus(labels / "train.jsonl").texts
    names = [span.label for text in texts for span in text.spans]
    shuffled = iter(random.Random(0).sample(names, len(names)))
    wrong = [LabelledText(t.text, tuple(s._replace(label=next(shuffled)) for s in t.spans)) for t in texts]
    write_corpus(tmp_path / "train.jsonl", wrong, "jsonl")
    gate = {"max_slowdown": 50, "max_entity_change": 1}
    honest = retrained(configured(gate=gate, epochs=6))
    assert honest.outcome == "promoted", honest.reason
    verdict = retrained(configured(gate=gate, train=[str(tmp_path / "train.jsonl")]))
    assert verdict.outcome == "refused"
    assert "gain is -" in verdict.reason
    assert statuses(house)[verdict.version] == "candidate"
    assert house.read("model_versions", version=verdict.version)["reason"].item() == verdict.reason
    assert "failed" in set(house.read("gate_decisions", version=verdict.version)["outcome"])
    assert statuses(house)[honest.version] == "champion"


def test_other_labels_are_not_comparable_and_wait(house, configured, labels, source, tmp_path):
    """Another label set, whose O is the last id, by settings alone; then a night with that model."""
    renamed = {"HPPX": "PERSON", "HCCX": "LOCATION", "XH": "TIME", "MISC": "ORGANIZATION"}
    for name in ("train", "dev", "test"):
        texts = read_corpus(labels / f"{name}.jsonl").texts
        other = [LabelledText(t.text, tuple(Span(a, b, renamed[c]) for a, b, c in t.spans)) for t in texts]
        write_corpus(tmp_path / f"{name}.txt", other, "conll")
    tags = [f"{prefix}-{label}" for prefix in "BI" for label in sorted(renamed.values())]
    (tmp_path / "schema.json").write_text(json.dumps({tag: i for i, tag in enumerate([*tags, "O"])}))
    files = {name: [str(tmp_path / f"{name}.txt")] for name in ("train", "dev", "test")}
    verdict = retrained(configured(**files, labels=str(tmp_path / "schema.json"), epochs=8))
    assert verdict.outcome == "not comparable"
    assert "PERSON" in verdict.reason
    assert statuses(house)[verdict.version] == "candidate"
    model = resolve_in(house.address, verdict.version)
    assert Checkpoint.load(model.folder).tagger.config.tag_set.ids["O"] == 8
    report = house.night(source, model={"ref": verdict.version, "device": "cpu"})
    assert house.run(report)["model_version"] == verdict.version
    assert set(house.read("mentions")["entity_type"]) == set(renamed.values())
    assert promote(configured(), verdict.version).version == verdict.version


def test_without_test_texts_dev_is_used_and_the_report_says_so(configured):
    verdict = retrained(configured(test=[], promote=False))
    assert run._DEV_IS_TEST[:30] in Path(verdict.report).read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": ["nosuch.jsonl"]}, "no such file of labelled texts: nosuch.jsonl"),
        ({"base": "lora-0123456789ab"}, "no model 'lora-0123456789ab'"),
        ({"base": "no/such/folder"}, "train.base: no model 'no/such/folder': expected .*, or the folder or hub name"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(house, configured, options, message):
    with pytest.raises(UsageError, match=message):
        prepare(configured(**options))
    assert not house.folder.exists()
