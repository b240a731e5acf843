"""One cell: a variant trained with one seed and scored on both dev sets; taken up where it was, never done twice.

python -m tests.ablation.cell PLAN SHARED FOLDER --variant NAME --seed N
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ecner.config import load_settings
from ecner.data.corpus import write_corpus
from ecner.data.files import write_whole
from ecner.data.rows import LabelledText
from ecner.inference.reader import Reader
from ecner.labels import Span
from ecner.metrics import Counts, score, split_seen
from ecner.model.checkpoint import STORED, Checkpoint
from ecner.model.lora import add_lora
from ecner.training.start import starting_point
from ecner.training.trainer import TaggerTrainer, train
from tests.ablation.command import Inputs, parser
from tests.ablation.data import Sets, added_rows
from tests.ablation.distil import Distiller
from tests.ablation.ensemble import Ensemble
from tests.ablation.plan import Variant

SCORE, TRAINED, HELD = "score.json", "trained", "held.jsonl"


def run_cell(inputs: Inputs, variant_name: str, seed: int, folder: Path) -> None:
    """Trains and scores one cell in its folder, unless it has been."""
    if (folder / SCORE).is_file():
        return
    sets, variant = Sets.read(inputs.shared), inputs.plan.variant(variant_name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = _rows(inputs, sets, variant, seed, folder / HELD)
    settings = variant.train_settings(seed=seed, base=inputs.encoders[variant.encoder])
    start = starting_point(settings, sets.tag_set)
    lora = None
    if settings.method == "lora":
        lora = add_lora(start.checkpoint.tagger, settings.lora, new=start.new)
    trainer = _trainer(inputs, variant.teachers)
    began = time.perf_counter()
    train(start.checkpoint, settings, train=rows, dev={}, output=folder, adapters=lora, trainer_class=trainer)
    seconds = time.perf_counter() - began
    checkpoint = start.checkpoint
    if lora is not None:
        checkpoint = Checkpoint(lora.merge_and_unload(), checkpoint.vocabulary)  # type: ignore[operator, arg-type]
    checkpoint.save(folder / TRAINED, STORED)
    found = {
        "variant": variant_name,
        "seed": seed,
        "seconds": round(seconds),
        "parameters": sum(p.numel() for p in checkpoint.tagger.parameters()),
        "scores": scores(Checkpoint.load(folder / TRAINED), sets),
    }
    write_whole(folder / SCORE, (json.dumps(found, indent=1) + "\n").encode())
    for left in folder.glob("checkpoint-*"):
        shutil.rmtree(left)


def _rows(inputs: Inputs, sets: Sets, variant: Variant, seed: int, held_out: Path) -> list[LabelledText]:
    """What the cell is trained on; what its fold leaves out is written to a file."""
    chosen = {row for name in variant.splits for row in getattr(sets, name)}
    rows: Sequence[LabelledText] = sets.train
    if (fold := inputs.plan.held(seed)) is not None:
        rows, held = sets.fold(fold, inputs.plan.folds)
        write_corpus(held_out, held, "jsonl")
    return [row for row in rows if row in chosen] + added_rows(sets, variant.added, inputs.added)


def _trainer(inputs: Inputs, teachers: Sequence[str]) -> Callable[..., TaggerTrainer]:
    if not teachers:
        return TaggerTrainer
    if unknown := sorted(set(teachers) - set(inputs.teachers)):
        raise SystemExit(f"name the teacher(s) {', '.join(unknown)} with --teacher NAME=FOLDER")
    ensemble, _ = Ensemble.load([inputs.teachers[name] for name in teachers])
    return partial(Distiller, ensemble=ensemble)


def scores(checkpoint: Checkpoint, sets: Sets) -> dict[str, dict[str, dict[str, float]]]:
    """Strict precision, recall and F1 by data set and type."""
    reader = Reader(checkpoint)
    types = load_settings(environ={}).model.labels
    tag_set = sets.tag_set.from_labels(types.values())
    _, unseen = split_seen((t.text for t in sets.titles_dev), (t.text for t in sets.train))
    rows = sets.reviews_dev + sets.titles_dev
    gold = [_typed(row.spans, types) for row in rows]
    read = reader.read([row.text for row in rows]).spans(reader.tag_set.labels)
    spans = [_typed(found, types) for found in read]
    first = len(sets.reviews_dev)
    parts = {
        "reviews_dev": range(first),
        "titles_dev": range(first, len(rows)),
        "titles_dev_unseen": [first + i for i in unseen],
    }
    found = {}
    for name, chosen in parts.items():
        lengths = [len(rows[i].text) for i in chosen]
        strict = score([gold[i] for i in chosen], [spans[i] for i in chosen], lengths, tag_set).strict
        found[name] = {"all": _figures(strict.micro)} | {t: _figures(c) for t, c in strict.per_type.items()}
    return found


def _typed(spans: Sequence[Span], types: Mapping[str, str]) -> list[Span]:
    return [span._replace(label=types[span.label]) for span in spans]


def _figures(counts: Counts) -> dict[str, float]:
    return {name: round(getattr(counts, name), 5) for name in ("precision", "recall", "f1")}


def main() -> None:
    """One cell, by the command line."""
    options = parser(__doc__)
    options.add_argument("--variant", required=True)
    options.add_argument("--seed", type=int, required=True)
    given = options.parse_args()
    run_cell(Inputs.of(given), given.variant, given.seed, given.folder)


if __name__ == "__main__":
    main()
