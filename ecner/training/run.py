"""A training from files to a model folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ecner.config import TrainSettings
from ecner.data.corpus import read_corpus
from ecner.data.label_sets import read_label_set
from ecner.errors import DataError, UsageError
from ecner.evaluation import strict_f1
from ecner.inference.reader import Reader
from ecner.labels import TagSet
from ecner.model.checkpoint import Checkpoint
from ecner.training.start import starting_point
from ecner.training.trainer import train

MODEL, CURVE = "model", "curve.json"


def train_model(
    settings: TrainSettings,
    train_files: Sequence[Path],
    dev_files: Sequence[Path],
    output: Path,
    *,
    resume: bool,
    label_set: Path | None = None,
) -> Mapping[str, float]:
    """Trains on all of some files and judges by others; returns strict F1 on each of these, of the model as saved.

    ``output`` gets the checkpoints, the learning curve (curve.json) and the model (float16, folder model). The tags
    are those of ``label_set`` (a schema.json), or the labels of the training texts in ``train.scheme``.

    Raises:
        UsageError: a file is missing, or the folder holds another training and resume was not asked for.
        DataError: a file holds a bad row, or a label that the label set lacks; nothing is trained on half of one.
    """
    if not resume and any(output.glob("checkpoint-*")):
        raise UsageError(f"{output} holds checkpoints of a training: go on with --resume, or name another folder")
    corpora = [read_corpus(path, strict=True) for path in train_files]
    texts = [text for corpus in corpora for text in corpus.texts]
    names = [f"{path.resolve().parent.name}_{path.stem}" for path in dev_files]
    if len(set(names)) < len(names):
        raise UsageError(f"dev files need names of their own, got {', '.join(names)}: rename a file or its folder")
    dev = {name: read_corpus(path, strict=True).texts for name, path in zip(names, dev_files, strict=True)}
    labels = {label for corpus in corpora for label in corpus.labels}
    tag_set = read_label_set(label_set) if label_set else TagSet.from_labels(labels, settings.scheme)
    if unknown := sorted(labels - set(tag_set.labels)):
        raise DataError(f"{label_set} lacks the label(s) {', '.join(unknown)}, which the training texts have: add them")
    checkpoint = starting_point(settings, tag_set)
    curve = train(checkpoint, settings, train=texts, dev=dev, output=output, resume=resume)
    (output / CURVE).write_text(json.dumps(curve, indent=1) + "\n", "utf-8")
    checkpoint.save(output / MODEL, torch.float16)
    reader = Reader(Checkpoint.load(output / MODEL))
    return {name: strict_f1(reader, rows) for name, rows in dev.items()}
