"""How a training tells where it is: a bar on a terminal, a line an epoch everywhere, all of it on stderr."""

import sys
from typing import Any

from tqdm import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def progress() -> list[TrainerCallback]:
    """The callbacks for where stderr goes."""
    return [EpochLines(), StepBar()] if sys.stderr.isatty() else [EpochLines()]


class EpochLines(TrainerCallback):
    """A line for each evaluation, above the bar where there is one."""

    def on_evaluate(  # type: ignore[override] # as the Trainer calls it
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        metrics: dict[str, float],
        **_options: Any,
    ) -> None:
        """Tells the score of dev."""
        if state.is_world_process_zero:
            score = metrics["eval_strict_f1"]
            line = f"epoch {state.epoch or 0:g} of {state.num_train_epochs:g}: strict F1 on dev {score:.4f}"
            tqdm.write(line, file=sys.stderr)


class StepBar(ProgressCallback):
    """transformers' bar of the steps, without its figures on stdout, which is for results."""

    def on_log(self, *_arguments: Any, **_options: Any) -> None:
        """The figures are in the learning curve."""
