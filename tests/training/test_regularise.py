"""Divergence and worst-case embeddings against torch and first-order calculus; a step with each of them by hand."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Categorical, kl_divergence

from ecner.config import LoraSettings
from ecner.model.lora import add_lora
from ecner.training import trainer as module
from ecner.training.regularise import adversarial, divergence
from ecner.training.trainer import TaggerTrainer, train
from tests.model.test_tagger import LABELLED, batch
from tests.tiny import tiny
from tests.training.test_trainer import QUICK, TEXTS, weights

SEEDS = st.integers(0, 2**31)


def logits(seed, scale=3.0):
    """Logits of two passes over a padded batch, and its mask."""
    draw = torch.Generator().manual_seed(seed)
    left, right = (scale * torch.randn(3, 5, 4, generator=draw) for _ in range(2))
    lengths = torch.randint(1, 6, (3, 1), generator=draw)
    return left, right, torch.arange(5) < lengths


@given(SEEDS)
def test_divergence_is_the_mean_of_both_directions(seed):
    left, right, mask = logits(seed)
    first, second = Categorical(logits=left.double()), Categorical(logits=right.double())
    apart = (kl_divergence(first, second) + kl_divergence(second, first)) / 2  # (B, T)
    torch.testing.assert_close(divergence(left, right, mask).double(), apart[mask].mean(), rtol=1e-4, atol=1e-6)


@given(SEEDS)
def test_divergence_is_symmetric_and_0_of_equal_distributions(seed):
    left, right, mask = logits(seed)
    torch.testing.assert_close(divergence(left, right, mask), divergence(right, left, mask))
    assert divergence(left, right, mask) > 0
    assert divergence(left, left, mask) == 0
    assert divergence(left, left + 2.0, mask).abs() < 1e-5  # a softmax does not see a shift


@given(SEEDS, st.sampled_from([0.0, 9.0, float("nan")]))
def test_divergence_passes_over_padding(seed, noise):
    left, right, mask = logits(seed)
    assert divergence(left, right.masked_fill(~mask[..., None], noise), mask) == divergence(left, right, mask)
    assert divergence(left, right, torch.zeros_like(mask)) == 0


def inputs_of(tagger, rows=LABELLED):
    tags = [tagger.config.tag_set.encode(spans, len(text)) for text, spans in rows]
    return batch([text for text, _ in rows], tags=tags)


@pytest.mark.parametrize("size", [1e-5, 1e-4])
def test_the_loss_rises_by_the_gradients_length(checkpoint, size):
    tagger = checkpoint.tagger.double()
    inputs = inputs_of(tagger)
    loss = tagger(**inputs).loss
    loss.backward()
    weight = tagger.get_input_embeddings().weight
    with adversarial(weight, size):
        raised = tagger(**inputs).loss
    assert (raised - loss).item() == pytest.approx(size * weight.grad.norm().item(), rel=0.02)


@pytest.mark.parametrize("fails", [False, True])
def test_embeddings_are_restored_bit_for_bit(fails):
    weight = nn.Parameter(torch.randn(7, 3))
    weight.grad = torch.randn(7, 3)
    own = weight.clone()
    with pytest.raises(KeyError) if fails else nullcontext(), adversarial(weight, 0.5):
        assert (weight - own).norm().item() == pytest.approx(0.5, rel=1e-5)
        if fails:
            raise KeyError
    assert torch.equal(weight, own)


def test_embeddings_without_a_direction_stay():
    weight = nn.Parameter(torch.randn(7, 3))
    weight.grad = torch.zeros(7, 3)
    own = weight.clone()
    with adversarial(weight, 0.5):
        assert torch.equal(weight, own)


def test_frozen_embeddings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="embeddings, which are frozen"), adversarial(nn.Parameter(torch.ones(2)), 1):
        pass
    checkpoint = tiny()
    adapters = add_lora(checkpoint.tagger, LoraSettings())
    settings = QUICK.model_copy(update={"adversarial": 0.5})
    with pytest.raises(ValueError, match="embeddings, which are frozen"):
        train(checkpoint, settings, train=TEXTS, dev={}, output=tmp_path, adapters=adapters)


def trainer_of(checkpoint, tmp_path, **measures: float):
    settings = QUICK.model_copy(update=measures | {"dtype": "float32"})
    args = module._arguments(settings, tmp_path, is_judged=False)
    trainer = TaggerTrainer(checkpoint, settings, train=TEXTS, dev={}, args=args)
    trainer.current_gradient_accumulation_steps = 1  # which its loop would set
    return trainer


def without_dropout(checkpoint):
    for part in checkpoint.tagger.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return checkpoint


def test_an_adversarial_step_adds_the_gradient_at_the_moved_embeddings(tmp_path):
    checkpoint, twin = (without_dropout(tiny("bert-crf")) for _ in range(2))
    trainer = trainer_of(checkpoint, tmp_path, adversarial=0.7)
    inputs = inputs_of(twin.tagger)
    trainer.training_step(checkpoint.tagger, inputs)
    twin.tagger(**inputs).loss.backward()
    weight = twin.tagger.get_input_embeddings().weight
    once = {name: parameter.grad.clone() for name, parameter in twin.tagger.named_parameters()}
    with torch.no_grad():
        weight += 0.7 * weight.grad / weight.grad.norm()
    twin.tagger(**inputs).loss.backward()
    expected = dict(twin.tagger.named_parameters())
    for name, parameter in checkpoint.tagger.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected["crf.start"].grad, 2 * once["crf.start"], rtol=1e-3)


def test_a_consistent_step_is_two_passes_and_how_far_they_are_apart(tmp_path):
    checkpoint = tiny()
    trainer = trainer_of(checkpoint, tmp_path, consistency=0.8)
    checkpoint.tagger.train()
    inputs = inputs_of(checkpoint.tagger)
    torch.manual_seed(4)
    found = trainer.compute_loss(checkpoint.tagger, inputs)
    torch.manual_seed(4)
    first, second = (checkpoint.tagger(**inputs) for _ in range(2))
    apart = divergence(first.logits, second.logits, inputs["attention_mask"].bool())
    assert apart > 1e-3
    torch.testing.assert_close(found, (first.loss + second.loss) / 2 + 0.8 * apart)
    checkpoint.tagger.eval()  # no dropout, no difference
    torch.testing.assert_close(trainer.compute_loss(checkpoint.tagger, inputs), checkpoint.tagger(**inputs).loss)


def trained(folder, **measure: float):
    """The weights after an epoch."""
    checkpoint = tiny("bert-crf")
    settings = QUICK.model_copy(update={"epochs": 1} | measure)
    train(checkpoint, settings, train=TEXTS, dev={}, output=folder)
    return weights(checkpoint)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("measure", [{"adversarial": 0.5}, {"consistency": 1.0}, {"character_dropout": 0.3}])
def test_a_training_with_a_measure_is_another_one(tmp_path, plain, measure):
    found = trained(tmp_path, **measure)
    assert all(tensor.isfinite().all() for tensor in found.values())
    moved = {name for name, tensor in plain.items() if not torch.equal(tensor, found[name])}
    assert {"crf.transitions", "encoder.embeddings.word_embeddings.weight"} <= moved


def test_a_training_without_one_is_the_same_again(tmp_path, plain):
    assert all(torch.equal(tensor, plain[name]) for name, tensor in trained(tmp_path).items())
