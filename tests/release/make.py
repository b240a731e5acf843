"""Makes the shipped model from the data sets and the pretrained encoder, step by step; what is there is not done again.

    python -m tests.release.make ../shared WORK

1. Copies of labelled rows get names never seen.
2. Three teachers are trained on the labelled rows: one with all 12 layers of the encoder, one of 6 without the measures
   against overfitting, one by configs/train-shipped.yaml as it stands.
3. Together they label reviews and spliced titles.
4. A model is trained on all of it, and then further on the labelled rows alone, with two seeds. The mean of the two
   goes on with what they and the teachers, together, find likely in each review and labelled title.
5. One of the two goes on with the labelled reviews alone. Before and after, its weights are averaged with those of the
   distilled model, which counts twice.
6. Its confidence is calibrated on a twentieth of the labelled rows, which no step before has seen.
7. Its figures are worked out, and printed for the card.

The model is left in WORK/model. No dev text gets into any step before the last; that is checked where rows are added.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

TEACHERS = ("deep", "plain", "consistent")
SEEDS = (0, 1)


def make(shared: Path, work: Path) -> None:
    """All steps, in order."""
    work.mkdir(parents=True, exist_ok=True)
    rows = {name: work / f"{name}.jsonl" for name in ("renamed", "labelled", "spliced")}
    if not rows["renamed"].is_file():
        _run("ablation.prepare", "renamed", shared, rows["renamed"])
    teachers = {name: _cell(f"{name} teacher", shared, work / name) for name in TEACHERS}
    for name in ("labelled", "spliced"):
        if not rows[name].is_file():
            named = (part for folder in teachers.values() for part in ("--teacher", folder))
            _run("ablation.prepare", name, shared, rows[name], *named, "--dtype", "bfloat16")
    student = _cell("student", shared, work / "student", *_options("added", rows))
    parts = {f"settled-{n}": _cell("settled", shared, work / f"settled-{n}", *_before(student), seed=n) for n in SEEDS}
    _run("release.mean", work / "settled", *parts.values())
    given = [*_options("teacher", teachers | parts), *_options("added", rows)]
    distilled = _cell("distilled", shared, work / "distilled", *given, *_before(work / "settled"))
    last = parts[f"settled-{SEEDS[-1]}"]
    reviewed = _cell("reviewed", shared, work / "reviewed", *_before(last))
    shutil.rmtree(work / "model", ignore_errors=True)
    _run("release.mean", work / "model", distilled, distilled, last, reviewed)
    _run("release.calibrate", work / "model", work / "student/held.jsonl")
    added = (part for name in ("labelled", "spliced") for part in ("--added", rows[name]))
    _run("release.figures", work / "model", "--shared", shared, *added)


def _options(option: str, given: Mapping[str, Path]) -> list[str]:
    return [part for name, path in given.items() for part in (f"--{option}", f"{name}={path}")]


def _before(model: Path) -> list[str]:
    return _options("encoder", {"before": model})


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
