"""The average is that of a plain loop, is lent and given back, and a killed training keeps it."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from transformers.trainer_utils import get_last_checkpoint

from ecner.evaluation import strict_f1
from ecner.training import trainer as module
from ecner.training.average import AVERAGE, WeightAverage
from ecner.training.trainer import train
from tests.tiny import tiny
from tests.training.test_trainer import QUICK, TEXTS, evaluations, weights

AVERAGED = QUICK.model_copy(update={"average": 0.9, "epochs": 2})


def layers(seed=0):
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    made[2].requires_grad_(False)
    return made


@torch.no_grad()
def stepped(average, model, step):
    """A step of some training, which the average takes in."""
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter))
    average.on_step_end(None, SimpleNamespace(global_step=step), None)


@settings(max_examples=30)
@given(st.floats(0.05, 0.999), st.integers(1, 40), st.integers(0, 2**31))
def test_it_is_that_of_a_plain_loop(decay, steps, seed):
    model = layers(seed)
    average = WeightAverage(model, decay)
    expected = {name: parameter.double() for name, parameter in model[:2].named_parameters()}
    frozen = model[2].weight
    for step in range(1, steps + 1):
        stepped(average, model, step)
        share = min(decay, (1 + step) / (10 + step))
        for name, parameter in model[:2].named_parameters():
            expected[name] = share * expected[name] + (1 - share) * parameter.double()
    with average.applied():
        for name, parameter in model[:2].named_parameters():
            torch.testing.assert_close(parameter.double(), expected[name], rtol=1e-4, atol=1e-4)
        assert model[2].weight is frozen


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_lent_is_given_back_bit_for_bit(dtype, fails):
    model = layers().to(dtype)
    average = WeightAverage(model, 0.9)
    stepped(average, model, 1)
    own = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(KeyError) if fails else nullcontext(), average.applied():
        assert {p.dtype for p in model.parameters()} == {dtype}
        assert not torch.equal(model[0].weight, own["0.weight"])
        if fails:
            raise KeyError
    assert all(torch.equal(parameter, own[name]) for name, parameter in model.named_parameters())


def test_what_is_applied_for_good_stays():
    model = layers()
    average = WeightAverage(model, 0.9)
    stepped(average, model, 1)
    with average.applied():
        expected = {name: parameter.clone() for name, parameter in model.named_parameters()}
    average.apply()
    assert all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())


def test_a_saved_average_is_taken_up_and_goes_on(tmp_path):
    model = layers()
    average = WeightAverage(model, 0.9)
    stepped(average, model, 1)
    average.save(tmp_path)
    assert load_file(tmp_path / AVERAGE).keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}
    other = WeightAverage(model, 0.9)
    other.load(tmp_path)
    for parameter in model.parameters():
        parameter.data += 1
    for each in (average, other):
        each.on_step_end(None, SimpleNamespace(global_step=2), None)
        each.save(tmp_path)
        each.saved = load_file(tmp_path / AVERAGE)
    assert all(torch.equal(tensor, other.saved[name]) for name, tensor in average.saved.items())


def killed(monkeypatch, step, train_once):
    """Runs a training that dies right after a step."""
    taken_in = WeightAverage.on_step_end

    def dying(average, args, state, control, **options: object):
        taken_in(average, args, state, control, **options)
        if state.global_step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WeightAverage, "on_step_end", dying)
        with pytest.raises(KeyboardInterrupt):
            train_once()


@pytest.mark.parametrize("dev", [{"dev": TEXTS}, {}])
def test_a_killed_training_resumed_ends_at_the_same_average(tmp_path, monkeypatch, dev):
    whole, resumed = tiny(), tiny(seed=5)  # what a resumed one starts from is of no account
    expected = train(whole, AVERAGED, train=TEXTS, dev=dev, output=tmp_path / "whole").curve
    given = {"train": TEXTS, "dev": dev, "output": tmp_path / "killed"}
    an_epoch = expected[-1]["step"] // 2
    assert an_epoch > 1
    killed(monkeypatch, an_epoch + 1, lambda: train(tiny(), AVERAGED, **given))
    assert get_last_checkpoint(str(given["output"])).endswith(f"checkpoint-{an_epoch}")
    log = train(resumed, AVERAGED, **given).curve
    assert log[-1]["step"] == expected[-1]["step"]
    assert evaluations(log) == evaluations(expected)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], tensor, rtol=1e-5, atol=1e-5)


def test_dev_is_read_with_the_average_and_that_of_the_best_epoch_is_left(tmp_path, monkeypatch):
    checkpoint = tiny()
    seen = []

    def scripted(reader, _texts):
        seen.append({name: tensor.clone() for name, tensor in reader.tagger.state_dict().items()})
        return (0.9, 0.5)[len(seen) - 1]

    monkeypatch.setattr(module, "strict_f1", scripted)
    given = train(checkpoint, AVERAGED, train=TEXTS, dev={"dev": TEXTS}, output=tmp_path).weights
    best = min(tmp_path.glob("checkpoint-*"), key=lambda folder: int(folder.name.rsplit("-", 1)[1]))
    steps, average = load_file(best / "model.safetensors"), load_file(best / AVERAGE)
    assert not torch.equal(steps["crf.start"], average["crf.start"])
    for name, tensor in average.items():
        assert torch.equal(seen[0][name], tensor), name
        assert torch.equal(weights(checkpoint)[name], tensor), name
        assert torch.equal(given[name], tensor), name


@pytest.mark.parametrize("settings", [QUICK, AVERAGED])
def test_without_dev_the_last_epoch_is_left(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(module, "strict_f1", lambda *_: pytest.fail("there is nothing to score"))
    checkpoint = tiny()
    log = train(checkpoint, settings, train=TEXTS, dev={}, output=tmp_path).curve
    last = f"checkpoint-{log[-1]['step']}"
    kept = load_file(tmp_path / last / (AVERAGE if settings.average else "model.safetensors"))
    assert not checkpoint.tagger.training
    assert (log[-1]["epoch"], evaluations(log)) == (settings.epochs, [])
    assert kept.keys() == weights(checkpoint).keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights(checkpoint).items())


def test_texts_are_learnt_by_the_average_too(tmp_path):
    checkpoint = tiny("bert-crf")
    settings = AVERAGED.model_copy(update={"epochs": 12})
    train(checkpoint, settings, train=TEXTS, dev={}, output=tmp_path)
    assert strict_f1(module.Reader(checkpoint, device="cpu"), TEXTS) > 0.9
