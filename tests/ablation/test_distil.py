"""The cross-entropy against a sum over all paths; teachers are read once, each text as it is read alone."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecner.training.batches import TaggedTexts
from ecner.training.trainer import train
from tests.ablation.distil import Distiller, collate_taught, cross_entropy, taught
from tests.ablation.ensemble import Ensemble
from tests.model.test_crf import draw_scores, legal_paths, path_score, scheme_crf, total
from tests.tiny import tiny
from tests.training.test_trainer import QUICK, TEXTS

SEEDS = st.integers(0, 2**31 - 1)
LENGTHS = st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(any)


def drawn(lengths, seed):
    case = draw_scores(scheme_crf("BIO"), lengths, max(lengths), seed)
    return case.crf, case.emissions, case.mask


@given(LENGTHS, SEEDS, SEEDS)
def test_cross_entropy_is_the_expectation_over_the_teachers_paths(lengths, seed, other):
    teacher, given_emissions, mask = drawn(lengths, seed)
    crf, emissions, _ = drawn(lengths, other)
    expected = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(lengths):
        paths = legal_paths(teacher, length)
        theirs = {path: path_score(teacher, given_emissions[row], path) for path in paths}
        own = {path: path_score(crf, emissions[row], path) for path in paths}
        for path in paths:
            expected += (theirs[path] - total(theirs)).exp() * (total(own) - own[path])
    found = cross_entropy(crf, emissions, teacher, given_emissions, mask)
    torch.testing.assert_close(found.double(), expected.double() / sum(lengths), rtol=1e-4, atol=1e-5)


@given(LENGTHS, SEEDS)
def test_nothing_is_to_be_learned_from_oneself(lengths, seed):
    crf, emissions, mask = drawn(lengths, seed)
    emissions = emissions.clone().requires_grad_()
    loss = cross_entropy(crf, emissions, crf, emissions, mask)
    for gradient in torch.autograd.grad(loss, [emissions, crf.start, crf.end, crf.transitions]):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-5, rtol=0)


@pytest.fixture
def ensemble():
    return Ensemble([tiny(seed=seed).tagger for seed in (1, 2)]).eval()


def examples_of(checkpoint):
    config = checkpoint.tagger.config
    return TaggedTexts(TEXTS, vocabulary=checkpoint.vocabulary, tag_set=config.tag_set, window=config.window).examples


@torch.no_grad()
def test_each_example_keeps_its_place_and_gets_what_teachers_say_of_it_alone(ensemble):
    examples = examples_of(tiny())
    found = taught(examples, ensemble, pad_token_id=0)
    assert len(found) == len(examples)
    for example, made in zip(examples, found, strict=True):
        assert made.ids is example.ids
        assert made.tags is example.tags
        ids = torch.from_numpy(example.ids).long()[None]
        alone = ensemble(ids, torch.ones_like(ids)).logits[0]
        np.testing.assert_allclose(made.emissions, alone.numpy(), rtol=2e-3, atol=2e-3)  # kept in float16


def test_emissions_are_padded_beside_the_characters(ensemble):
    batch = collate_taught(taught(examples_of(tiny()), ensemble, pad_token_id=0), pad_token_id=0)
    assert batch["emissions"].shape[:2] == batch["input_ids"].shape
    assert (batch["emissions"].abs().sum(-1) > 0).equal(batch["attention_mask"].bool())


@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_a_tagger_comes_closer_to_its_teachers(ensemble, tmp_path, consistency):
    checkpoint = tiny(seed=3)
    settings = QUICK.model_copy(update={"method": "full", "consistency": consistency, "dtype": "float32"})
    batch = collate_taught(taught(examples_of(checkpoint), ensemble, pad_token_id=0), pad_token_id=0)
    mask = batch["attention_mask"].bool()

    @torch.no_grad()
    def apart():
        logits = checkpoint.tagger.eval()(batch["input_ids"], batch["attention_mask"]).logits
        return cross_entropy(checkpoint.tagger.crf, logits, ensemble.crf, batch["emissions"], mask)

    before = apart()
    train(
        checkpoint, settings, train=TEXTS, dev={}, output=tmp_path, trainer_class=partial(Distiller, ensemble=ensemble)
    )
    assert apart() < before
