"""Scores a model for its card: writes version.json and its training texts' hashes, and prints the card's tables.

    python -m tests.release.figures MODEL_FOLDER --shared ../shared [--added FILE ...]

``--added`` names the files of rows that were trained on beside the official train splits. The data sets are those the
shipped model was made from; they are no part of the project.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecner.config import load_settings
from ecner.data.corpus import read_corpus
from ecner.data.hashes import text_hash
from ecner.data.rows import LabelledText
from ecner.inference.reader import Reader
from ecner.labels import Span, TagSet
from ecner.metrics import Counts, Scores, score, split_seen
from ecner.model.checkpoint import Checkpoint
from ecner.registry import TRAINING_TEXTS
from ecner.resources import asset
from ecner.retraining.calibration import calibrations, ece_interval
from ecner.retraining.mistakes import KINDS, error_classes
from ecner.retraining.reading import ALL, ModelReading, read_texts

TRAIN = ("data/ecommerce/train.jsonl", "data/reviews_labelled/train.jsonl")
BASE = "e5-small-zh-char, first 7 layers"
THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Judged:
    """A labelled set, under entity types, and what the model reads in it."""

    texts: Sequence[LabelledText]
    gold: Sequence[Sequence[Span]]
    reading: ModelReading

    def take(self, rows: Sequence[int]) -> "Judged":
        """Some of its rows."""
        return Judged([self.texts[i] for i in rows], [self.gold[i] for i in rows], self.reading.take(rows))

    def scores(self, types: Mapping[str, float] | None = None, least: float = 0.0) -> Scores:
        """Scores of the mentions with at least that confidence; of one type alone where named."""
        kept = [
            [span for span, sure in zip(spans, confidences, strict=True) if sure >= least]
            for spans, confidences in zip(self.reading.spans, self.reading.confidences, strict=True)
        ]
        names = types or {span.label for spans in (*self.gold, *self.reading.spans) for span in spans}
        return score(self.gold, kept, [len(text.text) for text in self.texts], TagSet.from_labels(names))


def judged(folder: Path, shared: Path) -> dict[str, Judged]:
    """Each labelled set with the model's reading, reviews first."""
    reader = Reader(Checkpoint.load(folder))
    types = load_settings(environ={}).model.labels

    def read(path: Path) -> Judged:
        texts = read_corpus(path, strict=True).texts
        gold = [[span._replace(label=types[span.label]) for span in text.spans] for text in texts]
        return Judged(texts, gold, read_texts(reader, [text.text for text in texts], types))

    titles = read(shared / "data/ecommerce/dev.jsonl")
    trained_on = (text.text for path in TRAIN for text in read_corpus(shared / path).texts)
    _, unseen = split_seen((text.text for text in titles.texts), trained_on)
    return {
        "reviews_dev": read(shared / "data/reviews_labelled/dev.jsonl"),
        "titles_dev_unseen": titles.take(unseen),
        "titles_dev": titles,
        "sample": read(asset("sample/reviews.jsonl")),
    }


def figures(sets: Mapping[str, Judged], shared: Path) -> dict[str, object]:
    """All figures of a model, strict matching, over all mentions and per entity type."""
    digest = hashlib.sha256(b"".join((shared / path).read_bytes() for path in TRAIN)).hexdigest()[:32]
    rows = [row for name, found in sets.items() for row in evaluations(name, found)]
    return {"base": BASE, "data_fingerprint": digest, "evaluations": rows}


def hashes(files: Sequence[Path]) -> str:
    """Hashes of the training texts, a line each, by which later models are compared on texts new to both."""
    texts = (text.text for path in files for text in read_corpus(path, strict=True).texts)
    return "\n".join([*sorted(set(map(text_hash, texts))), ""])


def evaluations(dataset: str, found: Judged) -> list[dict[str, object]]:
    """Rows of model_evaluations without the version; the ece of all mentions with its 95% interval."""
    strict = found.scores().strict
    parts: dict[str, Counts] = {ALL: strict.micro, **strict.per_type}
    calibration = calibrations(found.gold, found.reading)
    values = {t: {f"strict_{m}": getattr(c, m) for m in ("precision", "recall", "f1")} for t, c in parts.items()}
    for entity_type, own in calibration.items():
        values[entity_type]["ece"] = own.ece
    interval = ece_interval(found.gold, found.reading)
    values[ALL] |= {"ece_lower": interval.lower, "ece_upper": interval.upper}
    return [
        {
            "dataset": dataset,
            "metric": metric,
            "entity_type": entity_type,
            "value": round(value, 4),
            "support": parts[entity_type].support,
        }
        for entity_type, own in values.items()
        for metric, value in own.items()
    ]


def table(found: Mapping[str, object]) -> str:
    """The card's table of scores: a line per data set and type."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for row in found["evaluations"]:
        rows.setdefault((row["dataset"], row["entity_type"]), {"support": row["support"]})[row["metric"]] = row["value"]
    lines = ["| data set | type | precision | recall | F1 | ECE | mentions |", "|---|---|---|---|---|---|---|"]
    for (dataset, entity_type), v in rows.items():
        shown = " | ".join(f"{v[m]:.4f}" for m in ("strict_precision", "strict_recall", "strict_f1"))
        ece = f"{v['ece']:.3f}" + (f" [{v['ece_lower']:.3f}, {v['ece_upper']:.3f}]" if "ece_lower" in v else "")
        lines.append(f"| {dataset} | {entity_type} | {shown} | {ece} | {v['support']:,} |")
    return "\n".join(lines)


def threshold_table(found: Judged) -> str:
    """What model.min_confidence does to precision and recall, per type."""
    by_least = {least: found.scores(least=least).strict.per_type for least in THRESHOLDS}
    lines = [
        "| type | " + " | ".join(f"{least:g}" if least else "none" for least in THRESHOLDS) + " |",
        "|---" * (len(THRESHOLDS) + 1) + "|",
    ]
    for entity_type in by_least[0.0]:
        own = [by_least[least][entity_type] for least in THRESHOLDS]
        lines.append(f"| {entity_type} | " + " | ".join(f"{c.precision:.2f} / {c.recall:.2f}" for c in own) + " |")
    return "\n".join(lines)


def error_table(found: Judged) -> str:
    """How many mentions of each type are mistaken in each way."""
    types = sorted({span.label for spans in found.gold for span in spans})
    lines = [f"| type | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for entity_type, counts in error_classes(found.gold, found.reading.spans, types).items():
        lines.append(f"| {entity_type} | {' | '.join(str(counts[kind]) for kind in KINDS)} |")
    return "\n".join(lines)


def main() -> None:
    """Writes the figures beside the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--added", type=Path, action="append", default=[])
    options = parser.parse_args()
    sets = judged(options.folder, options.shared)
    found = figures(sets, options.shared)
    (options.folder / "version.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    trained_on = [*(options.shared / path for path in TRAIN), *options.added]
    (options.folder / TRAINING_TEXTS).write_text(hashes(trained_on), "ascii")
    print(table(found), threshold_table(sets["reviews_dev"]), error_table(sets["reviews_dev"]), sep="\n\n")


if __name__ == "__main__":
    main()
