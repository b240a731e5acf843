"""Decide on two names, for the whole history: both are one entity, or they are not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

import polars as pl

from ecner.config import Settings
from ecner.errors import UsageError
from ecner.lake import Lake
from ecner.linking.leased import leased
from ecner.linking.relink import relink
from ecner.nightly.copies import copies_folder, write_copies
from ecner.nightly.decisions import ACCEPT, follow, read_direct_links, read_links
from ecner.nightly.names import Lexicon
from ecner.nightly.publish import rules_changed
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

    To reject what was accepted takes the link back, whichever way round the two are named.

    Raises:
        UsageError: there is no warehouse or are no such names, they are one already, the link would lead back to where
            it comes from, or the tables stand under other rules than those of the settings.
        LeaseError: a run is at work.
        RunError: the warehouse or the lake failed: the same command, run again, goes on.
    """
    rules = Rules.of(settings.model)
    decision = _as_counted(rules.lexicon, decision)
    with leased(settings, "link") as (warehouse, lease):
        days = retried(lambda: _enter(warehouse, lease, rules, decision))
        retried(lambda: write_copies(warehouse, Lake.open(settings.lake), copies_folder(settings), lease))
    return Decided(decision, tuple(sorted(days)))


def _as_counted(lexicon: Lexicon, said: Decision) -> Decision:
    """The names in the form that they are counted under, however they were typed."""
    for what, text in (("entity type", said.entity_type), ("name", said.alias), ("name", said.canonical)):
        _check_text(what, text)
    _check_text("name of who decides", said.decided_by)
    alias, canonical = (lexicon.name(said.entity_type, name) for name in (said.alias, said.canonical))
    if alias == canonical:
        raise UsageError(f"{said.alias!r} and {said.canonical!r} are one name already, {alias!r}: expected two")
    return Decision(said.action, said.entity_type, alias, canonical, said.decided_by)


def _check_text(what: str, text: str) -> None:
    if not text.strip() or not text.isprintable():  # what is not UTF-8 is not printable either
        raise UsageError(f"got {text!r} as the {what}: expected printable text in UTF-8 that is not blank")


def _enter(warehouse: Warehouse, lease: Lease, rules: Rules, decision: Decision) -> set[date]:
    with warehouse.begin() as transaction, lease.held(transaction):
        if rules_changed(transaction, rules):
            raise UsageError(
                "the tables stand under another lexicon, or other labels, thresholds or evaluations, than those of "
                "these settings: decide with the settings of the nightly run, or let it run with these first"
            )
        _check(transaction, decision)
        _append(transaction, decision)
        linked = rules.lexicon.linked(read_links(transaction))
        return relink(transaction, linked, rules.model.evaluated_on)


def _check(transaction: Transaction, decision: Decision) -> None:
    links = read_direct_links(transaction).get(decision.entity_type, {})
    alias, canonical = decision.alias, decision.canonical
    if decision.action == ACCEPT:
        others = {name: other for name, other in links.items() if name != alias}
        if follow(canonical, others) == alias:
            raise UsageError(f"{_way(canonical, links)}: reject that first, or name the two the other way")
    elif links.get(alias) == canonical or links.get(canonical) == alias:
        return  # what was accepted can be taken back, whether or not the names are still found
    elif follow(alias, links) == follow(canonical, links):
        ways = " and ".join(_way(name, links) for name in (alias, canonical) if name in links)
        raise UsageError(f"{ways}: reject one of these steps")
    _check_known(transaction, decision, links)


def _way(name: str, links: Mapping[str, str]) -> str:
    """The steps from a name to what it is counted as, in words."""
    steps = [repr(name)]
    while name in links:
        name = links[name]
        steps.append(repr(name))
    return " is counted as ".join(steps[:2]) + "".join(f", that as {step}" for step in steps[2:])


def _check_known(transaction: Transaction, decision: Decision, links: Mapping[str, str]) -> None:
    for name in (decision.alias, decision.canonical):
        where = {"entity_type": decision.entity_type, "canonical": follow(name, links)}
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
