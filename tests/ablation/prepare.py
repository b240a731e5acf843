"""What variants are made from, each step once: an encoder pre-trained on reviews, and rows added to the train split.

    python -m tests.ablation.prepare encoder ../shared OUT_FOLDER
    python -m tests.ablation.prepare renamed ../shared OUT_FILE
    python -m tests.ablation.prepare labelled ../shared OUT_FILE --teacher FOLDER --teacher FOLDER ...
    python -m tests.ablation.prepare spliced ../shared OUT_FILE --teacher FOLDER --teacher FOLDER ...

No text of either dev set, nor one that contains such a text, gets into any of them; no row is made from those that the
plan of the release holds out. Unlabelled reviews, and titles spliced from two of train, are labelled by the teachers
together, and kept where they are sure of every mention.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ecner.data.corpus import write_corpus
from ecner.data.rows import LabelledText
from ecner.inference.reader import Reader
from ecner.model.checkpoint import Checkpoint
from ecner.retraining.reading import read_texts
from tests.ablation.augment import renamed, spliced
from tests.ablation.command import PLANS
from tests.ablation.data import Sets
from tests.ablation.ensemble import Ensemble
from tests.ablation.leaks import leaks
from tests.ablation.plan import Plan
from tests.ablation.pretrain import pretrain

_LAYERS, _EPOCHS = 6, 3
_NAMES = ("HPPX", "XH")


def kept_rows(sets: Sets) -> list[LabelledText]:
    """The labelled train rows, without those on which the release is calibrated."""
    plan = Plan.read(PLANS / "release.yaml")
    fold = plan.held(0)
    return list(sets.train) if fold is None else sets.fold(fold, plan.folds)[0]


def unlabelled(shared: Path, sets: Sets) -> list[str]:
    """Texts of the unlabelled reviews, each once, without any dev text."""
    read = pl.scan_parquet(shared / "data/reviews/**/*.parquet", hive_partitioning=False).select("text").collect()
    texts = sorted(set(read["text"].drop_nulls()))
    return _clean(texts, sets)


def splices(sets: Sets, *, seed: int) -> list[str]:
    """Titles spliced from those of train."""
    is_title = set(sets.titles)
    titles = [row for row in kept_rows(sets) if row in is_title]
    return [row.text for row in sets.admitted(spliced(titles, seed=seed))]


def label(
    texts: Sequence[str], sets: Sets, teachers: Sequence[Path], *, least: float, dtype: str
) -> list[LabelledText]:
    """The texts that nobody has labelled, with the mentions that the teachers find together.

    Only rows without a mention under ``least`` are kept: what is left out is noise that would be learned.
    """
    known = {row.text for row in sets.train}
    new = [text for text in texts if text not in known]
    ensemble, vocabulary = Ensemble.load(teachers)
    reader = Reader(Checkpoint(ensemble, vocabulary), dtype=dtype)  # type: ignore[arg-type] # reads like a tagger
    found = read_texts(reader, new, {})
    rows = zip(new, found.spans, found.confidences, strict=True)
    return [LabelledText(text, tuple(spans)) for text, spans, sure in rows if min(sure, default=1.0) >= least]


def _clean(texts: Sequence[str], sets: Sets) -> list[str]:
    return [text for text, leaked in zip(texts, leaks(texts, sets.dev_texts()), strict=True) if not leaked]


def main() -> None:
    """One step."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("step", choices=["encoder", "renamed", "labelled", "spliced"])
    options.add_argument("shared", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--teacher", type=Path, action="append", default=[])
    options.add_argument("--least", type=float, default=0.5, help="confidence of each mention of a row")
    options.add_argument("--dtype", default="auto", help="that teachers read in")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    sets = Sets.read(given.shared)
    if given.step == "encoder":
        texts = unlabelled(given.shared, sets) + _clean(sorted({row.text for row in sets.train}), sets)
        encoder = str(given.shared / "models/e5-small-zh-char")
        pretrain(encoder, texts, given.out, layers=_LAYERS, epochs=_EPOCHS, seed=given.seed)
        return
    if given.step == "renamed":
        rows = sets.admitted(renamed(kept_rows(sets), _NAMES, seed=given.seed))
    else:
        is_spliced = given.step == "spliced"
        texts = splices(sets, seed=given.seed) if is_spliced else unlabelled(given.shared, sets)
        rows = label(texts, sets, given.teacher, least=given.least, dtype=given.dtype)
    if bad := write_corpus(given.out, rows, "jsonl"):
        raise SystemExit(f"{len(bad)} rows cannot be written, such as {bad[0]}")
    print(f"{len(rows):,} rows, {sum(len(row.spans) for row in rows):,} mentions")


if __name__ == "__main__":
    main()
