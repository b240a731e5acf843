"""The labels of a retrain, settled and written once: what it learns from and is judged by."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, combinations, groupby
from pathlib import Path
from typing import NamedTuple

import polars as pl

from ecner.config import LakeSettings, Settings, TrainSettings
from ecner.data.corpus import read_corpus
from ecner.data.hashes import text_hash
from ecner.data.rows import LabelledText, shown
from ecner.errors import DataError, RunError, UsageError
from ecner.labels import Span
from ecner.lake import Lake
from ecner.nightly.tombstones import FORGOTTEN_TEXT, buried
from ecner.retraining.annotations import Annotations, Rejection, read_annotations
from ecner.storage.warehouse import Warehouse

TRAIN, DEV, TEST = SPLITS = ("train", "dev", "test")
ANNOTATIONS, HELD_OUT = "annotations", "held_out"
SNAPSHOTS, LABELS_FILE, FACTS_FILE = "snapshots", "labels.parquet", "snapshot.json"

# Text is UTF-8 that may hold lone surrogates, which Parquet's own strings refuse.
_SCHEMA = pl.Schema(
    {
        "split": pl.String(),
        "dataset": pl.String(),
        "text": pl.Binary(),
        "text_hash": pl.String(),
        "spans": pl.List(pl.Struct({"start": pl.Int64(), "end": pl.Int64(), "label": pl.String()})),
    }
)
_Datasets = dict[str, dict[str, list[LabelledText]]]


@dataclass(frozen=True)
class Snapshot:
    """What was written, and what was found on the way; counts are of texts, for each split of ``SPLITS``.

    ``duplicates``: the same text and spans again, dropped. ``conflicting``: texts that a split has with several
    labellings, all kept. ``overlaps``: texts that two splits share (``train/dev``, ``train/test``, ``dev/test``),
    kept. ``labels``: those of the training texts, sorted. ``rejected``: annotations that could not be used.
    ``forgotten``: texts left out as their reviews were forgotten.

    ``fingerprint``: of the texts and spans of all splits and of how they are cut into datasets, not of the datasets'
    names. ``training_fingerprint``: the same of train and dev alone, which are all that a training reads. ``folder``
    is its address in the lake, named after the content and the names; ``endpoint`` that of the lake's object store.
    """

    folder: str
    fingerprint: str
    training_fingerprint: str
    counts: Mapping[str, int]
    duplicates: Mapping[str, int]
    conflicting: Mapping[str, int]
    overlaps: Mapping[str, int]
    labels: tuple[str, ...]
    rejected: tuple[Rejection, ...] = ()
    forgotten: int = 0
    endpoint: str | None = None

    @property
    def test_is_dev(self) -> bool:
        """Whether there are no test texts, so that a model is judged by those of dev."""
        return not self.counts[TEST]

    def texts(self, split: str) -> dict[str, list[LabelledText]]:
        """The texts of a split by dataset, in an order that content and names settle."""
        datasets: dict[str, list[LabelledText]] = {}
        for row in self._rows(split).iter_rows(named=True):
            spans = tuple(Span(span["start"], span["end"], span["label"]) for span in row["spans"])
            labelled = LabelledText(row["text"].decode("utf-8", "surrogatepass"), spans)
            datasets.setdefault(row["dataset"], []).append(labelled)
        return datasets

    def training_hashes(self) -> list[str]:
        """The ``text_hash`` of each training text, sorted, each once."""
        return self._rows(TRAIN)["text_hash"].unique().sort().to_list()

    def to_text(self) -> str:
        """A few lines for a terminal."""
        return "\n".join(self._lines())

    def _rows(self, split: str) -> pl.DataFrame:
        assert split in SPLITS, split  # noqa: S101
        here = Lake.open(LakeSettings(uri=self.folder, endpoint=self.endpoint))
        return here.read(LABELS_FILE).filter(split=split)

    def _lines(self) -> Iterator[str]:
        yield f"labels {self.fingerprint} in {self.folder}"
        for split in SPLITS:
            found = f"{self.counts[split]:,} texts, {self.duplicates[split]:,} exact duplicates dropped"
            several = f", {self.conflicting[split]:,} texts labelled in several ways" if self.conflicting[split] else ""
            yield f"  {split:5} {found}{several}"
        if self.test_is_dev:
            yield "  no test texts: dev stands in for test"
        yield f"  texts in both: {', '.join(f'{pair} {count:,}' for pair, count in self.overlaps.items())}"
        yield f"  labels of train: {', '.join(self.labels) or 'none'}"
        if self.forgotten:
            yield f"  {self.forgotten:,} left out: texts of reviews that were forgotten"
        yield from (f"  annotations not used: {rejection}" for rejection in self.rejected)


class _Row(NamedTuple):
    """A labelled text in its place; rows are sorted by these fields, none of which depends on files or their order."""

    split: str
    dataset: str
    text_hash: str
    spans: tuple[Span, ...]
    text: str


def take_snapshot(settings: Settings) -> Snapshot:
    """Collects the labelled texts that the settings name and writes them under lake.uri, whole and only once.

    The fingerprints are over texts, spans and their cut into splits and datasets: not over names and places of files,
    their formats and orders, or any clock.

    Raises:
        UsageError: nothing to train on is named, a file is missing, two files share a name, or no warehouse.
        DataError: a file holds a bad row, or no text is left to train on or to judge by.
        RunError: the warehouse or the source failed on the way, or the snapshot cannot be written.
    """
    chosen = settings.train
    if not chosen.train and not chosen.annotations:
        raise UsageError(
            "nothing to train on: name files of labelled texts with --train or train.train, or set train.annotations "
            "to use the warehouse's table annotations"
        )
    annotations = read_annotations(settings) if chosen.annotations else Annotations()
    datasets = _collect(chosen, annotations.texts)
    known, forgotten = list(_rows(datasets)), buried(settings.warehouse_at, FORGOTTEN_TEXT)
    given = [row for row in known if row.text_hash not in forgotten]
    rows = _without_duplicates(given)
    _check(rows, annotations.rejected)
    hashes = {split: {row.text_hash for row in rows if row.split == split} for split in SPLITS}
    counts = _count(rows)
    lake, name = Lake.open(settings.lake), f"{SNAPSHOTS}/{_digest(row[:4] for row in rows)}"
    snapshot = Snapshot(
        folder=lake.place(name),
        fingerprint=_fingerprint(rows),
        training_fingerprint=_fingerprint(row for row in rows if row.split != TEST),
        counts=counts,
        duplicates={split: count - counts[split] for split, count in _count(given).items()},
        conflicting=_conflicting(rows),
        overlaps={f"{one}/{other}": len(hashes[one] & hashes[other]) for one, other in combinations(SPLITS, 2)},
        labels=tuple(sorted({span.label for row in rows if row.split == TRAIN for span in row.spans})),
        rejected=annotations.rejected,
        forgotten=len(known) - len(given),
        endpoint=settings.lake.endpoint,
    )
    if not lake.exists(f"{name}/{FACTS_FILE}"):  # which comes last: else it holds the same rows, and stays
        facts = {key: value for key, value in asdict(snapshot).items() if key not in {"folder", "endpoint"}}
        told = json.dumps({**facts, "sources": _sources(settings, annotations)}, indent=1)
        lake.write(f"{name}/{LABELS_FILE}", _frame(rows))
        lake.write_bytes(f"{name}/{FACTS_FILE}", f"{told}\n".encode())
    if buried(settings.warehouse_at, FORGOTTEN_TEXT) != forgotten:
        lake.remove(name)
        raise RunError("a review was forgotten while its labels were collected: run again")
    return snapshot


def split_of(hashed: str, dev_share: float, test_share: float) -> str:
    """The split of a text by its hash: dev from below, test from above, so that neither share moves the other's."""
    place = int(hashed[:8], 16) / 16**8
    if place < dev_share:
        return DEV
    return TEST if place >= 1 - test_share else TRAIN


