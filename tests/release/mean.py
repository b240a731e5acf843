"""Averages the weights of models that went on from the same one: steadier than each of them, at the cost of one.

Wortsman et al. 2022, "Model soups".

    python -m tests.release.mean OUT_FOLDER MODEL_FOLDER MODEL_FOLDER ...
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from ecner.model.checkpoint import STORED, Checkpoint


def mean(models: Sequence[Checkpoint]) -> Checkpoint:
    """The first of the models, with the mean of the weights of all.

    Raises:
        ValueError: models of different sizes or tags.
    """
    first = models[0]
    if any(_shape(model) != _shape(first) for model in models):
        raise ValueError("the models differ in more than their weights")
    with torch.no_grad():
        for name, parameter in first.tagger.named_parameters():
            parameter.copy_(torch.stack([model.tagger.get_parameter(name) for model in models]).mean(0))
    return first


def _shape(model: Checkpoint) -> tuple[object, ...]:
    sizes = {name: parameter.shape for name, parameter in model.tagger.named_parameters()}
    return model.tagger.config.tag_set, model.vocabulary, sizes


def main() -> None:
    """Writes the averaged model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    options = parser.parse_args()
    mean([Checkpoint.load(folder) for folder in options.models]).save(options.out, STORED)


if __name__ == "__main__":
    main()
