"""transformers' Trainer for taggers: learning rates by part, batches cut by characters, strict F1 on dev."""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from ecner.config import TrainSettings
from ecner.data.rows import LabelledText
from ecner.evaluation import strict_f1
from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint
from ecner.model.vocabulary import UNKNOWN
from ecner.training.average import WeightAverage
from ecner.training.batches import Example, LengthBatches, TaggedTexts, collate
from ecner.training.numerics import has_fast_bfloat16, trained_attention
from ecner.training.progress import progress
from ecner.training.regularise import adversarial, divergence

_METRIC = "eval_strict_f1"


class TaggerTrainer(Trainer):
    """Trains a checkpoint's tagger and scores it as it will be used: by the CRF's decoding of whole texts."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: TrainSettings,
        *,
        train: Sequence[LabelledText],
        dev: Mapping[str, Sequence[LabelledText]],
        args: TrainingArguments,
        adapters: PeftModel | None = None,
    ) -> None:
        config = checkpoint.tagger.config
        self.checkpoint, self.settings, self.dev = checkpoint, settings, dev
        if config.head == "softmax":  # a parameter that gets no gradient would stop several processes
            checkpoint.tagger.crf.requires_grad_(False)
        self.examples = TaggedTexts(
            train, vocabulary=checkpoint.vocabulary, tag_set=config.tag_set, window=config.window
        )
        super().__init__(
            model=adapters or checkpoint.tagger,
            args=args,
            train_dataset=self.examples,
            eval_dataset=[],  # evaluate reads ``dev`` itself
            data_collator=partial(
                collate,
                pad_token_id=config.pad_token_id,
                hidden_share=settings.character_dropout,
                hidden_token_id=checkpoint.vocabulary.ids[UNKNOWN],
            ),
            callbacks=[EarlyStoppingCallback(early_stopping_patience=settings.patience)] if dev else [],
        )
        for callback in progress():
            self.add_callback(callback)
        self.remove_callback(PrinterCallback)
        self.average = WeightAverage(adapters or checkpoint.tagger, settings.average) if settings.average else None
        if self.average is not None:
            self.add_callback(self.average)

    def get_train_dataloader(self) -> DataLoader[Example]:
        """Batches of similar length, cut by characters."""
        sampler = LengthBatches(
            self.examples.lengths,
            batch_chars=self.settings.batch_chars,
            seed=self.settings.seed,
            processes=self.accelerator.num_processes,
        )
        loader: DataLoader[Example] = self.accelerator.prepare(
            DataLoader(
                self.examples,
                batch_sampler=sampler,
                collate_fn=self.data_collator,
                pin_memory=self.args.dataloader_pin_memory,
            )
        )
        return loader

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with learning rates of their own for pretrained parts and adapters; no decay on norms and biases."""
        model = cast("nn.Module", model or self.model)
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                key = (self._learning_rate(name), name in decayed and not name.endswith("_bias"))
                groups.setdefault(key, []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": parameters, "lr": rate, "weight_decay": self.settings.weight_decay if decays else 0.0}
                for (rate, decays), parameters in groups.items()
            ]
        )
        return self.optimizer

    def _learning_rate(self, name: str) -> float:
        """The rate of a parameter by its name."""
        settings = self.settings
        if ".lora_" in name:
            return settings.lora.lr
        if name.startswith("crf.") or ".crf." in name:
            return settings.crf_lr or settings.head_lr
        if settings.decoder_base and "branch.decoder." in name:
            return settings.encoder_lr
        if "encoder." not in name:
            return settings.head_lr
        layers = self.checkpoint.tagger.config.encoder.num_hidden_layers
        layer = re.search(r"encoder\.layer\.(\d+)\.", name)
        below_top = layers - 1 - int(layer[1]) if layer else layers  # embeddings lie under all layers
        return float(settings.encoder_lr * settings.layer_decay**below_top)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The tagger's loss; with consistency, the mean of two passes and how far their dropout makes them differ."""
        if not self.settings.consistency:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        first, second = model(**inputs), model(**inputs)
        apart = divergence(first.logits, second.logits, inputs["attention_mask"].bool())
        loss = (first.loss + second.loss) / 2 + self.settings.consistency * apart
        return (loss, first) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], *arguments: Any, **options: Any) -> Tensor:
        """The Trainer's step; where adversarial, with a second one on the embeddings that hurt most."""
        loss = super().training_step(model, dict(inputs), *arguments, **options)
        if self.settings.adversarial:
            weight = cast("nn.Parameter", self.checkpoint.tagger.get_input_embeddings().weight)
            with adversarial(weight, self.settings.adversarial):
                super().training_step(model, dict(inputs), *arguments, **options)
        return loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The weights, and their average beside them."""
        super().save_model(output_dir, _internal_call)
        if self.average is not None and self.args.should_save and output_dir is not None:
            self.average.save(Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            self.average.load(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.average is not None:
            self.average.load(Path(cast("str", self.state.best_model_checkpoint)))

    def evaluate(
        self,
        eval_dataset: Any = None,  # noqa: ARG002 - the Trainer's signature
        ignore_keys: list[str] | None = None,  # noqa: ARG002
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Strict F1 on each dev set, and their mean, by which the best epoch is chosen."""
        with self.average.applied() if self.average else nullcontext():
            reader = Reader(self.checkpoint, device=str(self.args.device), dtype="float32")
            scores = {name: strict_f1(reader, texts) for name, texts in self.dev.items()}
        metrics = {f"{metric_key_prefix}_{name}_strict_f1": value for name, value in scores.items()}
        metrics[f"{metric_key_prefix}_strict_f1"] = sum(scores.values()) / len(scores)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


