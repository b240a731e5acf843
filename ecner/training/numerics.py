"""How training computes: bfloat16 where the hardware is fast at it, and the attention that suits short texts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel


def has_fast_bfloat16() -> bool:
    """Whether this machine multiplies in bfloat16 by instructions of its own; weights stay float32 either way."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch cannot tell
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


@contextmanager
def trained_attention(model: PreTrainedModel) -> Iterator[None]:
    """Attention by plain products while it is trained on a CPU.

    There the backward pass of the fused kernel takes three times as long on texts of 50 to 500 characters.
    """
    before = model.config._attn_implementation  # noqa: SLF001 - transformers has no public getter
    if torch.cuda.is_available():
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
