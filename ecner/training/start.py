"""What a training starts from: a tagger folder, or a pretrained encoder with a new branch and head on it."""

from pathlib import Path

import torch
from transformers import PreTrainedConfig

from ecner.config import TrainSettings
from ecner.errors import UsageError
from ecner.labels import TagSet
from ecner.model.checkpoint import Checkpoint, build, decoder_config
from ecner.model.config import TaggerConfig
from ecner.model.tagger import Tagger
from ecner.resources import asset

_SHAPE = {
    "architecture", "encoder_layers", "decoder_base", "decoder_size", "decoder_layers", "decoder_heads",
    "bidirectional", "experts", "experts_per_token", "expert_size", "skip", "dropout", "attention_dropout",
}  # fmt: skip


def starting_point(settings: TrainSettings, tag_set: TagSet) -> Checkpoint:
    """The checkpoint that a training begins with; new weights are drawn from the settings' seed.

    A tagger (``train.base``: ``default`` or a folder) keeps its architecture, and everything but classifiers
    and CRF where its tags are other ones. Anything else is taken as a BERT-like encoder's folder or hub name.

    Raises:
        UsageError: settings that would give a tagger another architecture.
    """
    torch.manual_seed(settings.seed)
    folder = asset("model") if settings.base == "default" else Path(settings.base)
    if (folder / "config.json").is_file() and _is_tagger(folder):
        if fixed := sorted(_SHAPE & settings.model_fields_set):
            raise UsageError(
                f"train.base is {settings.base!r}, a tagger, whose {', '.join(fixed)} cannot be changed: leave these "
                "out, or name a pretrained encoder as train.base"
            )
        return _with_tags(Checkpoint.load(folder), tag_set)
    decoder: str | PreTrainedConfig | None = None
    if settings.architecture == "hybrid":
        decoder = settings.decoder_base or decoder_config(
            size=settings.decoder_size, layers=settings.decoder_layers, heads=settings.decoder_heads
        )
    return build(
        tag_set,
        encoder=settings.base,
        encoder_layers=settings.encoder_layers,
        attention_dropout=settings.attention_dropout,
        decoder=decoder,
        bidirectional=settings.bidirectional,
        skip=settings.skip,
        experts=settings.experts,
        experts_per_token=settings.experts_per_token,
        expert_size=settings.expert_size,
        dropout=settings.dropout,
    )


def _is_tagger(folder: Path) -> bool:
    return PreTrainedConfig.get_config_dict(folder)[0].get("model_type") == TaggerConfig.model_type


def _with_tags(checkpoint: Checkpoint, tag_set: TagSet) -> Checkpoint:
    """The same tagger for other tags: weights whose shape depends on the tags are new."""
    old = checkpoint.tagger
    if old.config.tag_set == tag_set:
        return checkpoint
    values = old.config.to_dict() | {"tags": list(tag_set.tags), "scheme": tag_set.scheme}
    tagger = Tagger(TaggerConfig.from_dict(values))
    heads = ("encoder_classifier.", "branch_classifier.", "crf.")
    kept = {name: tensor for name, tensor in old.state_dict().items() if not name.startswith(heads)}
    tagger.load_state_dict(tagger.state_dict() | kept)
    return Checkpoint(tagger, checkpoint.vocabulary)