@dataclass(frozen=True)
class Trained:
    """The learning curve, which is the Trainer's log, a row an entry; and the weights, gathered from all processes."""

    curve: list[dict[str, float]]
    weights: Mapping[str, Tensor]


def train(
    checkpoint: Checkpoint,
    settings: TrainSettings,
    *,
    train: Sequence[LabelledText],
    dev: Mapping[str, Sequence[LabelledText]],
    output: Path,
    adapters: PeftModel | None = None,
    trainer_class: Callable[..., TaggerTrainer] = TaggerTrainer,
) -> Trained:
    """Trains in place and leaves the tagger at its best epoch; a training that was killed goes on where it was.

    Checkpoints lie in ``output``, one an epoch, the newest of which is taken up. With ``adapters``, the model that
    ``add_lora`` made of the tagger, only these are trained. Without any dev text it is left as its last epoch made it.
    """
    output.mkdir(parents=True, exist_ok=True)
    args = _arguments(settings, output, is_judged=bool(dev))
    if args.should_save:
        remove_unfinished(output)
    trainer = trainer_class(checkpoint, settings, train=train, dev=dev, args=args, adapters=adapters)
    trainer.accelerator.wait_for_everyone()
    newest = get_last_checkpoint(str(output))  # type: ignore[no-untyped-call]
    with trained_attention(checkpoint.tagger):
        trainer.train(resume_from_checkpoint=newest)
    if trainer.average is not None:
        trainer.average.apply()
    checkpoint.tagger.eval()  # type: ignore[no-untyped-call]
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return Trained([_untimed(row) for row in trainer.state.log_history], weights)


def _untimed(row: Mapping[str, float]) -> dict[str, float]:
    """A row of the log without what a stop or the machine's speed changes: the same training leaves the same curve."""
    passing = ("runtime", "per_second", "train_loss", "total_flos")
    return {name: row[name] for name in sorted(row) if not any(part in name for part in passing)}


def remove_unfinished(output: Path) -> None:
    """Removes checkpoints that a kill left half-written: the Trainer writes trainer_state.json last."""
    for folder in output.glob("checkpoint-*"):
        try:
            json.loads((folder / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)


def _arguments(settings: TrainSettings, output: Path, *, is_judged: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(output),
        num_train_epochs=settings.epochs,
        learning_rate=settings.head_lr,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,  # below 1 it is a share of all steps
        max_grad_norm=1.0,
        eval_strategy="epoch" if is_judged else "no",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=is_judged,
        restore_callback_states_from_checkpoint=True,  # a resumed run keeps its count of epochs without gain
        metric_for_best_model=_METRIC if is_judged else None,
        greater_is_better=True if is_judged else None,
        logging_steps=50,
        disable_tqdm=True,  # it has a bar of its own
        seed=settings.seed,
        ddp_find_unused_parameters=False,
        use_cpu=not torch.cuda.is_available(),
        accelerator_config={"even_batches": False},  # LengthBatches is even by itself
        bf16=settings.dtype == "bfloat16" or (settings.dtype == "auto" and has_fast_bfloat16()),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
    )
