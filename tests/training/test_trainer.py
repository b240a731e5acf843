"""Training works: texts are learnt, stopped early, resumed to the same weights, and the best epoch is kept."""

import re
import sys
from pathlib import Path

import pytest
import torch
from transformers.trainer_utils import get_last_checkpoint

from ecner.config import LoraSettings, TrainSettings
from ecner.data.rows import LabelledText
from ecner.evaluation import strict_f1
from ecner.inference.reader import Reader
from ecner.labels import Span
from ecner.model.lora import add_lora
from ecner.model.vocabulary import UNKNOWN
from ecner.training import trainer as module
from ecner.training.trainer import TaggerTrainer, train
from tests.tiny import ARCHITECTURES, VOCABULARY, tiny

BRANDS, MODELS = ("小米", "华为"), ("a1", "b22", "c3", "d45")
TEXTS = [
    LabelledText(f"{before}{brand}手机{model}{after}", (
        Span(len(before), len(before) + 2, "HPPX"),
        Span(len(before) + 4, len(before) + 4 + len(model), "XH"),
    ))
    for brand in BRANDS
    for model in MODELS
    for before, after in [("买了", "，真好用"), ("", "不错")]
]  # fmt: skip
NO_MENTIONS = [LabelledText("真不错", ())]  # on which F1 is 0 whatever is found
QUICK = TrainSettings(epochs=3, batch_chars=64, encoder_lr=3e-3, head_lr=1e-2, patience=9)


def weights(checkpoint):
    return {name: tensor.clone() for name, tensor in checkpoint.tagger.state_dict().items()}


def evaluations(log):
    return [(entry["epoch"], entry["eval_strict_f1"]) for entry in log if "eval_strict_f1" in entry]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_texts_are_learnt(tmp_path, architecture):
    checkpoint = tiny(architecture)
    settings = QUICK.model_copy(update={"epochs": 12})
    before = strict_f1(Reader(checkpoint, device="cpu"), TEXTS)
    log = train(checkpoint, settings, train=TEXTS, dev={"dev": TEXTS}, output=tmp_path).curve
    assert before < 0.5
    assert not checkpoint.tagger.training
    assert strict_f1(Reader(checkpoint, device="cpu"), TEXTS) > 0.9
    assert [epoch for epoch, _ in evaluations(log)] == list(range(1, 13))


def test_dev_sets_are_scored_each_and_on_average(tmp_path):
    settings = QUICK.model_copy(update={"epochs": 1})
    log = train(tiny(), settings, train=TEXTS, dev={"a": TEXTS, "b": NO_MENTIONS}, output=tmp_path).curve
    (scores,) = [entry for entry in log if "eval_strict_f1" in entry]
    assert scores["eval_strict_f1"] == pytest.approx((scores["eval_a_strict_f1"] + scores["eval_b_strict_f1"]) / 2)


def test_training_stops_where_dev_gains_nothing(tmp_path):
    settings = QUICK.model_copy(update={"epochs": 6, "patience": 1})
    log = train(tiny(), settings, train=TEXTS, dev={"dev": NO_MENTIONS}, output=tmp_path).curve
    assert evaluations(log) == [(1, 0), (2, 0)]


def test_the_best_epoch_is_left(tmp_path, monkeypatch):
    checkpoint = tiny()
    seen = []

    def scripted(reader, _texts):
        seen.append({name: tensor.clone() for name, tensor in reader.tagger.state_dict().items()})
        return (0.1, 0.9, 0.5)[len(seen) - 1]

    monkeypatch.setattr(module, "strict_f1", scripted)
    train(checkpoint, QUICK, train=TEXTS, dev={"dev": TEXTS}, output=tmp_path)
    assert len(seen) == 3
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in weights(checkpoint).items())
    assert any(not torch.equal(tensor, seen[2][name]) for name, tensor in seen[1].items())


