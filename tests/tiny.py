"""Models small enough for tests, built from sizes alone."""

from pathlib import Path
from typing import Any

import torch

from ecner.labels import TagSet
from ecner.model.checkpoint import Checkpoint, build, decoder_config, encoder_config
from ecner.model.manifest import write_manifest
from ecner.model.vocabulary import END, PAD, START, UNKNOWN, WHITE_SPACE, Vocabulary

CHARACTERS = "abcdefgh0123456789小米华为手机耳机真好用不错买了，。"
VOCABULARY = Vocabulary(tuple(dict.fromkeys((PAD, UNKNOWN, START, END, *CHARACTERS, WHITE_SPACE))))
LABELS = ("HPPX", "XH")
ARCHITECTURES = ("hybrid", "bert-crf")


def as_base(checkpoint: Checkpoint, folder: Path) -> Path:
    """Saves a model as adapters want their base: in a folder named after its content."""
    unfinished = folder / "unfinished"
    checkpoint.save(unfinished)
    return unfinished.rename(folder / f"base-{write_manifest(unfinished)}")


def tiny(
    architecture: str = "hybrid",
    *,
    tag_set: TagSet | None = None,
    positions: int = 66,
    seed: int = 0,
    **options: Any,
) -> Checkpoint:
    """A tagger of width 16 whose random classifiers have opinions; windows of 24 characters, 8 shared."""
    torch.manual_seed(seed)
    hybrid = {"decoder": decoder_config(size=16, layers=2, heads=2), "experts": 4, "expert_size": 8}
    checkpoint = build(
        tag_set or TagSet.from_labels(LABELS),
        encoder=encoder_config(size=16, layers=1, heads=2, positions=positions),
        vocabulary=VOCABULARY,
        **({"window": 24, "overlap": 8} | (hybrid if architecture == "hybrid" else {}) | options),
    )
    for name, parameter in checkpoint.tagger.named_parameters():
        if name.endswith("classifier.weight"):
            torch.nn.init.normal_(parameter)
    checkpoint.tagger.eval()
    return checkpoint
