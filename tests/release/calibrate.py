"""Fits the temperatures of a model on folds of train that models of its kind were not trained on, and stores them.

    python -m tests.release.calibrate MODEL_FOLDER --fold CELL_FOLDER --fold CELL_FOLDER ...

A fold is a cell of the ablation whose plan holds a part of the train rows out: held.jsonl, and the model trained
without it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ecner.data.corpus import read_corpus
from ecner.inference.reader import Reader
from ecner.labels import Span
from ecner.model.checkpoint import Checkpoint
from ecner.retraining.calibration import ece_interval, fit_temperatures
from ecner.retraining.reading import ModelReading, read_texts
from tests.ablation.cell import HELD, TRAINED


def read_folds(folders: Sequence[Path]) -> tuple[list[Sequence[Span]], ModelReading]:
    """Gold mentions and readings of all held-out rows, each by the model that did not see it."""
    gold: list[Sequence[Span]] = []
    spans: list[Sequence[Span]] = []
    confidences: list[Sequence[float]] = []
    for folder in folders:
        held = read_corpus(folder / HELD, strict=True).texts
        found = read_texts(Reader(Checkpoint.load(folder / TRAINED)), [row.text for row in held], {})
        gold += [row.spans for row in held]
        spans += found.spans
        confidences += found.confidences
    return gold, ModelReading(spans, confidences)


def main() -> None:
    """Writes the temperatures into the model's config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--fold", type=Path, action="append", required=True)
    options = parser.parse_args()
    gold, reading = read_folds(options.fold)
    temperatures = fit_temperatures(gold, reading)
    config = Checkpoint.load(options.model).tagger.config
    config.temperatures = temperatures
    config.save_pretrained(options.model)
    before = ece_interval(gold, reading)
    print(f"{len(gold):,} rows held out, ECE before {before.value:.4f}; temperatures {temperatures}")


if __name__ == "__main__":
    main()
