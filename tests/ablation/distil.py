"""Training on what teachers find likely, not only on what they find: their whole distribution over tag paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecner.inference.reader import pack
from ecner.model.crf import CRF
from ecner.training.batches import Example, collate
from ecner.training.trainer import TaggerTrainer
from tests.ablation.ensemble import Ensemble

_CHARS = 6000  # that teachers read at once


@dataclass(frozen=True)
class Taught(Example):
    """An example with its teachers' emissions. *Shape:* (T, K)."""

    emissions: NDArray[np.float16]


class Distiller(TaggerTrainer):
    """Adds to the tagger's loss how far its distribution over tag paths is from that of an ensemble.

    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", with paths for classes. The ensemble
    reads each text once, before the training.
    """

    def __init__(self, *arguments: Any, ensemble: Ensemble, **options: Any) -> None:
        super().__init__(*arguments, **options)
        ensemble = ensemble.to(self.args.device).eval()
        self.ensemble_crf = ensemble.crf
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            pad = self.checkpoint.tagger.config.pad_token_id
            self.examples.examples = taught(self.examples.examples, ensemble, pad_token_id=pad)
        self.data_collator = partial(collate_taught, **self.data_collator.keywords)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **options: Any
    ) -> Any:
        """The loss on labels, and the cross-entropy a character between the teachers' paths and the tagger's."""
        own = {name: tensor for name, tensor in inputs.items() if name != "emissions"}
        loss, output = super().compute_loss(model, own, return_outputs=True, **options)
        mask = own["attention_mask"].bool()
        crf = self.checkpoint.tagger.crf
        loss = loss + cross_entropy(crf, output.logits, self.ensemble_crf, inputs["emissions"], mask)
        return (loss, output) if return_outputs else loss


def cross_entropy(crf: CRF, emissions: Tensor, teacher: CRF, teacher_emissions: Tensor, mask: Tensor) -> Tensor:
    """Expected negative log-likelihood a character of tag paths drawn from the teacher, a scalar.

    A path's score is linear in emissions and moves, so its expectation needs only how often the teacher expects each:
    the gradient of the teacher's log-partition (Wainwright & Jordan 2008, "Graphical Models", proposition 3.1).

    *Shape:* emissions, teacher_emissions (B, T, K), mask (B, T) bool.
    """
    with torch.enable_grad():
        given = teacher_emissions.detach().requires_grad_()
        parts = (given, teacher.start, teacher.end, teacher.transitions)
        expected = torch.autograd.grad(teacher.log_partition(given, mask).sum(), parts)
    own = (emissions.masked_fill(~mask.unsqueeze(2), 0.0), crf.start, crf.end, crf.transitions)
    score = torch.stack([(often * scores).sum() for often, scores in zip(expected, own, strict=True)]).sum()
    return (crf.log_partition(emissions, mask).sum() - score) / mask.sum().clamp(min=1)


@torch.inference_mode()
def taught(examples: Sequence[Example], ensemble: Ensemble, *, pad_token_id: int) -> list[Example]:
    """The examples, in their order, with what the ensemble makes of each."""
    order = np.argsort([-len(example.ids) for example in examples], kind="stable")
    made: dict[int, Example] = {}
    for cut in pack(np.array([len(examples[i].ids) for i in order]), _CHARS):
        batch = collate([examples[i] for i in order[cut]], pad_token_id=pad_token_id)
        ids, mask = (batch[name].to(ensemble.crf.start.device) for name in ("input_ids", "attention_mask"))
        logits = ensemble(ids, mask).logits.float().cpu().numpy()
        for i, emissions in zip(order[cut].tolist(), logits, strict=True):
            example = examples[i]
            made[i] = Taught(example.ids, example.tags, emissions[: len(example.ids)].astype(np.float16))
    return [made[i] for i in range(len(examples))]


def collate_taught(examples: Sequence[Taught], **options: Any) -> dict[str, Tensor]:
    """Pads emissions beside the rest. *Shape:* emissions (B, T, K)."""
    batch = collate(examples, **options)
    emissions = torch.zeros(*batch["input_ids"].shape, examples[0].emissions.shape[1])
    for row, example in enumerate(examples):
        emissions[row, : len(example.emissions)] = torch.from_numpy(example.emissions)
    return batch | {"emissions": emissions}
