"""Champion and challenger on the same test rows: every figure that the gate and the report need."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ecner.config import ModelSettings
from ecner.data.hashes import text_hash
from ecner.data.rows import LabelledText
from ecner.errors import DataError
from ecner.inference.reader import Reader
from ecner.labels import Span, TagSet
from ecner.metrics import Scores, score, to_json
from ecner.nightly.names import Lexicon
from ecner.retraining.bootstrap import Estimate, f1, f1_samples, percentile_interval, text_counts
from ecner.retraining.calibration import Calibration, calibrations, ece_interval
from ecner.retraining.entities import EntityChange, entity_changes, entity_counts
from ecner.retraining.mistakes import Confusion, Mistake, confusion, error_classes, worst_mistakes
from ecner.retraining.reading import ALL, CHALLENGER, CHAMPION, ModelReading, Speed, measure_speed, read_texts

SEEN, UNSEEN, FRESH = "seen", "unseen", "fresh"
_SPEED_CHARS, _SPEED_ROUNDS = 20_000, 3


@dataclass(frozen=True)
class Contender:
    """A model in the comparison. trained_on: ``text_hash`` of its training texts; None where they are not known."""

    version: str
    reader: Reader
    trained_on: AbstractSet[str] | None


@dataclass(frozen=True)
class Material:
    """What both models read: labelled test rows by data set, and the texts of recent reviews; and how it is counted.

    Raises:
        DataError: no test row, or a data set under the name that stands for all.
    """

    datasets: Mapping[str, Sequence[LabelledText]]
    recent: Sequence[str]
    model: ModelSettings  # labels to types, and the thresholds of what analysts see
    lexicon: Lexicon

    def __post_init__(self) -> None:
        """Refuses what cannot be compared on."""
        if not any(self.datasets.values()):
            raise DataError("no labelled text to compare models on: expected rows in train.test, or in train.dev")
        if ALL in self.datasets:
            raise DataError(f"a test set is named {ALL!r}, which stands for all of them: rename its file")


@dataclass(frozen=True)
class Part:
    """Figures over the rows of a data set (or ``all``) in a part, by side: champion (where there is one), challenger.

    part: ``all`` rows; ``seen`` and ``unseen`` by the challenger's training; ``fresh``: no model is known to have
    been trained on the text. ece: by entity type, and ``all``.
    """

    dataset: str
    part: str
    texts: int
    scores: Mapping[str, Scores]
    ece: Mapping[str, Mapping[str, float]]

    def evaluations(self, side: str) -> Iterator[dict[str, Any]]:
        """Rows of the table model_evaluations without the version."""
        dataset = self.dataset if self.part == ALL else f"{self.dataset}:{self.part}"
        scores = self.scores[side]
        mentions = scores.strict.micro.support
        figures = [
            ("token_accuracy", ALL, scores.token_accuracy, mentions),
            ("macro_f1", ALL, scores.macro_f1, mentions),
            *(("ece", entity_type, ece, None) for entity_type, ece in self.ece[side].items()),
        ]
        for way in ("strict", "partial", "type_only"):
            found = getattr(scores, way)
            for entity_type, counts in {ALL: found.micro, **found.per_type}.items():
                names = ("precision", "recall", "f1") if way == "strict" else ("f1",)
                figures += [(f"{way}_{name}", entity_type, getattr(counts, name), counts.support) for name in names]
        for metric, entity_type, value, support in figures:
            yield {
                "dataset": dataset,
                "metric": metric,
                "entity_type": entity_type,
                "value": value,
                "support": support,
            }


@dataclass(frozen=True)
class F1:
    """Strict F1 on fresh texts by side, and challenger - champion with its paired interval; None without a champion."""

    sides: Mapping[str, Estimate]
    difference: Estimate | None
    support: int


@dataclass(frozen=True)
class Comparison:
    """All figures of a challenger and, where the two can be compared, of the champion; mappings go by side.

    ``f1`` goes by data set (or ``all``), then by entity type (or ``all``); a data set without fresh texts is not in it.
    Calibration, ece (with its 95% interval), confusion, errors and mistakes are of the rows of the part ``shown``:
    fresh, or all where none is fresh.
    """

    versions: Mapping[str, str]
    unknown_training: tuple[str, ...]  # sides whose training texts are not known
    confidence: float  # of the intervals
    fresh_texts: int  # different ones
    types: tuple[str, ...]
    parts: tuple[Part, ...]
    f1: Mapping[str, Mapping[str, F1]]
    shown: str
    calibration: Mapping[str, Mapping[str, Calibration]]
    ece: Mapping[str, Estimate]
    confusion: Mapping[str, Confusion]
    errors: Mapping[str, Mapping[str, Mapping[str, int]]]
    mistakes: Mapping[str, tuple[Mistake, ...]]
    speed: Speed | None
    entities: Mapping[str, EntityChange]
    recent_reviews: int

    def part(self, dataset: str = ALL, part: str = ALL) -> Part | None:
        """The figures of a data set in a part; None where it has no rows."""
        return next((p for p in self.parts if (p.dataset, p.part) == (dataset, part)), None)

    def evaluations(self, side: str = CHALLENGER) -> list[dict[str, Any]]:
        """Rows of the table model_evaluations without the version."""
        rows = [row for part in self.parts for row in part.evaluations(side)]
        if self.speed:
            figures = {"metric": "chars_per_second", "value": self.speed.chars_per_second(side), "support": None}
            rows.append({"dataset": ALL, "entity_type": ALL, **figures})
        return rows

    def to_json(self) -> dict[str, Any]:
        """All figures, for ``json.dumps``."""
        parts = [
            {
                "dataset": part.dataset,
                "part": part.part,
                "texts": part.texts,
                "scores": {side: to_json(scores) for side, scores in part.scores.items()},
                "ece": part.ece,
            }
            for part in self.parts
        ]
        return asdict(self) | {"parts": parts, "slowdown": self.speed.slowdown if self.speed else None}


@dataclass(frozen=True)
class _Rows:
    """The test rows of all data sets, one after the other."""

    datasets: Sequence[str]
    texts: Sequence[str]
    hashes: Sequence[str]
    gold: Sequence[Sequence[Span]]

    @classmethod
    def of(cls, material: Material) -> "_Rows":
        types = material.model.labels
        rows = [(name, row) for name, labelled in material.datasets.items() for row in labelled]
        return cls(
            datasets=[name for name, _ in rows],
            texts=[row.text for _, row in rows],
            hashes=[text_hash(row.text) for _, row in rows],
            gold=[[s._replace(label=types.get(s.label, s.label)) for s in row.spans] for _, row in rows],
        )

    def take(self, chosen: Sequence[int]) -> "_Rows":
        """Some of the rows."""
        columns = (self.datasets, self.texts, self.hashes, self.gold)
        return _Rows(*([column[i] for i in chosen] for column in columns))  # type: ignore[arg-type] # each as it was


def compare(
    challenger: Contender, champion: Contender | None, material: Material, *, confidence: float = 0.95, seed: int = 0
) -> Comparison:
    """Lets both models read the test rows and the recent reviews, and works out every figure.

    Args:
        challenger: the model that is judged.
        champion: the one to beat; None where there is none, or one of other labels.
        material: test rows and recent reviews.
        confidence: of the intervals.
        seed: of the bootstrap; the same readings and seed give the same intervals.
    """
    contenders = {CHAMPION: champion, CHALLENGER: challenger} if champion else {CHALLENGER: challenger}
    types = material.model.labels
    rows = _Rows.of(material)
    readings = {side: read_texts(c.reader, rows.texts, types) for side, c in contenders.items()}
    recent = {side: read_texts(c.reader, material.recent, types) for side, c in contenders.items()}
    names = _types(contenders, rows.gold, types)
    chosen = _parts(rows.hashes, contenders)
    shown = FRESH if chosen[FRESH] else ALL
    shown_rows = rows.take(chosen[shown])
    shown_readings = {side: reading.take(chosen[shown]) for side, reading in readings.items()}
    return Comparison(
        versions={side: contender.version for side, contender in contenders.items()},
        unknown_training=tuple(side for side, contender in contenders.items() if contender.trained_on is None),
        confidence=confidence,
        fresh_texts=len({rows.hashes[i] for i in chosen[FRESH]}),
        types=names,
        parts=tuple(_figures(rows, chosen, readings, names)),
        f1={
            dataset: _f1(rows, fresh, readings, names, confidence=confidence, seed=seed)
            for dataset, fresh in _by_dataset(rows.datasets, chosen[FRESH]).items()
        },
        shown=shown,
        calibration={side: calibrations(shown_rows.gold, reading) for side, reading in shown_readings.items()},
        ece={side: ece_interval(shown_rows.gold, reading) for side, reading in shown_readings.items()},
        confusion={side: confusion(shown_rows.gold, reading.spans, names) for side, reading in shown_readings.items()},
        errors={side: error_classes(shown_rows.gold, reading.spans, names) for side, reading in shown_readings.items()},
        mistakes={
            side: worst_mistakes(shown_rows.texts, shown_rows.gold, reading, _other(side, shown_readings))
            for side, reading in shown_readings.items()
        },
        speed=measure_speed(
            {side: c.reader for side, c in contenders.items()}, rows.texts, chars=_SPEED_CHARS, rounds=_SPEED_ROUNDS
        ),
        entities=entity_changes(
            {
                side: entity_counts(material.recent, reading, material.lexicon, material.model.min_confidence)
                for side, reading in recent.items()
            }
        ),
        recent_reviews=len(material.recent),
    )


def _types(
    contenders: Mapping[str, Contender], gold: Sequence[Sequence[Span]], types: Mapping[str, str]
) -> tuple[str, ...]:
    """Entity types that a model can find or that are gold, in sorted order."""
    labels = {label for contender in contenders.values() for label in contender.reader.tag_set.labels}
    return tuple(sorted({types.get(label, label) for label in labels} | {s.label for spans in gold for s in spans}))


def _parts(hashes: Sequence[str], contenders: Mapping[str, Contender]) -> dict[str, list[int]]:
    """Rows of each part; what is not known of a model's training is taken as not seen."""
    trained_on = contenders[CHALLENGER].trained_on
    known = {text for contender in contenders.values() for text in contender.trained_on or ()}
    rows = range(len(hashes))
    parts = {ALL: list(rows)}
    if trained_on is not None:
        parts[SEEN] = [i for i in rows if hashes[i] in trained_on]
        parts[UNSEEN] = [i for i in rows if hashes[i] not in trained_on]
    return parts | {FRESH: [i for i in rows if hashes[i] not in known]}


