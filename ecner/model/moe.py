"""A sparse mixture of experts: each character is worked on by its top-k experts alone."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class RouterLosses(NamedTuple):
    """Auxiliary losses of one forward pass, scalars, over the characters that are no padding."""

    balance: Tensor
    z: Tensor


class SparseMoE(nn.Module):
    """Feed-forward experts behind a softmax router, with a residual connection.

    The router works in float32 (Fedus et al. 2021, Switch Transformers, 2.4); the weights of the chosen
    experts are renormalised to sum to one (Jiang et al. 2024, Mixtral of Experts, 2.1).
    """

    def __init__(self, *, size: int, expert_size: int, experts: int, experts_per_token: int) -> None:
        super().__init__()
        self.experts_per_token = experts_per_token
        self.norm = nn.LayerNorm(size)
        self.router = nn.Linear(size, experts, bias=False)
        self.up = nn.Parameter(torch.empty(experts, size, expert_size))
        self.up_bias = nn.Parameter(torch.empty(experts, expert_size))
        self.down = nn.Parameter(torch.empty(experts, expert_size, size))
        self.down_bias = nn.Parameter(torch.empty(experts, size))

    def forward(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, RouterLosses]:
        """Adds to each character what its experts say; padding passes through.

        *Shape:* hidden (B, T, D), mask (B, T) bool; returns (B, T, D).
        """
        flat, places = hidden.flatten(0, 1), mask.flatten().nonzero().squeeze(1)  # (B * T, D), (N,)
        states = flat[places]
        tokens = self.norm(states)  # (N, D)
        wide = torch.promote_types(tokens.dtype, torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):  # it would halve the router's precision
            logits = functional.linear(tokens.to(wide), self.router.weight.to(wide))  # (N, E)
        weights, chosen = logits.softmax(-1).topk(self.experts_per_token)  # (N, k)
        weights = weights / weights.sum(-1, keepdim=True)
        mixed = self._mix(tokens, weights.to(tokens.dtype), chosen)
        out = flat.index_copy(0, places, (states + mixed).to(hidden.dtype)).view_as(hidden)
        return out, _router_losses(logits, chosen)

    def _mix(self, tokens: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Weighted sum of the chosen experts; pairs (character, expert) are sorted, so each expert runs once.

        *Shape:* tokens (N, D), weights and chosen (N, k); returns (N, D).
        """
        k = self.experts_per_token
        order = chosen.flatten().argsort(stable=True)  # (N * k,)
        sizes = chosen.flatten().bincount(minlength=len(self.up)).tolist()
        sorted_tokens = torch.split(tokens[order // k], sizes)
        parts = [self._expert(e, part) for e, part in enumerate(sorted_tokens) if len(part)]
        outputs = torch.cat(parts) if parts else tokens.new_empty(0, tokens.shape[-1])  # (N * k, D)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        by_slot = outputs[back].view(*chosen.shape, tokens.shape[-1])  # (N, k, D)
        return (by_slot * weights.unsqueeze(-1)).sum(1)

    def _expert(self, e: int, tokens: Tensor) -> Tensor:
        """*Shape:* (n, D) to (n, D)."""
        return torch.addmm(
            self.down_bias[e], functional.gelu(torch.addmm(self.up_bias[e], tokens, self.up[e])), self.down[e]
        )


def _router_losses(logits: Tensor, chosen: Tensor) -> RouterLosses:
    """Balance loss E * sum_i f_i P_i and z-loss (Fedus et al. 2021, 2.2; Zoph et al. 2022, equation 5).

    The balance loss is 1.0 at even load. f_i is the share of the (character, slot) pairs that went to
    expert i, P_i its mean probability.

    *Shape:* logits (N, E), chosen (N, k).
    """
    count, experts = logits.shape
    if not count:
        return RouterLosses(logits.sum(), logits.sum())
    share = functional.one_hot(chosen, experts).float().mean((0, 1))  # (E,)
    balance = experts * (share * logits.softmax(-1).mean(0)).sum()
    return RouterLosses(balance, logits.logsumexp(-1).square().mean())
