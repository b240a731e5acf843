"""The table of a plan: mean and spread over the seeds, as JSON for the check and as Markdown to read."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint
from tests.ablation.data import Sets
from tests.ablation.plan import Plan

RESULTS = Path(__file__).parent / "results"
_ROUNDS = 5
_OF_ONE_SEED = 0.02  # what a check allows where no spread was measured
_COLUMNS = {
    "reviews dev": ("reviews_dev", "all"),
    "brand": ("reviews_dev", "brand"),
    "model number": ("reviews_dev", "model_number"),
    "product": ("reviews_dev", "product"),
    "misc": ("reviews_dev", "misc"),
    "titles dev": ("titles_dev", "all"),
    "titles dev, unseen": ("titles_dev_unseen", "all"),
}


def speeds(folders: Mapping[str, Path], shared: Path) -> dict[str, float]:
    """Characters a second that each model reads on all cores, the models taking turns: medians of five rounds."""
    texts = [row.text for row in Sets.read(shared).reviews_dev]
    readers = {name: Reader(Checkpoint.load(folder)) for name, folder in folders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(_ROUNDS):
        for name, reader in readers.items():
            began = time.perf_counter()
            reader.read(texts)
            seconds[name].append(time.perf_counter() - began)
    return {name: sum(map(len, texts)) / median(rounds) for name, rounds in seconds.items()}


def write_results(plan: Plan, cells: Sequence[Mapping[str, Any]], rates: Mapping[str, float]) -> None:
    """Writes the table of these cells beside this file."""
    RESULTS.mkdir(exist_ok=True)
    rows = {name: [c for c in cells if c["variant"] == name] for name in dict.fromkeys(c["variant"] for c in cells)}
    results = {
        "about": plan.about,
        "variants": {
            name: {
                "parameters": own[0]["parameters"],
                "chars_per_second": round(rates[name]),
                "seeds": {str(c["seed"]): c["scores"] for c in own},
                "spread": _spreads(own),
            }
            for name, own in rows.items()
        },
    }
    text = json.dumps(results, ensure_ascii=False, indent=1, sort_keys=False) + "\n"
    (RESULTS / f"{plan.name}.json").write_text(text, "utf-8")
    (RESULTS / f"{plan.name}.md").write_text(_markdown(results), "utf-8")


def read_results(name: str) -> dict[str, Any]:
    """The table of a plan, as it was written."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found


def misses(results: Mapping[str, Any], cell: Mapping[str, Any]) -> list[str]:
    """Where a cell's F1 is farther from that of the same seed in the table than the spread stated there."""
    row = results["variants"][cell["variant"]]
    known = row["seeds"][str(cell["seed"])]
    wrong = []
    for part, types in known.items():
        for entity_type, figures in types.items():
            found, spread = cell["scores"][part][entity_type]["f1"], row["spread"][part][entity_type]
            if abs(found - figures["f1"]) > spread:
                wrong.append(f"{part}, {entity_type}: {found:.4f}, expected {figures['f1']:.4f} ± {spread:.4f}")
    return wrong


def _spreads(cells: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Two standard deviations of F1 over the seeds; at least half a point, as few seeds can agree by luck."""

    def spread(values: Sequence[float]) -> float:
        return round(max(0.005, 2 * stdev(values)), 5) if len(values) > 1 else _OF_ONE_SEED

    return {
        part: {t: spread([c["scores"][part][t]["f1"] for c in cells]) for t in types}
        for part, types in cells[0]["scores"].items()
    }


def _markdown(results: Mapping[str, Any]) -> str:
    head = ["variant", *_COLUMNS, "parameters", "characters/s"]
    lines = [results["about"], "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, row in results["variants"].items():
        lines.append(f"| {' | '.join([name, *_cells(row)])} |")
    return "\n".join([*lines, ""])


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    for part, entity_type in _COLUMNS.values():
        mean = fmean(scores[part][entity_type]["f1"] for scores in row["seeds"].values())
        spread = f" ± {100 * row['spread'][part][entity_type]:.2f}" if len(row["seeds"]) > 1 else ""
        yield f"{100 * mean:.2f}{spread}"
    yield f"{row['parameters'] / 1e6:.1f} M"
    yield f"{row['chars_per_second']:,}"
