"""What makes a training step harder, so that the tagger leans on context: worst-case embeddings, consistent dropout."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div


@contextmanager
def adversarial(weight: nn.Parameter, size: float) -> Iterator[None]:
    """Embeddings moved by ``size`` in the direction in which the loss rises, by the gradient that is there.

    Miyato et al. 2017, "Adversarial Training Methods for Semi-Supervised Text Classification", equation 5, with the
    table of embeddings in place of those of one text.
    """
    if weight.grad is None:
        raise ValueError("adversarial steps need a gradient of the embeddings, which are frozen here")
    norm = weight.grad.norm()
    move = size * weight.grad / norm if norm > 0 else torch.zeros_like(weight)
    own = weight.data
    weight.data = own + move
    try:
        yield
    finally:
        weight.data = own


def divergence(left: Tensor, right: Tensor, mask: Tensor) -> Tensor:
    """Mean over characters of the symmetric divergence of two passes' tag distributions, a scalar.

    Liang et al. 2021, "R-Drop", equation 2, on the emissions.

    *Shape:* left, right (B, T, K), mask (B, T) bool.
    """
    first, second = (logits[mask].float().log_softmax(-1) for logits in (left, right))  # (N, K)
    both = kl_div(first, second, log_target=True, reduction="sum") + kl_div(
        second, first, log_target=True, reduction="sum"
    )
    return both / (2 * mask.sum().clamp(min=1))
