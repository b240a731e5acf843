"""Trains and scores the cells of a plan, as many at once as there are processors, and writes its table.

    python -m tests.ablation small ../shared FOLDER [--only NAME ...]
    python -m tests.ablation small ../shared FOLDER --check "BERT-CRF" --seed 0

Finished cells stay in FOLDER and are not done again; a killed one goes on from its last epoch. ``--check`` trains a
cell that is in the table anew, in an empty FOLDER, and exits with 1 if a figure is farther from the table's than its
spread.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.ablation.cell import SCORE, TRAINED
from tests.ablation.command import Inputs, arguments, parser
from tests.ablation.table import RESULTS, misses, read_results, speeds, write_results


def main() -> None:
    """The command."""
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these variants")
    options.add_argument("--jobs", type=int, default=os.cpu_count(), help="cells at once, one thread each")
    options.add_argument("--check", metavar="NAME", help="train this variant anew and compare with the table")
    options.add_argument("--seed", type=int, default=0, help="the seed to check")
    options.add_argument("--no-table", action="store_true", help="train only")
    given = options.parse_args()
    plan = Inputs.of(given).plan
    if given.check:
        sys.exit(_check(given))
    names = given.only or [variant.name for variant in plan.variants]
    cells = [(plan.variant(name).name, seed) for seed in plan.seeds for name in names]
    with ThreadPoolExecutor(given.jobs) as pool:
        done = list(pool.map(lambda cell: _run(given, *cell), cells))
    if not given.no_table:
        rates = speeds({name: _folder(given, name, plan.seeds[0]) / TRAINED for name in names}, given.shared)
        write_results(plan, done, rates)
        print((RESULTS / f"{plan.name}.md").read_text("utf-8"))


def _folder(given: argparse.Namespace, name: str, seed: int) -> Path:
    folder: Path = given.folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{seed}"
    return folder


def _run(given: argparse.Namespace, name: str, seed: int) -> dict[str, object]:
    """One cell in a process of its own; what it found."""
    folder = _folder(given, name, seed)
    if not (folder / SCORE).is_file():
        plan, shared, *named = arguments(given)
        place = [plan, shared, str(folder), *named, "--variant", name, "--seed", str(seed)]
        folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with (folder / "log.txt").open("ab") as log:
            subprocess.run(
                [sys.executable, "-m", "tests.ablation.cell", *place],
                check=True, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
    found: dict[str, object] = json.loads((folder / SCORE).read_text("utf-8"))
    print(f"{name}, seed {seed}: {_short(found)}", flush=True)
    return found


def _short(found: dict[str, object]) -> str:
    scores = found["scores"]
    assert isinstance(scores, dict)
    return ", ".join(f"{part} {types['all']['f1']:.4f}" for part, types in scores.items())


def _check(given: argparse.Namespace) -> int:
    found = _run(given, given.check, given.seed)
    wrong = misses(read_results(given.plan), found)
    print("\n".join(wrong) or "every figure lies within the spread that the table states")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
