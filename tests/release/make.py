"""Makes the shipped model from the data sets and the pretrained encoder, step by step; what is there is not done again.

    python -m tests.release.make ../shared WORK

1. The encoder goes on with masked characters on reviews and titles.
2. Copies of labelled rows get names never seen.
3. BERT-CRF and the hybrid are trained with three seeds, each without a tenth of the rows: the deciding pair.
4. The three hybrids and the model of the release before label reviews and spliced titles together.
5. The model is trained on all of it, by configs/train-shipped.yaml, and then further on the labelled rows alone.
6. Its confidence is calibrated on the rows that the hybrids were trained without.
7. Its figures are worked out, and printed for the card.

The model is left in WORK/model. No dev text gets into any step before the last; that is checked where rows are added.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.release.speed import model_of

SEEDS = range(3)
BEFORE = "90fa2df"  # the revision of the release before


def make(shared: Path, work: Path) -> None:
    """All steps, in order."""
    work.mkdir(parents=True, exist_ok=True)
    encoder, renamed, labelled, pair = (work / name for name in ("encoder", "renamed.jsonl", "labelled.jsonl", "pair"))
    hybrids = [pair / f"hybrid-{seed}" for seed in SEEDS]
    if not (encoder / "config.json").is_file():
        _run("ablation.prepare", "encoder", shared, encoder)
    if not renamed.is_file():
        _run("ablation.prepare", "renamed", shared, renamed)
    adapted = ("--encoder", f"adapted={encoder}")
    _run("ablation", "shipped", shared, pair, *adapted, "--no-table")
    if not labelled.is_file():
        teachers = [model_of(BEFORE, work / "before"), *(folder / "trained" for folder in hybrids)]
        named = (part for folder in teachers for part in ("--teacher", folder))
        _run("ablation.prepare", "labelled", shared, labelled, *named, "--dtype", "bfloat16")
    added = ("--added", f"renamed={renamed}", "--added", f"labelled={labelled}")
    self_trained, shipped = work / "self-trained", work / "shipped"
    _cell("self-trained", shared, self_trained, *adapted, *added)
    _cell("shipped", shared, shipped, "--encoder", f"self-trained={self_trained / 'trained'}")
    shutil.rmtree(work / "model", ignore_errors=True)
    shutil.copytree(shipped / "trained", work / "model")
    _run("release.calibrate", work / "model", *(part for folder in hybrids for part in ("--fold", folder)))
    _run("release.figures", work / "model", "--shared", shared, "--added", labelled)


def _cell(variant: str, shared: Path, folder: Path, *named: str) -> None:
    threads = str(os.cpu_count())  # one cell alone
    cell = ("--variant", variant, "--seed", 0)
    _run("ablation.cell", "release", shared, folder, *named, *cell, OMP_NUM_THREADS=threads)


def _run(module: str, *arguments: object, **environment: str) -> None:
    command = [sys.executable, "-m", f"tests.{module}", *map(str, arguments)]
    print(*command[1:], flush=True)
    subprocess.run(command, check=True, env=os.environ | environment)


def main() -> None:
    """All steps, by the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    make(options.shared, options.work)


if __name__ == "__main__":
    main()
