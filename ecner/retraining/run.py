"""A retrain from end to end: what every way of running it does around and between the stages.

Invariant: whatever stops it, a rerun goes on where it was, and one training enters one version into the registry.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ecner.config import Settings
from ecner.data.files import write_whole
from ecner.data.label_sets import read_label_set
from ecner.errors import UsageError
from ecner.inference.reader import Reader
from ecner.lake import Lake
from ecner.nightly.rules import Rules
from ecner.nightly.source import open_source
from ecner.registry import ModelVersion, labels_of, resolve_in, training_texts
from ecner.retraining.bridge import Champion, find_champion
from ecner.retraining.compare import Comparison, Contender, Material, compare
from ecner.retraining.overlap import recent_reviews
from ecner.retraining.page import Page
from ecner.retraining.sections import Surroundings
from ecner.retraining.snapshot import DEV, TEST, Snapshot, take_snapshot
from ecner.retraining.train import Candidate, base_model, train_candidate
from ecner.retraining.verdict import Verdict, decide
from ecner.storage.warehouse import Warehouse
from ecner.training.run import CURVE
from ecner.training.start import check_sizes

REPORT, MARKDOWN, FIGURES = "report.html", "report.md", "comparison.json"
_DEV_IS_TEST = "There were no test texts: the models were judged by dev, which also chose the challenger's best epoch."


@dataclass(frozen=True)
class Retrain:
    """Settings that were checked before anything is started or written: whoever has it can run the stages."""

    settings: Settings

    def snapshot(self) -> Snapshot:
        """Stage 1: the labels, settled and written once."""
        if self.settings.train.annotations:  # the table may not be there yet, and is then empty
            Warehouse(*self.settings.warehouse_at).migrate()
        return take_snapshot(self.settings)

    def train(self, snapshot: Snapshot) -> Candidate:
        """Stage 2: the challenger, as a version folder."""
        return train_candidate(self.settings, snapshot)

    def compare(self, snapshot: Snapshot, candidate: Candidate) -> "Compared":
        """Stage 3: champion and challenger on the same test rows."""
        new = resolve_in(self.settings.warehouse_at, candidate.folder, self.settings.lake)
        champion = find_champion(self.settings.warehouse_at, self.settings.lake)
        apart = _why_apart(champion, new)
        comparison = compare(
            self._contender(new),
            self._contender(champion.model) if champion.model and not apart else None,
            self._material(snapshot),
            confidence=self.settings.train.gate.confidence,
            seed=self.settings.train.seed,
        )
        figures = json.dumps(comparison.to_json(), ensure_ascii=False, indent=1)
        write_whole(Path(candidate.work) / FIGURES, (figures + "\n").encode())
        return Compared(new, champion, comparison, apart)

    def decide(self, snapshot: Snapshot, candidate: Candidate, compared: "Compared") -> Verdict:
        """Stage 4: the gate; the version, its figures and the decisions enter the warehouse, with the promotion."""
        Warehouse(*self.settings.warehouse_at).migrate()
        verdict = decide(self.settings, compared.new, compared.champion, compared.comparison, apart=compared.apart)
        work = Path(candidate.work)
        around = Surroundings(
            verdict.decisions,
            verdict.sentence,
            data=snapshot.to_text(),
            notes=[_DEV_IS_TEST] if snapshot.test_is_dev else [],
            curve=json.loads((work / CURVE).read_text("utf-8")),
        )
        page = Page.of(compared.comparison, around)
        write_whole(work / REPORT, page.to_html().encode())
        write_whole(work / MARKDOWN, page.to_markdown().encode())
        return replace(verdict, report=str(work / REPORT))

    def _contender(self, model: ModelVersion) -> Contender:
        reader = Reader.open(model.folder, self.settings.model, max_batch_chars=self.settings.run.max_batch_chars)
        return Contender(model.version, reader, training_texts(model.folder))

    def _material(self, snapshot: Snapshot) -> Material:
        settings = self.settings
        recent = recent_reviews(settings, settings.train.overlap_reviews)
        return Material(
            datasets=snapshot.texts(DEV if snapshot.test_is_dev else TEST),
            recent=recent["text"].to_list(),
            model=settings.model,
            lexicon=Rules.of(settings.model).lexicon,
        )


@dataclass(frozen=True)
class Compared:
    """What stage 3 hands to the decision; ``apart`` says why champion and challenger cannot be compared, if so."""

    new: ModelVersion
    champion: Champion
    comparison: Comparison
    apart: str


def prepare(settings: Settings) -> Retrain:
    """Checks settings, label files, base, source and lake; nothing has been written when it raises.

    Raises:
        UsageError: one of them is wrong.
        DataError: the source or the label set cannot be read.
        ModelError: the base's folder is not what it was.
        TransientError: the lake's object store does not answer.
    """
    chosen = settings.train
    if missing := [str(path) for path in (*chosen.train, *chosen.dev, *chosen.test) if not path.is_file()]:
        raise UsageError(f"no such file of labelled texts: {', '.join(missing)}; name existing ones")
    base, _ = base_model(settings)
    check_sizes(chosen.model_copy(update={"base": base}))
    if chosen.labels:
        read_label_set(chosen.labels)
    open_source(settings.source)  # of the recent reviews that both models will read
    Warehouse(*settings.warehouse_at)
    Lake.open(settings.lake).check()
    return Retrain(settings)


def run_retrain(retrain: Retrain, *, tell: Callable[[str], object] = lambda _: None) -> Verdict:
    """Runs the stages one after the other, here; ``tell`` gets what there is to know on the way."""
    snapshot = retrain.snapshot()
    tell(snapshot.to_text())
    candidate = retrain.train(snapshot)
    tell(f"comparing {candidate.version} with the champion")
    return retrain.decide(snapshot, candidate, retrain.compare(snapshot, candidate))


def _why_apart(champion: Champion, new: ModelVersion) -> str:
    """Why two models cannot be compared; empty where they can."""
    if champion.model is None:
        return f"the champion {champion.version} cannot be read: {champion.problem}"
    old, own = labels_of(champion.model.folder), labels_of(new.folder)
    if old != own:
        return f"its labels are {', '.join(sorted(own))}, those of the champion {', '.join(sorted(old))}"
    return ""