def _collect(settings: TrainSettings, annotated: Iterable[LabelledText]) -> _Datasets:
    """All texts by split and dataset. Training texts are one dataset: how files cut them means nothing."""
    files = chain.from_iterable(read_corpus(path, strict=True).texts for path in settings.train)
    datasets: _Datasets = {TRAIN: {TRAIN: list(files)}, DEV: _by_file(settings.dev), TEST: _by_file(settings.test)}
    for labelled in annotated:
        split = split_of(text_hash(labelled.text), settings.dev_share, settings.test_share)
        datasets[split].setdefault(TRAIN if split == TRAIN else ANNOTATIONS, []).append(labelled)
    if not datasets[DEV]:
        parts: dict[bool, list[LabelledText]] = {True: [], False: []}
        for labelled in datasets[TRAIN][TRAIN]:
            parts[split_of(text_hash(labelled.text), settings.dev_share, 0) == DEV].append(labelled)
        datasets[DEV][HELD_OUT], datasets[TRAIN][TRAIN] = parts[True], parts[False]
    return datasets


def _by_file(paths: Sequence[Path]) -> dict[str, list[LabelledText]]:
    names = [f"{path.resolve().parent.name}_{path.stem}" for path in paths]
    if len(set(names)) < len(names):
        raise UsageError(
            f"files to judge by need names of their own, got {', '.join(names)}: rename a file or its folder"
        )
    return {name: list(read_corpus(path, strict=True).texts) for name, path in zip(names, paths, strict=True)}


