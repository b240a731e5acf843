"""Reads the same texts with the shipped model and with that of an earlier revision, in turns, and compares the speed.

    python -m tests.release.speed 90fa2df [--input FILE]

Exits with 1 if the shipped model reads at less than 0.7 of the earlier one's characters a second.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ecner.data.corpus import read_corpus
from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint
from ecner.resources import asset
from ecner.retraining.reading import CHALLENGER, CHAMPION, measure_speed

_FOLDER = "ecner/assets/model"
_LEAST, _CHARS, _ROUNDS = 0.7, 20_000, 7


def model_of(revision: str, folder: Path) -> Path:
    """The shipped model of a revision, laid out in a folder."""
    root = Path(__file__).parents[2]
    archive = subprocess.run(["git", "-C", root, "archive", revision, _FOLDER], stdout=subprocess.PIPE, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder / _FOLDER


def main() -> None:
    """Prints both speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--input", type=Path, default=asset("sample/reviews.jsonl"), help="labelled texts to read")
    options = parser.parse_args()
    texts = [row.text for row in read_corpus(options.input, strict=True).texts]
    with tempfile.TemporaryDirectory() as folder:
        earlier = Reader(Checkpoint.load(model_of(options.revision, Path(folder))))
    readers = {CHAMPION: earlier, CHALLENGER: Reader(Checkpoint.load(asset("model")))}
    speed = measure_speed(readers, texts, chars=_CHARS, rounds=_ROUNDS)
    if speed is None or speed.slowdown is None:
        sys.exit("nothing was timed: name texts with --input")
    for side, name in ((CHAMPION, options.revision), (CHALLENGER, "shipped")):
        print(f"{name}: {speed.chars_per_second(side):,.0f} characters a second")
    print(f"ratio {1 / speed.slowdown:.3f}, at least {_LEAST} expected")
    sys.exit(1 / speed.slowdown < _LEAST)


if __name__ == "__main__":
    main()
