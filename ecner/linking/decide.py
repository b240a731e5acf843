"""Decide on two names, for the whole history: both are one entity, or they are not."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

import polars as pl

from ecner.config import Settings
from ecner.errors import UsageError
from ecner.lake import Lake
from ecner.linking.relink import relink
from ecner.nightly.copies import copies_folder, write_copies
from ecner.nightly.decisions import ACCEPT, read_links
from ecner.nightly.names import Lexicon
from ecner.nightly.rules import Rules
from ecner.retry import retried
from ecner.schema import TABLES
from ecner.storage.lease import Lease
from ecner.storage.transaction import Transaction
from ecner.storage.warehouse import Warehouse

Action = Literal["accept", "reject"]


@dataclass(frozen=True)
class Decision:
    """What somebody said of two names of a type, in the form that the tables have."""

    action: Action
    entity_type: str
    alias: str
    canonical: str
    decided_by: str


@dataclass(frozen=True)
class Decided:
    """A decision that was entered, and the days that were computed anew for it."""

    decision: Decision
    days: tuple[date, ...]

    def to_text(self) -> str:
        """Plain text for a terminal."""
        said = self.decision
        told = "is counted as" if said.action == ACCEPT else "is not"
        changed = f"{len(self.days):,} day(s) computed anew" if self.days else "no count changed"
        return f"{said.entity_type} {said.alias} {told} {said.canonical}, says {said.decided_by}; {changed}"


def decide(settings: Settings, decision: Decision) -> Decided:
    """Enters a decision with who and when, and publishes the history under the names that follow.

    To reject what was accepted takes the link back.

    Raises:
        UsageError: there are no such names, they are one already, or the link would lead back to where it comes from.
        LeaseError: a run is at work.
        RunError: the warehouse or the lake failed: the same command, run again, goes on.
    """
    rules = Rules.of(settings.model)
    decision = _as_counted(rules.lexicon, decision)

    def enter(transaction: Transaction) -> set[date]:
        _check(transaction, decision)
        _append(transaction, decision)
        return relink(transaction, rules.lexicon.linked(read_links(transaction)), settings.model.evaluated_on)

    return Decided(decision, tuple(sorted(_in_lease(settings, f"link-{secrets.token_hex(4)}", enter))))


def _in_lease(settings: Settings, holder: str, enter: Callable[[Transaction], set[date]]) -> set[date]:
    warehouse, lake = Warehouse(*settings.warehouse_at), Lake.open(settings.lake)
    retried(warehouse.migrate)
    with Lease(warehouse, holder, settings.run.lease_seconds, wait_seconds=settings.run.wait_seconds) as lease:

        def once() -> set[date]:
            with warehouse.begin() as transaction, lease.held(transaction):
                return enter(transaction)

        days = retried(once)
        retried(lambda: write_copies(warehouse, lake, copies_folder(settings), lease))
    return days


def _as_counted(lexicon: Lexicon, said: Decision) -> Decision:
    """The names in the form that they are counted under, however they were typed."""
    alias, canonical = (lexicon.name(said.entity_type, name) for name in (said.alias, said.canonical))
    if alias == canonical:
        raise UsageError(f"{said.alias!r} and {said.canonical!r} are one name already, {alias!r}: expected two")
    return Decision(said.action, said.entity_type, alias, canonical, said.decided_by)


def _check(transaction: Transaction, decision: Decision) -> None:
    links = read_links(transaction).get(decision.entity_type, {})
    if decision.action == ACCEPT and links.get(decision.canonical, decision.canonical) == decision.alias:
        raise UsageError(
            f"{decision.canonical!r} is counted as {decision.alias!r}: reject that first, or name the two the other way"
        )
    for name in (decision.alias, decision.canonical):
        where = {"entity_type": decision.entity_type, "canonical": links.get(name, name)}
        if transaction.distinct("entity_daily", ["canonical"], where=where).is_empty():
            raise UsageError(
                f"no {decision.entity_type} is counted as {name!r}: expected names of the view entities, such as those "
                "that ecner link suggest shows"
            )


def _append(transaction: Transaction, decision: Decision) -> None:
    """Enters a decision; one that was entered by an attempt of unknown end stands twice, and says the same."""
    numbers = transaction.read("link_decisions", columns=["decision_no"])["decision_no"]
    row = {
        "decision_no": len(numbers) + 1,
        "decided_at": datetime.now(UTC),
        "decided_by": decision.decided_by,
        "action": decision.action,
        "entity_type": decision.entity_type,
        "alias": decision.alias,
        "canonical": decision.canonical,
    }
    transaction.append("link_decisions", pl.DataFrame([row], schema=TABLES["link_decisions"].polars_schema))