def _rows(datasets: _Datasets) -> Iterator[_Row]:
    for split, by_name in datasets.items():
        for name, texts in by_name.items():
            for labelled in texts:
                yield _Row(split, name, text_hash(labelled.text), labelled.spans, labelled.text)


def _without_duplicates(rows: Iterable[_Row]) -> list[_Row]:
    """Each labelled text of a split once, in order; a file keeps what stands in the annotations too."""
    ordered = sorted(rows, key=lambda row: (row.dataset == ANNOTATIONS, row))
    first = {(row.split, row.text_hash, row.spans): row for row in reversed(ordered)}
    return sorted(first.values())


def _check(rows: Sequence[_Row], rejected: Sequence[Rejection]) -> None:
    counts = _count(rows)
    unused = "".join(f"\n  annotations not used: {rejection}" for rejection in rejected)
    if not counts[TRAIN]:
        raise DataError(
            f"no text to train on, {counts[DEV]} for dev and {counts[TEST]} for test: label more, or name files with "
            f"--train{unused}"
        )
    if not counts[DEV]:
        raise DataError(
            f"no text for dev, {counts[TRAIN]} to train on: name files with --dev, or raise train.dev_share{unused}"
        )
    for label in {span.label for row in rows for span in row.spans}:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise DataError(f"the label {shown(label)} holds a lone surrogate: rename it") from None


def _fingerprint(rows: Iterable[_Row]) -> str:
    """Over the datasets' content; their cut counts, as the mean of their scores on dev chooses the epoch."""
    datasets = groupby(rows, key=lambda row: (row.split, row.dataset))
    return _digest(sorted((split, _digest(row[2:4] for row in members)) for (split, _), members in datasets))


def _digest(parts: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{json.dumps(part)}\n".encode())
    return digest.hexdigest()[:32]


def _count(rows: Iterable[_Row]) -> dict[str, int]:
    counts = Counter(row.split for row in rows)
    return {split: counts[split] for split in SPLITS}


def _conflicting(rows: Iterable[_Row]) -> dict[str, int]:
    labellings = Counter((row.split, row.text_hash) for row in rows)
    counts = Counter(split for (split, _), count in labellings.items() if count > 1)
    return {split: counts[split] for split in SPLITS}


def _sources(settings: Settings, annotations: Annotations) -> dict[str, object]:
    """Where the texts came from, for people: the same texts from elsewhere have the same fingerprint."""
    named = settings.train
    files = {TRAIN: named.train, DEV: named.dev, TEST: named.test}
    sources: dict[str, object] = {split: [str(path.absolute()) for path in paths] for split, paths in files.items()}
    if named.annotations:
        warehouse = Warehouse(*settings.warehouse_at).location
        sources[ANNOTATIONS] = {"warehouse": warehouse, "rows": annotations.rows, "texts": len(annotations.texts)}
    return sources


def _frame(rows: Sequence[_Row]) -> pl.DataFrame:
    columns = {
        "split": [row.split for row in rows],
        "dataset": [row.dataset for row in rows],
        "text": [row.text.encode("utf-8", "surrogatepass") for row in rows],
        "text_hash": [row.text_hash for row in rows],
        "spans": [[span._asdict() for span in row.spans] for row in rows],
    }
    return pl.DataFrame(columns, schema=_SCHEMA)
