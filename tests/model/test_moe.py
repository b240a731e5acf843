"""The mixture of experts against a loop over characters, and its losses against their formulas."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from ecner.model.moe import SparseMoE, _router_losses

SIZES = [(experts, k) for experts in (1, 2, 3, 5, 8) for k in range(1, experts + 1)]


def make(experts=4, k=2, *, size=6, expert_size=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    moe = SparseMoE(size=size, expert_size=expert_size, experts=experts, experts_per_token=k)
    for parameter in moe.parameters():
        parameter.data.normal_(generator=generator)
    return moe.to(dtype)


def draw(lengths, steps, *, size=6, seed=0, dtype=torch.float64):
    hidden = torch.randn(len(lengths), steps, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return hidden, torch.arange(steps) < torch.tensor(lengths)[:, None]


def one_by_one(moe, hidden, mask):
    """The definition, a character and an expert at a time; and how many characters each expert saw."""
    seen = [0] * len(moe.up)
    rows = []
    for state, is_real in zip(hidden.flatten(0, 1), mask.flatten().tolist(), strict=True):
        result = state
        if is_real:
            token = functional.layer_norm(state, state.shape, moe.norm.weight, moe.norm.bias)
            probabilities = (moe.router.weight @ token).softmax(0)
            best = probabilities.tolist()
            best = sorted(range(len(best)), key=best.__getitem__, reverse=True)[: moe.experts_per_token]
            for e in best:
                inner = functional.gelu(token @ moe.up[e] + moe.up_bias[e])
                weight = probabilities[e] / sum(probabilities[b] for b in best)
                result = result + weight * (inner @ moe.down[e] + moe.down_bias[e])
                seen[e] += 1
        rows.append(result)
    return torch.stack(rows).view_as(hidden), seen


@pytest.mark.parametrize(("experts", "k"), SIZES)
def test_equals_a_loop_over_characters_in_values_and_gradients(experts, k):
    moe = make(experts, k, seed=experts)
    hidden, mask = draw([5, 0, 3], 6)
    direction = torch.randn_like(hidden)
    found = []
    for forward in (lambda x: moe(x, mask)[0], lambda x: one_by_one(moe, x, mask)[0]):
        leaf = hidden.clone().requires_grad_()
        out = forward(leaf)
        inputs = [leaf, *moe.parameters()]
        grads = torch.autograd.grad((out * direction).sum(), inputs, materialize_grads=True)
        found.append([out.detach(), *grads])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    assert any(grad.any() for grad in found[0][2:])


@settings(max_examples=25)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), st.sampled_from(SIZES), st.integers(0, 2**31))
def test_only_the_chosen_experts_are_computed(lengths, sizes, seed):
    moe = make(*sizes, seed=seed)
    hidden, mask = draw(lengths, 7, seed=seed + 1)
    seen = [0] * sizes[0]
    calls = []
    computed = moe._expert

    def spy(e, tokens):
        calls.append(e)
        seen[e] += len(tokens)
        return computed(e, tokens)

    moe._expert = spy
    out, _ = moe(hidden, mask)
    expected, expected_seen = one_by_one(moe, hidden, mask)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    assert seen == expected_seen
    assert sum(seen) == sum(lengths) * sizes[1]
    assert len(calls) == len(set(calls))


def test_the_weights_of_a_character_s_experts_sum_to_one():
    moe = make(5, 3)
    with torch.no_grad():
        for parameter in (moe.up, moe.up_bias, moe.down):
            parameter.zero_()
        moe.down_bias.fill_(1.0)  # each expert says 1, so a weighted mean of experts is 1
    hidden, mask = draw([4, 2], 4)
    torch.testing.assert_close(moe(hidden, mask)[0][mask], hidden[mask] + 1)


def test_padding_passes_through_and_changes_nothing():
    moe = make()
    hidden, mask = draw([4, 0, 2], 5)
    other = torch.where(mask[..., None], hidden, 1e3 * torch.randn_like(hidden))
    (out, losses), (out_other, losses_other) = moe(hidden, mask), moe(other, mask)
    assert torch.equal(out[~mask], hidden[~mask])
    assert torch.equal(out_other[~mask], other[~mask])
    assert torch.equal(out[mask], out_other[mask])
    assert torch.equal(losses.balance, losses_other.balance)
    assert torch.equal(losses.z, losses_other.z)


def test_the_losses_are_those_of_the_characters_alone():
    moe = make(4, 2)
    hidden, mask = draw([4, 0, 2], 5)
    logits = moe.norm(hidden[mask]) @ moe.router.weight.T  # (N, E)
    probabilities = logits.softmax(-1)
    chosen = probabilities.topk(2).indices
    share = torch.stack([(chosen == e).sum() / chosen.numel() for e in range(4)])
    losses = moe(hidden, mask)[1]
    torch.testing.assert_close(losses.balance, 4 * (share * probabilities.mean(0)).sum(), check_dtype=False)
    torch.testing.assert_close(losses.z, logits.exp().sum(-1).log().square().mean(), check_dtype=False)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_balance_loss_is_one_at_even_load_and_falls_on_the_way_there(k):
    experts = 4
    one = torch.tensor([3.0, 1.0, 0.5, -1.0], dtype=torch.float64)
    even = torch.stack([one.roll(i) for i in range(experts)])
    favour = torch.zeros(experts, dtype=torch.float64)
    favour[:k] = 1.0
    losses = []
    for strength in torch.linspace(8, 0, 33).tolist():
        logits = even + strength * favour
        losses.append(_router_losses(logits, logits.topk(k).indices).balance.item())
    assert all(after <= before + 1e-12 for before, after in pairwise(losses))
    assert losses[0] > 0.95 * experts / k
    assert losses[-1] == pytest.approx(1.0)


def test_descending_the_balance_loss_evens_the_load():
    moe = make(4, 1)
    hidden, mask = draw([64], 64)

    def largest_share():
        logits = moe.norm(hidden[mask]) @ moe.router.weight.T
        return logits.argmax(-1).bincount(minlength=4).max().item() / 64

    before = largest_share()
    optimizer = torch.optim.SGD([moe.router.weight], lr=1.0)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = moe(hidden, mask)[1].balance
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert largest_share() < before


@pytest.mark.parametrize("autocast", [False, True])
def test_the_router_keeps_float32_under_bfloat16(autocast):
    moe = make(4, 2, dtype=torch.float32 if autocast else torch.bfloat16)
    hidden, mask = draw([5, 3], 5, dtype=torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        tokens = moe.norm(hidden[mask])
        out, losses = moe(hidden, mask)
    logits = tokens.float() @ moe.router.weight.detach().float().T
    assert losses.z.dtype == losses.balance.dtype == torch.float32
    torch.testing.assert_close(losses.z, logits.logsumexp(-1).square().mean(), rtol=1e-5, atol=1e-5)
    assert out.dtype == torch.bfloat16


def test_no_characters_at_all():
    moe = make()
    hidden, mask = draw([0, 0], 3)
    out, losses = moe(hidden.requires_grad_(), mask)
    assert torch.equal(out, hidden)
    assert losses.balance.item() == losses.z.item() == 0
    (out.sum() + losses.balance + losses.z).backward()
    assert torch.equal(hidden.grad, torch.ones_like(hidden))