@pytest.mark.parametrize("still", ["encoder", "head"])
def test_encoder_and_head_learn_at_their_own_rates(tmp_path, still):
    checkpoint = tiny()
    before = weights(checkpoint)
    settings = QUICK.model_copy(update={"epochs": 1, f"{still}_lr": 1e-30})
    train(checkpoint, settings, train=TEXTS, dev={"dev": TEXTS}, output=tmp_path)
    moved = {name for name, tensor in weights(checkpoint).items() if (tensor - before[name]).abs().max() > 1e-20}
    encoder = {name for name in before if name.startswith("encoder.")}
    expected = set(before) - encoder if still == "encoder" else encoder
    assert moved <= expected
    parts = {name.split(".")[0] for name in expected}
    assert {name.split(".")[0] for name in moved} == parts


def test_every_parameter_is_in_one_group_with_its_rate_and_decay(tmp_path):
    checkpoint = tiny()
    args = module._arguments(QUICK, tmp_path, is_judged=False)
    trainer = TaggerTrainer(checkpoint, QUICK, train=TEXTS, dev={}, args=args)
    groups = trainer.create_optimizer().param_groups
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    named = dict(checkpoint.tagger.named_parameters())
    assert sum(len(group["params"]) for group in groups) == len(of) == len(named)
    for name, parameter in named.items():
        group = of[id(parameter)]
        assert group["lr"] == (QUICK.encoder_lr if name.startswith("encoder.") else QUICK.head_lr), name
        is_free = name.endswith("bias") or "norm" in name.lower()
        assert group["weight_decay"] == (0 if is_free else QUICK.weight_decay), name


RATES = {"encoder_lr": 8.0, "head_lr": 3.0, "crf_lr": 5.0, "layer_decay": 0.5}
BY_HAND = {  # three layers; what lies below the top one is halved a layer
    "encoder.embeddings.": 1.0, "encoder.encoder.layer.0.": 2.0, "encoder.encoder.layer.1.": 4.0,
    "encoder.encoder.layer.2.": 8.0, "crf.": 5.0, "encoder_classifier.": 3.0, "branch.": 3.0, "branch_classifier.": 3.0,
}  # fmt: skip


