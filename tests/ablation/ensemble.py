"""Several taggers read as one: the teachers of a model that is trained on what they find."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ecner.model.checkpoint import Checkpoint
from ecner.model.crf import CRF
from ecner.model.tagger import Tagger, TaggerOutput
from ecner.model.vocabulary import Vocabulary


class Ensemble(nn.Module):
    """Taggers of one tag set read as one: their emissions and transitions are averaged.

    A path's score is then the mean of its scores, so that its probability is their normalised geometric mean.
    """

    def __init__(self, taggers: Sequence[Tagger]) -> None:
        super().__init__()
        if len({tagger.config.tag_set for tagger in taggers}) != 1:
            raise ValueError("taggers of an ensemble need one tag set")
        self.taggers = nn.ModuleList(taggers)
        self.config = taggers[0].config
        tags = self.config.tag_set
        self.crf = CRF(legal_start=tags.legal_start, legal_end=tags.legal_end, legal_transitions=tags.legal_transitions)
        with torch.no_grad():
            for name, parameter in self.crf.named_parameters():
                parameter.copy_(torch.stack([t.crf.get_parameter(name) for t in taggers]).mean(0))

    @classmethod
    def load(cls, folders: Sequence[Path]) -> tuple["Ensemble", Vocabulary]:
        """The models of some folders, and what they all read by."""
        checkpoints = [Checkpoint.load(folder) for folder in folders]
        if any(c.vocabulary != checkpoints[0].vocabulary for c in checkpoints):
            raise SystemExit("the teachers have different vocabularies: they cannot read as one")
        return cls([checkpoint.tagger for checkpoint in checkpoints]), checkpoints[0].vocabulary

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TaggerOutput:
        """Mean emissions. *Shape:* (B, T) to (B, T, K)."""
        return TaggerOutput(logits=torch.stack([t(input_ids, attention_mask).logits for t in self.taggers]).mean(0))
