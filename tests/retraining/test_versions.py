"""Version folders: named after their content, shared bases, and merging only where it changes no tag."""

import json

import pytest

from ecner.config import LoraSettings, ModelSettings
from ecner.errors import ModelError, UsageError
from ecner.model.checkpoint import Checkpoint
from ecner.model.lora import add_lora
from ecner.registry import training_texts
from ecner.retraining import versions
from ecner.retraining.versions import merges_exactly, save_base, save_version
from ecner.training.run import CURVE, TRAINED, run_training
from tests.tiny import tiny
from tests.training.test_run import made
from tests.training.test_trainer import TEXTS

CPU = ModelSettings(device="cpu")


@pytest.fixture
def trained(tmp_path):
    """A finished training on a base in the folder of versions."""
    models = tmp_path / "models"
    save_base(models, tiny())
    work = made(models)  # which finds the base there
    run_training(work)
    return work


def tempered(checkpoint):
    return dict.fromkeys(checkpoint.tagger.config.tag_set.labels, 1.5)


def version_of(work, merging=lambda _: True):
    (base,) = work.parent.glob("base-*")
    facts = {"base": base.name, "parent": None}
    return save_version(
        work.parent, work, training_texts=["b", "a"], facts=facts, merging=merging, calibrating=tempered
    )


def test_one_base_is_kept_once(tmp_path):
    first, again, other = (save_base(tmp_path, tiny(seed=seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({first.name, other.name})


def test_a_base_has_weights_of_its_own(tmp_path):
    checkpoint = tiny()
    add_lora(checkpoint.tagger, LoraSettings())
    with pytest.raises(UsageError, match="could not be merged"):
        save_base(tmp_path, checkpoint)


def test_a_version_is_named_after_its_content(trained):
    first, again, other = version_of(trained), version_of(trained), version_of(trained, lambda _: False)
    assert first == again != other
    assert first.name.startswith("lora-")
    assert (first / "training_texts.txt").read_text() == "a\nb\n"
    assert (first / CURVE).read_text() == (trained / CURVE).read_text()
    assert not list(trained.parent.glob(".*"))


@pytest.mark.parametrize("is_exact", [True, False])
def test_an_adapter_is_merged_only_where_that_changes_no_tag(trained, is_exact):
    folder = version_of(trained, lambda _: is_exact)
    assert json.loads((folder / "version.json").read_text())["merged"] == is_exact
    names = [name for name, _ in Checkpoint.load(folder).tagger.named_parameters()]
    assert any("lora_" in name for name in names) != is_exact


def test_merging_is_tried_on_texts(trained, monkeypatch):
    texts = [text.text for text in TEXTS]
    folder = version_of(trained)
    assert merges_exactly(folder, texts, CPU)
    load = versions.load_adapted

    def wrong(folder, *, merge):
        checkpoint = load(folder, merge=merge)
        if merge:
            checkpoint.tagger.crf.transitions.data.neg_()
            checkpoint.tagger.encoder_classifier.weight.data.neg_()
        return checkpoint

    monkeypatch.setattr(versions, "load_adapted", wrong)
    assert not merges_exactly(folder, texts, CPU)


def test_a_version_that_was_altered_is_not_taken_for_the_same(trained):
    folder = version_of(trained)
    (folder / "training_texts.txt").write_text("")
    with pytest.raises(ModelError, match="changed: training_texts"):
        version_of(trained)


def test_a_failure_leaves_no_folder_behind(trained):
    (trained / TRAINED / "adapter_config.json").write_text("{")

    def fails(_folder):
        raise ModelError("no")

    with pytest.raises(ModelError, match="no"):
        version_of(trained, fails)
    assert sorted(path.name[:4] for path in trained.parent.iterdir()) == ["base", "work"]


def test_what_was_not_known_of_training_texts_is_not_told(trained):
    (base,) = trained.parent.glob("base-*")
    folder = save_version(
        trained.parent, trained, training_texts=None, facts={"base": base.name}, merging=bool, calibrating=tempered
    )
    assert training_texts(folder) is None


def test_a_version_carries_its_temperatures_and_its_weights_stay(trained):
    folder = version_of(trained)
    checkpoint = Checkpoint.load(folder)
    assert checkpoint.tagger.config.temperatures == tempered(checkpoint)
    assert set(tempered(checkpoint)) == set(checkpoint.tagger.config.tag_set.labels)
