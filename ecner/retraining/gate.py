"""The gate: what a challenger must show against the champion before it may lead, rule by rule, with figures."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from ecner.config import GateSettings
from ecner.retraining.compare import F1, Comparison
from ecner.retraining.reading import ALL
from ecner.schema import TABLES

Outcome = Literal["passed", "failed", "not judged"]


@dataclass(frozen=True)
class Decision:
    """One rule: what was found, with its interval where it has one, and what is allowed."""

    rule: str
    outcome: Outcome
    value: float | None
    allowed: float
    detail: str
    lower: float | None = None
    upper: float | None = None


def judge(comparison: Comparison, gate: GateSettings) -> tuple[Decision, ...]:
    """All decisions on a challenger; it passes the gate where none of them is ``failed``.

    F1 is judged on the texts that neither model was trained on, over all test sets together.
    """
    found = comparison.f1.get(ALL, {})
    return (
        _fresh_texts(comparison, gate),
        *_gain(found.get(ALL), gate),
        *_type_losses(comparison, gate),
        _slowdown(comparison, gate),
        *_entity_changes(comparison, gate),
    )


def passes(decisions: Sequence[Decision]) -> bool:
    """Whether nothing speaks against a promotion."""
    return all(decision.outcome != "failed" for decision in decisions)


def reasons(decisions: Sequence[Decision]) -> str:
    """Why a challenger was refused, in a line."""
    return "; ".join(_in_words(decision) for decision in decisions if decision.outcome == "failed")


def decision_rows(decisions: Sequence[Decision], version: str, champion: str, now: datetime) -> pl.DataFrame:
    """Rows of the table gate_decisions."""
    rows = [{"version": version, "champion": champion, "decided_at": now, **asdict(d)} for d in decisions]
    return pl.DataFrame(rows, schema=TABLES["gate_decisions"].polars_schema)


def _fresh_texts(comparison: Comparison, gate: GateSettings) -> Decision:
    """Where a model does not tell what it was trained on, no text is known to be new to it."""
    texts, detail = comparison.fresh_texts, "test texts that neither model was trained on"
    if unknown := [comparison.versions[side] for side in comparison.unknown_training]:
        why = f"{detail}: none is known to be, as {' and '.join(unknown)} came without their hashes"
        return Decision("fresh_texts", "failed", 0, gate.min_texts, why)
    return _decided("fresh_texts", texts, gate.min_texts, texts >= gate.min_texts, detail)


def _gain(f1: F1 | None, gate: GateSettings) -> Iterator[Decision]:
    difference = f1.difference if f1 else None
    for rule, allowed, detail in (
        ("gain", gate.min_gain, "strict F1 of the challenger less that of the champion"),
        ("gain_lower", gate.min_gain_lower, f"lower end of its {gate.confidence:.0%} interval"),
    ):
        if difference is None:
            yield Decision(rule, "not judged", None, allowed, f"{detail}: no text to judge it on")
            continue
        value = difference.value if rule == "gain" else difference.lower
        interval = {"lower": difference.lower, "upper": difference.upper}
        yield Decision(rule, _outcome(value >= allowed), value, allowed, detail, **interval)


def _type_losses(comparison: Comparison, gate: GateSettings) -> Iterator[Decision]:
    for entity_type, f1 in comparison.f1.get(ALL, {}).items():
        if entity_type == ALL or f1.difference is None:
            continue
        rule, allowed = f"type_loss:{entity_type}", gate.max_type_loss
        detail = f"loss of strict F1 on {entity_type} ({f1.support:,} gold mentions)"
        loss = -f1.difference.value
        interval = {"lower": -f1.difference.upper, "upper": -f1.difference.lower}
        is_judged = f1.support >= gate.min_type_support
        outcome = _outcome(loss <= allowed) if is_judged else "not judged"
        why = "" if is_judged else f": fewer than {gate.min_type_support}"
        yield Decision(rule, outcome, loss, allowed, detail + why, **interval)


def _slowdown(comparison: Comparison, gate: GateSettings) -> Decision:
    slowdown = comparison.speed.slowdown if comparison.speed else None
    detail = "seconds of the challenger over those of the champion, same texts"
    if slowdown is None:
        return Decision("slowdown", "not judged", None, gate.max_slowdown, f"{detail}: nothing was timed")
    return _decided("slowdown", slowdown, gate.max_slowdown, slowdown <= gate.max_slowdown, detail)


def _entity_changes(comparison: Comparison, gate: GateSettings) -> Iterator[Decision]:
    for entity_type, change in comparison.entities.items():
        if change.moved is None:
            continue
        counts = sum(max(row.champion or 0, row.challenger) for row in change.rows)
        detail = f"share of the top {entity_type} entities' counts that moved, {comparison.recent_reviews:,} reviews"
        rule, allowed = f"entity_change:{entity_type}", gate.max_entity_change
        if counts < gate.min_type_support:
            why = f"{detail}: {counts:,} in all, fewer than {gate.min_type_support}"
            yield Decision(rule, "not judged", change.moved, allowed, why)
        else:
            yield _decided(rule, change.moved, allowed, change.moved <= allowed, detail)


def _decided(rule: str, value: float, allowed: float, is_good: bool, detail: str) -> Decision:
    return Decision(rule, _outcome(is_good), value, allowed, detail)


def _outcome(is_good: bool) -> Outcome:
    return "passed" if is_good else "failed"


def _in_words(decision: Decision) -> str:
    value = "none" if decision.value is None else f"{decision.value:.4g}"
    return f"{decision.rule} is {value}, allowed {decision.allowed:.4g}"