def rates(checkpoint, settings, folder, adapters=None):
    """The learning rate of each parameter that is trained, by its name."""
    args = module._arguments(settings, folder, is_judged=False)
    trainer = TaggerTrainer(checkpoint, settings, train=TEXTS, dev={}, args=args, adapters=adapters)
    of = {id(p): group["lr"] for group in trainer.create_optimizer().param_groups for p in group["params"]}
    return {name: of[id(p)] for name, p in trainer.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rates_fall_with_the_depth_of_the_layer_and_the_crf_has_its_own(tmp_path, architecture):
    found = rates(tiny(architecture, encoder_layers=3), QUICK.model_copy(update=RATES), tmp_path)
    for name, rate in found.items():
        assert rate == next(own for part, own in BY_HAND.items() if name.startswith(part)), name
    parts = {part for part in BY_HAND if architecture == "hybrid" or "branch" not in part}
    assert parts == {part for part in BY_HAND if any(name.startswith(part) for name in found)}
    settings = QUICK.model_copy(update=RATES | {"crf_lr": None})
    assert rates(tiny(architecture), settings, tmp_path)["crf.transitions"] == 3.0


def test_a_pretrained_decoder_learns_like_the_encoder_without_decay(tmp_path):
    settings = QUICK.model_copy(update=RATES | {"decoder_base": "some"})
    found = rates(tiny(), settings, tmp_path)
    assert {rate for name, rate in found.items() if name.startswith("branch.decoder.")} == {8.0}
    assert {rate for name, rate in found.items() if name.startswith(("branch.moe.", "branch.adapter."))} == {3.0}


def test_adapters_learn_at_their_own_rate_and_what_is_trained_beside_them_at_its_own(tmp_path):
    checkpoint = tiny()
    adapters = add_lora(checkpoint.tagger, LoraSettings(lr=7.0))
    settings = QUICK.model_copy(update=RATES | {"lora": LoraSettings(lr=7.0)})
    found = rates(checkpoint, settings, tmp_path, adapters)
    expected = {".lora_": 7.0, ".crf.": 5.0, "classifier.": 3.0, ".adapter.": 3.0, ".moe.": 3.0}
    for name, rate in found.items():
        assert rate == next(own for part, own in expected.items() if part in name), name
    assert {7.0, 5.0, 3.0} == set(found.values())


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_characters_are_hidden_in_training(tmp_path, share):
    checkpoint = tiny()
    settings = QUICK.model_copy(update={"character_dropout": share})
    args = module._arguments(settings, tmp_path, is_judged=False)
    trainer = TaggerTrainer(checkpoint, settings, train=TEXTS * 20, dev={}, args=args)
    batches = list(trainer.get_train_dataloader())
    is_hidden = torch.cat([b["input_ids"][b["attention_mask"].bool()] for b in batches]) == VOCABULARY.ids[UNKNOWN]
    assert is_hidden.float().mean().item() == pytest.approx(share, abs=0.05)


def interrupted(monkeypatch, at, train_once):
    """Runs a training that dies in its evaluation number ``at`` (from 1)."""
    calls = []

    def dying(reader, texts):
        calls.append(texts)
        if len(calls) == at:
            raise KeyboardInterrupt
        return strict_f1(reader, texts)

    with monkeypatch.context() as patch:
        patch.setattr(module, "strict_f1", dying)
        with pytest.raises(KeyboardInterrupt):
            train_once()


def test_a_killed_training_resumed_ends_at_the_same_weights(tmp_path, monkeypatch):
    whole, killed, resumed = tiny(), tiny(), tiny(seed=5)  # what a resumed one starts from is of no account
    expected = train(whole, QUICK, train=TEXTS, dev={"dev": TEXTS}, output=tmp_path / "whole").curve
    given = {"train": TEXTS, "dev": {"dev": TEXTS}, "output": tmp_path / "killed"}
    interrupted(monkeypatch, 2, lambda: train(killed, QUICK, **given))
    step = int(get_last_checkpoint(str(given["output"])).rsplit("-", 1)[1])
    log = train(resumed, QUICK, **given).curve
    assert 0 < step < log[-1]["step"] == expected[-1]["step"]
    assert evaluations(log) == evaluations(expected)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], tensor, rtol=1e-5, atol=1e-5)


def test_a_resumed_training_keeps_its_count_of_epochs_without_gain(tmp_path, monkeypatch):
    settings = QUICK.model_copy(update={"epochs": 8, "patience": 2})
    given = {"train": TEXTS, "dev": {"dev": NO_MENTIONS}, "output": tmp_path}
    interrupted(monkeypatch, 3, lambda: train(tiny(), settings, **given))
    assert evaluations(train(tiny(), settings, **given).curve) == [(1, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize("content", [None, '{"epoch": 1'])
def test_a_checkpoint_that_was_left_half_written_is_passed_over(tmp_path, monkeypatch, content):
    given = {"train": TEXTS, "dev": {"dev": TEXTS}, "output": tmp_path}
    interrupted(monkeypatch, 3, lambda: train(tiny(), QUICK, **given))
    newest = Path(get_last_checkpoint(str(tmp_path)))
    if content is None:
        (newest / "trainer_state.json").unlink()
    else:
        (newest / "trainer_state.json").write_text(content)
    log = train(tiny(), QUICK, **given).curve
    assert [epoch for epoch, _ in evaluations(log)] == [1, 2, 3]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_goes_to_stderr_as_a_line_an_epoch_and_a_bar_on_a_terminal(tmp_path, capsys, monkeypatch, is_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    steps = train(tiny(), QUICK, train=TEXTS, dev={"dev": TEXTS}, output=tmp_path).curve[-1]["step"]
    told = capsys.readouterr()
    assert told.out == ""
    assert re.findall(r"epoch (\d) of 3: strict F1 on dev 0\.\d{4}", told.err) == ["1", "2", "3"]
    assert (f"{steps}/{steps} [" in told.err) == is_terminal
