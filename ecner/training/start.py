"""What a training starts from: a tagger folder, or a pretrained encoder with a new branch and head on it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig

from ecner.config import TrainSettings
from ecner.errors import UsageError
from ecner.labels import TagSet
from ecner.model.checkpoint import Checkpoint, build, decoder_config
from ecner.model.config import TaggerConfig

SHAPE = {
    "architecture", "encoder_layers", "decoder_base", "decoder_size", "decoder_layers", "decoder_heads",
    "bidirectional", "experts", "experts_per_token", "expert_size", "skip", "branch_start", "head", "dropout",
    "attention_dropout",
}  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A checkpoint to train, and the parts of its branch that have no pretrained weights."""

    checkpoint: Checkpoint
    new: frozenset[str] = frozenset()


def starting_point(settings: TrainSettings, tag_set: TagSet) -> Start:
    """The checkpoint that a training begins with; new weights are drawn from the settings' seed.

    A tagger's folder as ``train.base`` keeps its architecture and, until it is trained, its tags. Anything else is
    taken as a BERT-like encoder's folder or hub name.

    Raises:
        UsageError: settings that would give a tagger another architecture.
    """
    torch.manual_seed(settings.seed)
    folder = Path(settings.base)
    if is_tagger(folder):
        check_sizes(settings)
        return Start(Checkpoint.load(folder))
    decoder: str | PreTrainedConfig | None = None
    new: set[str] = set()
    if settings.architecture == "hybrid":
        decoder = settings.decoder_base or decoder_config(
            size=settings.decoder_size, layers=settings.decoder_layers, heads=settings.decoder_heads
        )
        new = set() if settings.decoder_base else {"decoder"}
        new |= {"moe"} if settings.experts else set()
    checkpoint = build(
        tag_set,
        encoder=settings.base,
        encoder_layers=settings.encoder_layers,
        attention_dropout=settings.attention_dropout,
        decoder=decoder,
        bidirectional=settings.bidirectional,
        skip=settings.skip,
        zero_branch=settings.branch_start == "zero",
        head=settings.head,
        experts=settings.experts,
        experts_per_token=settings.experts_per_token,
        expert_size=settings.expert_size,
        dropout=settings.dropout,
    )
    return Start(checkpoint, frozenset(new))


def check_sizes(settings: TrainSettings) -> None:
    """Refuses sizes of a new model where the base is a tagger, which has its own.

    Raises:
        UsageError: names them.
    """
    fixed = sorted(SHAPE & settings.model_fields_set)
    if fixed and is_tagger(Path(settings.base)):
        raise UsageError(
            f"train.base is {settings.base!r}, a tagger, whose {', '.join(fixed)} cannot be changed: leave these "
            "out, or name a pretrained encoder as train.base"
        )


def is_tagger(folder: Path) -> bool:
    """Whether a folder holds one of our models."""
    if not (folder / "config.json").is_file():
        return False
    return bool(PreTrainedConfig.get_config_dict(folder)[0].get("model_type") == TaggerConfig.model_type)
