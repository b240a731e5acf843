"""Masked-character pre-training of an encoder on unlabelled texts of the domain, before it is made a tagger.

Devlin et al. 2019, "BERT", 3.1, task 1: 15% of the characters are to be guessed; of these 80% are masked and 10%
replaced. Gururangan et al. 2020, "Don't Stop Pretraining", 3: going on with it on the task's own kind of text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from ecner.model.checkpoint import encoder_vocabulary
from ecner.model.vocabulary import Vocabulary
from ecner.training.batches import LengthBatches
from ecner.training.numerics import has_fast_bfloat16, trained_attention
from ecner.training.trainer import remove_unfinished


def pretrain(  # noqa: PLR0913 - a recipe
    encoder: str,
    texts: Sequence[str],
    output: Path,
    *,
    layers: int | None = None,
    epochs: float = 4,
    learning_rate: float = 4e-4,
    batch_chars: int = 3000,
    seed: int = 0,
) -> None:
    """Leaves in ``output`` an encoder's folder like the one it started from, with the first ``layers`` kept.

    Texts are cut to what the encoder can read at once. A killed run goes on from its last epoch.
    """
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    config = AutoConfig.from_pretrained(encoder)
    config.num_hidden_layers = layers or config.num_hidden_layers
    config.attention_probs_dropout_prob = 0.0
    torch.manual_seed(seed)
    model = AutoModelForMaskedLM.from_pretrained(encoder, config=config, dtype=torch.float32)
    arguments = TrainingArguments(
        output_dir=str(output / "work"),
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        weight_decay=0.01,
        max_grad_norm=1.0,
        save_strategy="epoch",
        save_total_limit=1,
        logging_steps=50,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=has_fast_bfloat16(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
    )
    remove_unfinished(output / "work")
    with trained_attention(model):
        trainer = MaskedCharacters(
            model,
            arguments,
            tokenizer=tokenizer,
            vocabulary=encoder_vocabulary(encoder),
            texts=texts,
            batch_chars=batch_chars,
        )
        trainer.train(resume_from_checkpoint=any((output / "work").glob("checkpoint-*")))
    model.base_model.save_pretrained(output)
    tokenizer.save_pretrained(output)


class MaskedCharacters(Trainer):
    """The task: characters are hidden anew each time that a text is met."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        tokenizer: Any,
        vocabulary: Vocabulary,
        texts: Sequence[str],
        batch_chars: int,
    ) -> None:
        longest = model.config.max_position_embeddings - 2
        start, end, unknown = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id
        self.rows = [
            {"input_ids": [start, *(i if i < len(tokenizer) else unknown for i in ids), end]}
            for ids in (vocabulary.encode(text[:longest]).tolist() for text in texts if text)
        ]
        self.batch_chars = batch_chars
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        super().__init__(model=model, args=args, train_dataset=self.rows, data_collator=collator)

    def get_train_dataloader(self) -> DataLoader[dict[str, list[int]]]:
        """Batches of similar length, cut by characters."""
        lengths = np.array([len(row["input_ids"]) for row in self.rows], dtype=np.int64)
        sampler = LengthBatches(lengths, batch_chars=self.batch_chars, seed=self.args.seed)
        loader: DataLoader[dict[str, list[int]]] = self.accelerator.prepare(
            DataLoader(self.rows, batch_sampler=sampler, collate_fn=self.data_collator)  # type: ignore[arg-type]
        )
        return loader

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_arguments: Any, **_options: Any) -> Tensor:
        """Cross-entropy over the hidden characters, for which alone the vocabulary is scored."""
        labels = inputs.pop("labels")  # (B, T), -100 where nothing is asked
        asked = labels >= 0
        states = model.base_model(**inputs).last_hidden_state[asked]  # (N, D)
        return cross_entropy(model.cls(states).float(), labels[asked])
