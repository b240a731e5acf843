"""An exponential moving average of the weights, which is what a training leaves: steadier than its last step.

Polyak & Juditsky 1992; the warm-up of the decay as in TensorFlow's ExponentialMovingAverage.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

AVERAGE = "average.safetensors"  # beside the weights of each of the Trainer's checkpoints


class WeightAverage(TrainerCallback):
    """The average of the trained weights of a model, in float32, taken after each step.

    ``decay`` is the share that stays at a step: 0.99 looks back about 100 steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().float().clone() for name, p in self._trained.items()}
        self._decay = decay

    @torch.no_grad()
    def on_step_end(self, _args: Any, state: Any, _control: Any, **_options: Any) -> None:  # type: ignore[override]
        """Takes the weights in."""
        steps = state.global_step
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(
            list(self._average.values()), [p.detach().float() for p in self._trained.values()], 1 - decay
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with the averaged weights, for as long as the context lasts."""
        own = {name: p.data for name, p in self._trained.items()}
        self.apply()
        try:
            yield
        finally:
            for name, parameter in self._trained.items():
                parameter.data = own[name]

    def apply(self) -> None:
        """Gives the model the averaged weights for good."""
        for name, parameter in self._trained.items():
            parameter.data = self._average[name].to(parameter)

    def save(self, folder: Path) -> None:
        """Keeps the average beside a checkpoint's weights."""
        save_file({name: tensor.contiguous() for name, tensor in self._average.items()}, folder / AVERAGE)

    def load(self, folder: Path) -> None:
        """Takes up the average of a checkpoint."""
        given: dict[str, Tensor] = load_file(folder / AVERAGE)
        for name, tensor in self._average.items():
            tensor.copy_(given[name])
