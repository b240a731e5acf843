"""Fits the temperatures of a model on labelled rows that it was not trained on, and stores them in its config.

python -m tests.release.calibrate MODEL_FOLDER HELD_OUT_FILE
"""

import argparse
from pathlib import Path

from ecner.config import ModelSettings
from ecner.data.corpus import read_corpus
from ecner.model.checkpoint import Checkpoint
from ecner.retraining.calibration import temperatures


def main() -> None:
    """Writes the temperatures into the model's config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("held", type=Path)
    options = parser.parse_args()
    rows = read_corpus(options.held, strict=True).texts
    checkpoint = Checkpoint.load(options.model)
    config = checkpoint.tagger.config
    config.temperatures = temperatures(checkpoint, rows, ModelSettings())
    config.save_pretrained(options.model)
    print(f"{len(rows):,} rows held out, temperatures {config.temperatures}")


if __name__ == "__main__":
    main()
