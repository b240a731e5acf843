"""Makes the shipped model from the data sets and the pretrained encoder, step by step; what is there is not done again.

    python -m tests.release.make ../shared WORK

1. The encoder goes on with masked characters on reviews and titles.
2. Copies of labelled rows get names never seen.
3. Two teachers with all 12 layers of the encoder are trained on the labelled rows.
4. Together they label reviews and spliced titles.
5. The model is trained on all of it, by configs/train-shipped.yaml, and then further on the labelled rows alone.
6. Its confidence is calibrated on a twentieth of the labelled rows, which no step before has seen.
7. Its figures are worked out, and printed for the card.

The model is left in WORK/model. No dev text gets into any step before the last; that is checked where rows are added.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

SEEDS = range(2)


def make(shared: Path, work: Path) -> None:
    """All steps, in order."""
    work.mkdir(parents=True, exist_ok=True)
    encoder, renamed, labelled = work / "encoder", work / "renamed.jsonl", work / "labelled.jsonl"
    if not (encoder / "config.json").is_file():
        _run("ablation.prepare", "encoder", shared, encoder)
    if not renamed.is_file():
        _run("ablation.prepare", "renamed", shared, renamed)
    teachers = [_cell("teacher", shared, work / f"teacher-{seed}", seed=seed) for seed in SEEDS]
    if not labelled.is_file():
        named = (part for folder in teachers for part in ("--teacher", folder))
        _run("ablation.prepare", "labelled", shared, labelled, *named, "--dtype", "bfloat16")
    added = ("--added", f"renamed={renamed}", "--added", f"labelled={labelled}")
    student = _cell("student", shared, work / "student", "--encoder", f"adapted={encoder}", *added)
    shipped = _cell("shipped", shared, work / "shipped", "--encoder", f"student={student}")
    shutil.rmtree(work / "model", ignore_errors=True)
    shutil.copytree(shipped, work / "model")
    _run("release.calibrate", work / "model", work / "shipped/held.jsonl")
    _run("release.figures", work / "model", "--shared", shared, "--added", labelled)


def _cell(variant: str, shared: Path, folder: Path, *named: str, seed: int = 0) -> Path:
    """Trains a variant of the plan, alone on all processors; where its model lies."""
    options = ("--variant", variant, "--seed", seed)
    _run("ablation.cell", "release", shared, folder, *named, *options, OMP_NUM_THREADS=str(os.cpu_count()))
    return folder / "trained"


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
