from contextlib import nullcontext

import pytest
import torch

from ecner.training.numerics import has_fast_bfloat16, trained_attention
from tests.model.test_tagger import TEXTS, batch
from tests.tiny import tiny


def implementations(tagger):
    """What each part computes its attention with."""
    parts = (tagger, tagger.encoder, tagger.branch.decoder if tagger.branch is not None else None)
    return [part.config._attn_implementation for part in parts if part is not None]


@pytest.fixture
def _on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_this_machine_is_told():
    assert type(has_fast_bfloat16()) is bool


@pytest.mark.usefixtures("_on_a_cpu")
@pytest.mark.parametrize(
    ("features", "is_fast"),
    [
        ({}, False),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
    ],
)
def test_bfloat16_is_fast_where_the_processor_has_it(monkeypatch, features, is_fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    assert has_fast_bfloat16() is is_fast


@pytest.mark.usefixtures("_on_a_cpu")
def test_bfloat16_is_not_fast_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert has_fast_bfloat16() is False


@pytest.mark.parametrize("is_supported", [True, False])
def test_on_cuda_its_own_word_counts(monkeypatch, is_supported):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: is_supported)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": not is_supported}, raising=False)
    assert has_fast_bfloat16() is is_supported


@pytest.mark.usefixtures("_on_a_cpu")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("before", ["sdpa", "eager"])
def test_attention_is_plain_in_training_and_then_as_before(checkpoint, before, fails):
    tagger = checkpoint.tagger
    tagger.set_attn_implementation(before)
    own = implementations(tagger)
    assert set(own) == {before}
    with pytest.raises(KeyError) if fails else nullcontext(), trained_attention(tagger):
        assert implementations(tagger) == ["eager"] * len(own)
        if fails:
            raise KeyError
    assert implementations(tagger) == own


@pytest.mark.usefixtures("_on_a_cpu")
@pytest.mark.parametrize(("architecture", "bidirectional"), [("hybrid", True), ("hybrid", False), ("bert-crf", True)])
@torch.no_grad()
def test_both_kinds_of_attention_say_the_same(architecture, bidirectional):
    tagger = tiny(architecture, bidirectional=bidirectional).tagger
    inputs = batch(TEXTS)
    mask = inputs["attention_mask"].bool()
    fused = tagger(**inputs).logits
    with trained_attention(tagger):
        plain = tagger(**inputs).logits
    torch.testing.assert_close(plain[mask], fused[mask], rtol=1e-4, atol=1e-4)
    assert torch.equal(tagger(**inputs).logits, fused)


def test_on_cuda_attention_stays(monkeypatch, checkpoint):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = implementations(checkpoint.tagger)
    with trained_attention(checkpoint.tagger):
        assert implementations(checkpoint.tagger) == before
