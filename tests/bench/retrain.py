"""Retrains at full size: LoRA against full training from the shipped model, another label set, and a night with it.

    python -m tests.bench.retrain ../shared/data [--work FOLDER]

Checks that the LoRA run takes under 45 minutes, that its candidate is at most 2 points of dev F1 under full training
with the same budget, that its folder is under 20% of the full one, that fresh processes read all of dev the same, and
that a night with a model of other labels fills the tables with these. A training that the folder holds already is not
done, and so not timed, again. Exits with 1 if a check fails.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ecner.data.label_sets import read_label_set
from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint
from ecner.prediction import predictions
from ecner.storage.query import run_query

MINUTES, POINTS, SHARE = 45, 0.02, 0.20


class Place:
    """A warehouse and a lake in a folder, and the commands on them."""

    def __init__(self, data: Path, work: Path) -> None:
        self.data, self.work = data, work
        self.url = f"sqlite:///{work}/warehouse.db"
        self.environment = os.environ | {
            "ECNER_SOURCE__URI": str(data / "reviews"),
            "ECNER_WAREHOUSE__URL": self.url,
            "ECNER_LAKE__URI": str(work / "lake"),
            "ECNER_TRAIN__PROMOTE": "false",
        }

    def run(self, *arguments: object, **variables: str) -> str:
        command = [sys.executable, "-m", "ecner.cli", *map(str, arguments)]
        done = subprocess.run(
            command, env=self.environment | variables, stdout=subprocess.PIPE, check=True, encoding="utf-8"
        )
        return done.stdout

    def retrain(self, data: str, form: str, **variables: str) -> tuple[Path, float]:
        """The version's folder, and the seconds of it all."""
        began = time.perf_counter()
        files = [option for n in ("train", "dev") for option in (f"--{n}", self.data / data / f"{n}.{form}")]
        printed = self.run("retrain", "--config", "configs/retrain.yaml", *files, **variables)
        seconds = time.perf_counter() - began
        print(f"\n{data} {variables or 'lora'}: {seconds:,.0f} s\n{printed}", flush=True)
        return self.work / "lake/models" / printed.split()[0], seconds


def dev_f1(folder: Path) -> float:
    """Strict F1 on dev at the best epoch."""
    rows = json.loads((folder / "curve.json").read_text("utf-8"))
    return max(row["eval_strict_f1"] for row in rows if "eval_strict_f1" in row)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def reads_the_same(place: Place, folder: Path, dev: Path) -> bool:
    """Whether two fresh processes and this one give the same mentions, confidences and all."""
    texts = [json.loads(line)["text"] for line in dev.read_text("utf-8").splitlines()]
    here = "".join(predictions(Reader(Checkpoint.load(folder)), texts, {}))
    types = {"ECNER_MODEL__LABELS": "{}"}
    return {place.run("predict", "--input", dev, "--model", folder.name, **types) for _ in range(2)} == {here}


def other_labels(place: Place) -> bool:
    """Whether a night with a model of other labels finds these."""
    schema = place.data / "people/schema.json"
    folder, _ = place.retrain("people", "txt", ECNER_TRAIN__LABELS=str(schema))
    tags = Checkpoint.load(folder).tagger.config.tag_set
    print(place.run("extract", ECNER_MODEL__REF=folder.name))
    found = run_query(place.url, None, "select entity_type, count(*) as mentions from mentions group by entity_type")
    print(found)
    return tags == read_label_set(schema) and set(found["entity_type"]) == set(tags.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work = (options.work or Path(tempfile.mkdtemp(prefix="ecner-retrain-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    place = Place(options.data.resolve(), work)
    lora, seconds = place.retrain("ecommerce", "jsonl")
    full, _ = place.retrain("ecommerce", "jsonl", ECNER_TRAIN__METHOD="full")
    gap, share = dev_f1(full) - dev_f1(lora), size(lora) / size(full)
    checks = {
        f"LoRA in {seconds / 60:.1f} minutes, limit {MINUTES}": seconds < MINUTES * 60,
        f"dev F1: LoRA {dev_f1(lora):.4f}, full {dev_f1(full):.4f}, limit {POINTS} under it": gap <= POINTS,
        f"folder: {size(lora):,} of {size(full):,} bytes, {share:.1%}, limit {SHARE:.0%}": share < SHARE,
        "fresh processes read all of dev the same": reads_the_same(place, lora, place.data / "ecommerce/dev.jsonl"),
        "other labels are trained, read and published": other_labels(place),
    }
    for name, is_good in checks.items():
        print("ok  " if is_good else "FAIL", name)
    sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main()
