"""What the evaluation report says, in order, as paragraphs, tables and pictures; ``page`` draws them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecner import charts
from ecner.metrics import Counts
from ecner.pages import Block, Cell, Marked, Picture, Section, Table, plain
from ecner.retraining.bootstrap import Estimate
from ecner.retraining.compare import FRESH, Comparison, Part
from ecner.retraining.entities import EntityChange
from ecner.retraining.gate import Decision
from ecner.retraining.mistakes import KINDS, Confusion, Mistake
from ecner.retraining.reading import ALL, CHALLENGER, CHAMPION

_CUT_CHARS = 60
_PICTURED_TYPES = 8


@dataclass(frozen=True)
class Surroundings:
    """What the report says beside the comparison.

    decisions: of the gate; none where the models cannot be compared. verdict: what became of the challenger, and why.
    data: what the labels are, a line a fact. notes: what is not known, beside what the comparison itself says.
    curve: the Trainer's log of the challenger's training.
    """

    decisions: Sequence[Decision]
    verdict: str
    data: str
    notes: Sequence[str] = ()
    curve: Sequence[Mapping[str, Any]] = ()


def sections(comparison: Comparison, around: Surroundings) -> Iterator[Section]:
    """The report, the verdict first."""
    yield Section("Verdict", [around.verdict, *_decisions(around.decisions)])
    yield Section("In short", list(_headline(comparison)))
    yield Section("By type", list(_by_type(comparison)))
    yield Section("Texts seen in training, and not", [_PARTS, _parts(comparison)])
    yield Section("Calibration of the confidence", list(_calibration(comparison)))
    yield Section("Confusion between types", list(_confusions(comparison)))
    yield Section(f"Worst errors on {_rows(comparison)}", list(_mistakes(comparison)))
    yield Section("Speed", list(_speed(comparison)))
    yield Section("What analysts would see", list(_entities(comparison)))
    if around.curve:
        picture = Picture(charts.learning_curve(around.curve), "Training loss and strict F1 on dev over the epochs")
        yield Section("Learning curve", [picture])
    yield Section("Data", around.data.splitlines())
    yield Section("What this report does not know", [*around.notes, *_unknown(comparison)])


_PARTS = (
    "Seen and unseen go by the challenger's training texts; fresh: neither model is known to have been trained on "
    "the text. The gate judges on fresh texts. Strict F1 asks for the right ends and type, partial F1 for an overlap "
    "of the right type, type-only F1 for the right type in the same text."
)


def _decisions(decisions: Sequence[Decision]) -> Iterator[Table]:
    if decisions:
        rows = [
            (d.rule, _number(d.value), _interval(d.lower, d.upper), _number(d.allowed), d.outcome, d.detail)
            for d in decisions
        ]
        yield Table(("rule", "value", "interval", "allowed", "outcome", "what it is"), rows)


def _headline(comparison: Comparison) -> Iterator[str | Table]:
    yield ", ".join(f"{side} {version}" for side, version in comparison.versions.items())
    part = comparison.part(ALL, comparison.shown)
    assert part is not None, comparison.shown  # noqa: S101
    yield f"Over {_rows(comparison)}: {part.texts:,} rows, {comparison.fresh_texts:,} different fresh texts."
    sides = list(comparison.versions)
    found = comparison.f1.get(ALL, {}).get(ALL)
    gain = f"{_signed(found.difference)}" if found and found.difference else ""
    rows = [
        (name, *(_number(pick(part, side)) for side in sides), gain if name == "strict F1" else "")
        for name, pick in _HEADLINES.items()
    ]
    yield Table(("", *sides, f"difference, {comparison.confidence:.0%} interval"), rows)


_HEADLINES: Mapping[str, Callable[[Part, str], float]] = {
    "strict precision": lambda part, side: part.scores[side].strict.micro.precision,
    "strict recall": lambda part, side: part.scores[side].strict.micro.recall,
    "strict F1": lambda part, side: part.scores[side].strict.micro.f1,
    "partial F1": lambda part, side: part.scores[side].partial.micro.f1,
    "type-only F1": lambda part, side: part.scores[side].type_only.micro.f1,
    "macro F1": lambda part, side: part.scores[side].macro_f1,
    "token accuracy": lambda part, side: part.scores[side].token_accuracy,
    "ECE": lambda part, side: part.ece[side][ALL],
}


def _by_type(comparison: Comparison) -> Iterator[Block]:
    part = comparison.part(ALL, comparison.shown)
    assert part is not None, comparison.shown  # noqa: S101
    head = ("type", "model", "mentions", "precision", "recall", "F1", "partial F1", "type-only F1", "ECE")
    yield Table(head, [_type_row(part, name, side) for name in comparison.types for side in comparison.versions])
    found = comparison.f1.get(ALL, {})
    if found:
        figures = {
            _cut(name): {side: (e.value, e.lower, e.upper) for side, e in f1.sides.items()}
            for name, f1 in found.items()
        }
        yield Picture(charts.f1_by_type(figures), "Strict F1 by type with intervals, on fresh texts")
    for dataset, by_type in comparison.f1.items():
        if dataset not in _datasets(comparison):
            continue
        rows = [
            (name, f"{f1.support:,}", _signed(f1.difference))
            for name, f1 in by_type.items()
            if f1.difference is not None
        ]
        if rows:
            yield f"Strict F1, challenger less champion, on the fresh texts of {dataset} (paired bootstrap):"
            yield Table(("type", "mentions", f"difference, {comparison.confidence:.0%} interval"), rows)


def _type_row(part: Part, name: str, side: str) -> Sequence[str]:
    scores = part.scores[side]
    none = Counts(0, 0, 0)
    strict, partial, loose = (way.per_type.get(name, none) for way in (scores.strict, scores.partial, scores.type_only))
    figures = (strict.precision, strict.recall, strict.f1, partial.f1, loose.f1, part.ece[side].get(name))
    return (name, side, f"{strict.support:,}", *map(_number, figures))


def _parts(comparison: Comparison) -> Table:
    sides = list(comparison.versions)
    rows = [
        (
            part.dataset,
            part.part,
            f"{part.texts:,}",
            f"{part.scores[CHALLENGER].strict.micro.support:,}",
            *(
                _number(getattr(part.scores[side], way).micro.f1)
                for way in ("strict", "partial", "type_only")
                for side in sides
            ),
        )
        for part in comparison.parts
        if part.dataset in _datasets(comparison)
    ]
    ways = [f"{way} F1, {side}" for way in ("strict", "partial", "type-only") for side in sides]
    return Table(("data", "part", "rows", "mentions", *ways), rows)


def _calibration(comparison: Comparison) -> Iterator[Block]:
    yield (
        f"On {_rows(comparison)}: of the mentions with a confidence of 0.8, 8 in 10 should be strictly right. ECE is "
        "the mean gap between confidence and precision over ten bins of equal mass."
    )
    for side, ece in comparison.ece.items():
        yield f"{side}: ECE {_number(ece.value)}, in 95% of resamplings of the texts {_interval(ece.lower, ece.upper)}."
    curves = {
        side: [(b.confidence, b.precision, b.count) for b in found[ALL].bins]
        for side, found in comparison.calibration.items()
    }
    if any(curves.values()):
        yield Picture(charts.reliability(curves), "Precision against confidence")
    rows = [
        (name, side, f"{found[name].count:,}", _number(found[name].ece))
        for name in (ALL, *comparison.types)
        for side, found in comparison.calibration.items()
        if name in found
    ]
    yield Table(("type", "model", "predicted mentions", "ECE"), rows)


def _confusions(comparison: Comparison) -> Iterator[str | Table]:
    yield (
        f"On {_rows(comparison)}: a row is a gold type, a column the type of the prediction that overlaps the mention, "
        "at whatever ends."
    )
    for side, found in comparison.confusion.items():
        yield side
        yield _confusion(found)


def _confusion(found: Confusion) -> Table:
    names = (*found.types, "spurious")
    rows = [(name, *(f"{n:,}" for n in counts)) for name, counts in zip(names, found.counts, strict=True)]
    rows[-1] = (*rows[-1][:-1], "")  # neither gold nor predicted
    return Table(("gold", *found.types, "missed"), rows)


def _mistakes(comparison: Comparison) -> Iterator[str | Table]:
    yield f"On {_rows(comparison)}, mentions mistaken in each way; a spurious one stands under the type predicted."
    rows = [
        (name, side, *(f"{counts[kind]:,}" for kind in KINDS))
        for name in comparison.types
        for side, counts in ((side, errors[name]) for side, errors in comparison.errors.items())
    ]
    yield Table(("type", "model", *KINDS), rows)
    for side, found in comparison.mistakes.items():
        yield f"{side}, what the other model gets right first:" if len(comparison.mistakes) > 1 else f"{side}:"
        yield Table(
            ("error", "in its context", "gold", "predicted", "confidence", "times", "other model"),
            [_mistake(m) for m in found],
        )


def _mistake(m: Mistake) -> Sequence[Cell]:
    gold, predicted = (
        "" if words is None else f"{entity_type}: {_cut(words)}"
        for words, entity_type in ((m.gold, m.gold_type), (m.predicted, m.predicted_type))
    )
    context = Marked(m.before, _cut(m.mention), m.after)
    return (m.kind, context, gold, predicted, _number(m.confidence), str(m.times), "right" if m.other_is_right else "")


def _speed(comparison: Comparison) -> Iterator[str | Table]:
    if (speed := comparison.speed) is None:
        yield "Nothing was timed, as the test texts are empty."
        return
    rounds = len(speed.seconds[CHALLENGER])
    yield f"The same {speed.chars:,} characters, {rounds} rounds in turns, the median round:"
    rows = [(side, f"{speed.chars_per_second(side):,.0f}") for side in speed.seconds]
    yield Table(("model", "characters a second"), rows)
    if speed.slowdown is not None:
        yield f"The challenger takes {speed.slowdown:.2f} times as long as the champion."


def _entities(comparison: Comparison) -> Iterator[Block]:
    yield (
        f"The top entities of each type in {comparison.recent_reviews:,} recent reviews, by the number of reviews, "
        "under the names and thresholds of the tables. Moved: the sum of |new - old| over the sum of the larger count."
    )
    changes = comparison.entities
    if all(change.moved is not None for change in changes.values()):
        rows = [(name, f"{len(c.rows):,}", f"{c.moved:.0%}") for name, c in changes.items() if c.moved is not None]
        yield Table(("type", "entities", "moved"), rows)
    for number, (name, change) in enumerate(changes.items()):
        yield f"{name}:"
        if number < _PICTURED_TYPES:
            yield Picture(charts.entity_change(_bars(change)), f"Reviews by entity and model: {_cut(name)}")
        yield _entity_table(change)


def _bars(change: EntityChange) -> Sequence[tuple[str, Mapping[str, int]]]:
    return [
        (_cut(row.canonical), ({} if row.champion is None else {CHAMPION: row.champion}) | {CHALLENGER: row.challenger})
        for row in change.rows
    ]


def _entity_table(change: EntityChange) -> Table:
    if change.moved is None:
        return Table(("entity", "reviews"), [(_cut(row.canonical), f"{row.challenger:,}") for row in change.rows])
    rows = [
        (
            _cut(row.canonical),
            f"{row.champion or 0:,}",
            f"{row.challenger:,}",
            f"{_place(row.champion_rank)} → {_place(row.challenger_rank)}",
        )
        for row in change.rows
    ]
    return Table(("entity", CHAMPION, CHALLENGER, "place"), rows)


def _unknown(comparison: Comparison) -> Iterator[str]:
    for side in comparison.unknown_training:
        yield (
            f"The training texts of the {side} are not known: some of the fresh texts may have been among them, which "
            f"would flatter the {side}."
        )
    if CHAMPION not in comparison.versions:
        yield "How the champion does on these texts: the figures are of the challenger alone."
    if comparison.shown != FRESH:
        yield "How the models do on texts that neither was trained on: the test rows hold none."
    if not comparison.recent_reviews:
        yield "What would change in the tables: there are no recent reviews."
    yield (
        "How far the test labels themselves are right, and how the models do on reviews unlike the test rows. The "
        "intervals are of the luck of the test texts, not of that of the training."
    )


def _datasets(comparison: Comparison) -> Sequence[str]:
    """Those with figures of their own: a lone data set is all of them."""
    names = list(dict.fromkeys(part.dataset for part in comparison.parts))
    return names if len(names) > 2 else names[:1]  # noqa: PLR2004 - all of them, and the lone one


def _rows(comparison: Comparison) -> str:
    return "the fresh test rows" if comparison.shown == FRESH else "all test rows (none is fresh)"


def _signed(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate.value:+.4f} [{estimate.lower:+.4f}, {estimate.upper:+.4f}]"


def _interval(lower: float | None, upper: float | None) -> str:
    return "" if lower is None or upper is None else f"[{_number(lower)}, {_number(upper)}]"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"


def _place(rank: int | None) -> str:
    return "–" if rank is None else str(rank)


def _cut(text: str) -> str:
    shown = plain(text)
    return shown if len(shown) <= _CUT_CHARS else f"{shown[:_CUT_CHARS]}…"