def _by_dataset(datasets: Sequence[str], rows: Sequence[int]) -> dict[str, list[int]]:
    """The rows of all data sets together and of each, where there are any."""
    found: dict[str, list[int]] = {}
    for i in rows:
        found.setdefault(ALL, []).append(i)
        found.setdefault(datasets[i], []).append(i)
    return found


def _figures(
    rows: _Rows, parts: Mapping[str, Sequence[int]], readings: Mapping[str, ModelReading], types: Sequence[str]
) -> Iterator[Part]:
    tag_set = TagSet.from_labels(types)
    for part, part_rows in parts.items():
        for dataset, chosen in _by_dataset(rows.datasets, part_rows).items():
            some = rows.take(chosen)
            lengths = [len(text) for text in some.texts]
            taken = {side: reading.take(chosen) for side, reading in readings.items()}
            yield Part(
                dataset=dataset,
                part=part,
                texts=len(chosen),
                scores={side: score(some.gold, reading.spans, lengths, tag_set) for side, reading in taken.items()},
                ece={
                    side: {name: found.ece for name, found in calibrations(some.gold, reading).items()}
                    for side, reading in taken.items()
                },
            )


def _f1(
    rows: _Rows,
    chosen: Sequence[int],
    readings: Mapping[str, ModelReading],
    types: Sequence[str],
    *,
    confidence: float,
    seed: int,
) -> Mapping[str, F1]:
    """Strict F1 over all types and of each, with intervals; rows of the same text are drawn together."""
    some = rows.take(chosen)
    _, groups = np.unique(some.hashes, return_inverse=True)
    counts = np.stack([text_counts(some.gold, r.take(chosen).spans, types, groups) for r in readings.values()])
    values, samples = f1(counts.sum(axis=1)), f1_samples(counts, seed=seed)
    lower, upper = percentile_interval(samples.swapaxes(0, 1), confidence)  # (models, types) each
    between = percentile_interval(samples[-1] - samples[0], confidence)  # (2, types)
    found = {}
    for i, name in enumerate((ALL, *types)):
        sides = {
            side: Estimate(float(values[m, i]), float(lower[m, i]), float(upper[m, i]))
            for m, side in enumerate(readings)
        }
        gain = Estimate(float(values[-1, i] - values[0, i]), float(between[0, i]), float(between[1, i]))
        found[name] = F1(sides, gain if CHAMPION in sides else None, int(counts[0, :, i, 2].sum()))
    return found


def _other(side: str, readings: Mapping[str, ModelReading]) -> ModelReading | None:
    return readings.get(CHALLENGER if side == CHAMPION else CHAMPION)
