"""Scores a model for its card: writes version.json and its training texts' hashes, and prints the card's table.

    python -m tests.release.figures MODEL_FOLDER --shared ../shared

The data sets are those the shipped model was made from; they are no part of the project.
"""

import argparse
import hashlib
import json
from pathlib import Path

from ecner.config import load_settings
from ecner.data.corpus import read_corpus
from ecner.data.hashes import text_hash
from ecner.evaluation import evaluate
from ecner.inference.reader import Reader
from ecner.metrics import Counts, Scores
from ecner.model.checkpoint import Checkpoint
from ecner.registry import TRAINING_TEXTS
from ecner.resources import asset

TRAIN = ("data/ecommerce/train.jsonl", "data/reviews_labelled/train.jsonl")
BASE = "e5-small-zh-char, first 6 layers"


def figures(folder: Path, shared: Path) -> dict[str, object]:
    """All figures of a model, strict matching, over all mentions and per entity type."""
    reader = Reader(Checkpoint.load(folder))
    types = load_settings(environ={}).model.labels
    titles = evaluate(reader, shared / "data/ecommerce/dev.jsonl", shared / TRAIN[0], types)
    reviews = evaluate(reader, shared / "data/reviews_labelled/dev.jsonl", shared / TRAIN[1], types)
    sample = evaluate(reader, asset("sample/reviews.jsonl"), None, types)
    assert titles.unseen is not None
    sets = {
        "titles_dev": titles.scores,
        "titles_dev_unseen": titles.unseen,
        "reviews_dev": reviews.scores,
        "sample": sample.scores,
    }
    digest = hashlib.sha256(b"".join((shared / path).read_bytes() for path in TRAIN)).hexdigest()[:32]
    rows = [row for name, scores in sets.items() for row in evaluations(name, scores)]
    return {"base": BASE, "data_fingerprint": digest, "evaluations": rows}


def hashes(shared: Path) -> str:
    """Hashes of the training texts, a line each, by which later models are compared on texts new to both."""
    texts = (text.text for path in TRAIN for text in read_corpus(shared / path).texts)
    return "\n".join([*sorted(set(map(text_hash, texts))), ""])


def evaluations(dataset: str, scores: Scores) -> list[dict[str, object]]:
    """Rows of model_evaluations without the version."""
    parts: dict[str, Counts] = {"all": scores.strict.micro, **scores.strict.per_type}
    return [
        {
            "dataset": dataset,
            "metric": f"strict_{metric}",
            "entity_type": entity_type,
            "value": round(getattr(counts, metric), 4),
            "support": counts.support,
        }
        for entity_type, counts in parts.items()
        for metric in ("precision", "recall", "f1")
    ]


def table(found: dict[str, object]) -> str:
    """The card's table: a line per data set and type."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for row in found["evaluations"]:
        rows.setdefault((row["dataset"], row["entity_type"]), {"support": row["support"]})[row["metric"]] = row["value"]
    lines = ["| data set | type | precision | recall | F1 | mentions |", "|---|---|---|---|---|---|"]
    for (dataset, entity_type), v in rows.items():
        shown = " | ".join(f"{v[f'strict_{m}']:.4f}" for m in ("precision", "recall", "f1"))
        lines.append(f"| {dataset} | {entity_type} | {shown} | {v['support']:,} |")
    return "\n".join(lines)


def main() -> None:
    """Writes the figures beside the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shared", type=Path, required=True)
    options = parser.parse_args()
    found = figures(options.folder, options.shared)
    (options.folder / "version.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (options.folder / TRAINING_TEXTS).write_text(hashes(options.shared), "ascii")
    print(table(found))


if __name__ == "__main__":
    main()
