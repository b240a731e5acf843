"""The decision on a challenger, entered whole: version, figures, decisions and promotion in one transaction."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from ecner.config import Settings
from ecner.model.checkpoint import fingerprint
from ecner.registry import ModelVersion, register
from ecner.retraining.bridge import Champion, read_bridge
from ecner.retraining.compare import Comparison
from ecner.retraining.gate import Decision, decision_rows, judge, passes, reasons
from ecner.retraining.promotion import Promotion, enter_promotion
from ecner.retraining.reading import CHALLENGER, CHAMPION
from ecner.schema import TABLES
from ecner.storage.transaction import Transaction
from ecner.storage.warehouse import Warehouse

Outcome = Literal["promoted", "refused", "not comparable", "waiting", "leads already"]


@dataclass(frozen=True)
class Verdict:
    """What became of a challenger, and why."""

    version: str
    champion: str
    outcome: Outcome
    reason: str | None
    decisions: tuple[Decision, ...] = ()
    promotion: Promotion | None = None
    report: str = ""

    @property
    def shortcoming(self) -> str | None:
        """Why it is not fit to lead, for the registry; one that waits has passed the gate."""
        return None if self.outcome == "waiting" else self.reason

    @property
    def sentence(self) -> str:
        """The verdict for people."""
        said = {
            "promoted": f"{self.version} passed the gate and is champion now, in the place of {self.champion}",
            "refused": f"{self.version} stays a candidate: {self.reason}",
            "not comparable": f"{self.version} is not comparable: {self.reason}; ecner models promote {self.version} "
            "makes it champion all the same",
            "waiting": f"{self.version} passed the gate against {self.champion} and waits, as {self.reason}: "
            f"ecner models promote {self.version} makes it champion",
            "leads already": f"{self.version} is the champion already"
            if self.version == self.champion
            else f"{self.version} is the same model as the champion {self.champion}: nothing changes",
        }
        return said[self.outcome]

    def to_text(self) -> str:
        """Plain text for a terminal or a log."""
        lines = [self.sentence]
        for d in self.decisions:
            value = "-" if d.value is None else f"{d.value:.4g}"
            interval = "" if d.lower is None or d.upper is None else f" [{d.lower:.4g}, {d.upper:.4g}]"
            lines.append(f"  {d.outcome:<11}{d.rule:<28}{value:>10}{interval}  allowed {d.allowed:.4g}")
        if self.promotion:
            lines.append(self.promotion.to_text())
        return "\n".join([*lines, f"report: {self.report}"])


def decide(settings: Settings, new: ModelVersion, champion: Champion, comparison: Comparison, *, apart: str) -> Verdict:
    """Judges, and enters all of it together; a challenger that has been entered before is judged anew.

    Raises:
        RunError: the champion was changed meanwhile, or the warehouse failed. Nothing was entered: run again.
    """
    warehouse = Warehouse(*settings.warehouse_at)
    with warehouse.connect() as reader:
        known = reader.read("model_versions", where={"version": new.version}, columns=["status"])
    verdict = _verdict(settings, new, champion, comparison, apart, led_before="archived" in known["status"])
    bridge = read_bridge(settings, champion, new) if verdict.outcome == "promoted" else None
    with warehouse.begin() as transaction:
        if champion.model is not None:
            register(transaction, champion.model)
        register(transaction, new)
        if verdict.outcome != "leads already":
            transaction.update("model_versions", {"version": new.version}, {"reason": verdict.shortcoming})
        _replace(transaction, "model_evaluations", new.version, pl.DataFrame(comparison.evaluations(CHALLENGER)))
        if CHAMPION in comparison.versions:
            figures = pl.DataFrame(comparison.evaluations(CHAMPION))
            _replace(transaction, "model_evaluations", champion.version, figures)
        decided = decision_rows(verdict.decisions, new.version, champion.version, datetime.now(UTC))
        _replace(transaction, "gate_decisions", new.version, decided)
        if bridge is not None:
            return replace(verdict, promotion=enter_promotion(transaction, bridge))
    return verdict


def _verdict(
    settings: Settings, new: ModelVersion, champion: Champion, comparison: Comparison, apart: str, *, led_before: bool
) -> Verdict:
    """What becomes of the challenger; one that has led before was taken back by somebody, who alone brings it again."""
    if new.version == champion.version or (champion.model and _identity(new) == _identity(champion.model)):
        return Verdict(new.version, champion.version, "leads already", None)
    if apart:
        return Verdict(new.version, champion.version, "not comparable", apart)
    decisions = judge(comparison, settings.train.gate)
    if not passes(decisions):
        return Verdict(new.version, champion.version, "refused", reasons(decisions), decisions)
    if led_before:
        return Verdict(new.version, champion.version, "waiting", "it was champion before", decisions)
    if not settings.train.promote:
        return Verdict(new.version, champion.version, "waiting", "train.promote is off", decisions)
    return Verdict(new.version, champion.version, "promoted", None, decisions)


def _identity(model: ModelVersion) -> str:
    """What the model says by, under whatever name and recipe it was made."""
    return fingerprint(model.folder, decoder="", dtype="")


def _replace(transaction: Transaction, table: str, version: str, rows: pl.DataFrame) -> None:
    """Writes rows of a version in the place of those with the same key; its other rows stay."""
    new = TABLES[table].validate(rows.with_columns(version=pl.lit(version)))
    of_version = transaction.read(table, where={"version": version})
    others = of_version.join(new, on=TABLES[table].key, how="anti")
    transaction.delete(table, "version", pl.Series([version]))
    transaction.append(table, pl.concat([others, new]))
