"""A training in its folder: adapters and whole models, taken up again, and by two processes."""

import json
from subprocess import CompletedProcess

import pytest
import torch

from ecner.config import TrainSettings
from ecner.errors import DataError, RunError, UsageError
from ecner.labels import TagSet
from ecner.model.checkpoint import Checkpoint, load_adapted
from ecner.model.lora import ADAPTER_WEIGHTS
from ecner.training.run import CURVE, TRAINED, Job, run_training
from tests.tiny import ARCHITECTURES, LABELS, as_base, tiny
from tests.training.test_trainer import TEXTS

QUICK = {"epochs": 2, "batch_chars": 64, "head_lr": 1e-2, "encoder_lr": 3e-3, "lora": {"r": 2, "lr": 1e-2}}
TAGS = TagSet.from_labels(LABELS)


def made(folder, architecture="hybrid", *, tag_set=TAGS, **options: object):
    """A job in a folder, on a tiny base that lies beside it."""
    (base,) = [*folder.glob("base-*")] or [as_base(tiny(architecture), folder)]
    work = folder / "work"
    Job(TrainSettings.model_validate(QUICK | options), tag_set, base).write(work, TEXTS, {"dev": TEXTS})
    return work


def loaded(work):
    """What a training left, as a model; an adapter's folder is completed by what a version adds."""
    folder = work / TRAINED
    if (folder / ADAPTER_WEIGHTS).is_file():
        (base,) = work.parent.glob("base-*")
        (folder / "version.json").write_text(json.dumps({"base": base.name}))
        (folder.parent / base.name).symlink_to(base)
        return load_adapted(folder, merge=True)
    return Checkpoint.load(folder)


def test_a_job_comes_back_from_its_folder(tmp_path):
    work = made(tmp_path, tag_set=TagSet.from_labels(LABELS, "BILOU"), lora={"encoder_layers": [0], "moe": False})
    job = Job.read(work)
    assert (job.tag_set.scheme, job.base, job.new) == ("BILOU", next(tmp_path.glob("base-*")), ())
    assert job.settings.lora.encoder_layers == (0,)
    assert not job.settings.lora.moe


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_classifiers_crf_and_adapter_layer_are_trained_and_kept(tmp_path, architecture, method):
    work = made(tmp_path, architecture, method=method)
    run_training(work)
    before, after = Checkpoint.load(next(tmp_path.glob("base-*"))).tagger.state_dict(), loaded(work).tagger.state_dict()
    assert before.keys() == after.keys()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor.half(), after[name].half())}
    parts = {name.split(".")[0] if not name.startswith("branch.") else name.split(".")[1] for name in moved}
    body = {"encoder", "encoder_classifier", "crf"}
    hybrid = {"branch_classifier", "adapter", "moe", "decoder"} if architecture == "hybrid" else set()
    assert parts == body | hybrid
    if method == "lora":
        frozen = [
            name for name in moved if name.startswith(("encoder.", "branch.decoder.")) and "attention" not in name
        ]
        assert [name for name in frozen if "self_attn" not in name] == []


def test_a_training_that_has_ended_is_not_done_again(tmp_path):
    work = made(tmp_path)
    run_training(work)
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    run_training(work)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*")} == before


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    work = made(tmp_path, processes=2, epochs=4)
    run_training(work)
    curve = json.loads((work / CURVE).read_text())
    scores = [row["eval_strict_f1"] for row in curve if "eval_strict_f1" in row]
    assert len(scores) == 4
    assert scores[-1] > scores[0]
    (tmp_path / "alone").mkdir()
    alone = made(tmp_path / "alone", epochs=4)
    run_training(alone)
    steps = next(row["step"] for row in json.loads((alone / CURVE).read_text()) if "eval_strict_f1" in row)
    assert next(row["step"] for row in curve if "eval_strict_f1" in row) == -(-steps // 2)
    assert loaded(work).tagger.crf.transitions.isfinite().all()


def test_a_process_that_fails_is_told(tmp_path, monkeypatch):
    work = made(tmp_path, processes=2)
    monkeypatch.setattr("ecner.training.run.subprocess.run", lambda command, **_: CompletedProcess(command, 1))
    with pytest.raises(RunError, match="a training process of 2 ended with status 1"):
        run_training(work)
    assert not (work / CURVE).exists()


def test_what_does_not_fit_is_told_before_processes_are_started(tmp_path, monkeypatch):
    work = made(tmp_path, processes=2, lora={"encoder_layers": [9]})
    monkeypatch.setattr("ecner.training.run.subprocess.run", lambda *_, **__: pytest.fail("it was started"))
    with pytest.raises(UsageError, match="encoder_layers names 9"):
        run_training(work)


def test_texts_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ecner.training.run.write_corpus", lambda *_: ("row 1",))
    with pytest.raises(DataError, match="cannot be trained on, such as row 1"):
        made(tmp_path)
