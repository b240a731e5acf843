"""Promote a model, and go back: registry, history and the bridge between the two models change together."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from ecner.config import Address, Settings
from ecner.errors import RunError, UsageError
from ecner.registry import CHAMPION, SHIPPED, ModelVersion, register, resolve, resolve_in
from ecner.retraining.bridge import WHOLE_TYPE, Bridge, find_champion, read_bridge
from ecner.schema import TABLES
from ecner.storage.query import run_query
from ecner.storage.transaction import Transaction
from ecner.storage.warehouse import Warehouse

Action = Literal["promotion", "rollback"]


@dataclass(frozen=True)
class Promotion:
    """A change of champion that was entered; ``bridge`` is None where the model led already and nothing changed."""

    version: str
    previous_version: str
    action: Action = "promotion"
    bridge: Bridge | None = None

    def to_text(self) -> str:
        """Plain text for a terminal or a log."""
        if self.bridge is None:
            return f"{self.version} is the champion already: nothing changed"
        changed = f"{self.version} is champion now, {self.previous_version} was before ({self.action})"
        if self.bridge.problem:
            return f"{changed}\nwarning: no bridge between the two was written: {self.bridge.problem}"
        types = self.bridge.counts.filter(canonical=WHOLE_TYPE).to_dicts()
        moves = [f"  {row['entity_type']:<14}{row['old_count']:>8,} -> {row['new_count']:,}" for row in types]
        return "\n".join([changed, f"mentions in {self.bridge.reviews:,} recent reviews", *(moves or ["  none"])])


def promote(settings: Settings, ref: str) -> Promotion:
    """Makes the model that a reference means the champion; a folder is registered on the way.

    No table of mentions changes: the next night reads what is new or changed with it.

    Raises:
        UsageError: no such model, or the source cannot be used.
        ModelError: its files are gone, or are now others.
        RunError: somebody else changed the champion meanwhile, or the warehouse failed. Nothing has changed.
    """
    new = resolve_in(settings.warehouse_at, ref, settings.lake)
    champion = find_champion(settings.warehouse_at, settings.lake)
    if new.version == champion.version:
        if champion.model is None:  # it could not be read where it was, but can be here
            _find_again(settings, new)
        return Promotion(new.version, champion.version)
    return _enter(settings, read_bridge(settings, champion, new), "promotion")


def rollback(settings: Settings) -> Promotion:
    """Goes back to what was champion before the newest promotion that no rollback has taken back.

    Raises:
        UsageError: there is none.
        ModelError, RunError: as promote.
    """
    new = _resolve_former(settings, _previous_version(settings.warehouse_at))
    champion = find_champion(settings.warehouse_at, settings.lake)
    return _enter(settings, read_bridge(settings, champion, new), "rollback")


def enter_promotion(transaction: Transaction, bridge: Bridge, *, action: Action = "promotion") -> Promotion:
    """Makes the bridge's new model champion: registry, history and model_bridge, together with what else is entered.

    Raises:
        RunError: the champion is no longer the one that the bridge was read with.
    """
    champion, new = bridge.champion, bridge.new
    if champion.model is not None:
        register(transaction, champion.model)  # the shipped one leads before any night has entered it
    leads = {"version": champion.version, "status": CHAMPION}
    # The update holds the row until the end: whoever else would promote waits here, and then finds another champion.
    if not transaction.update("model_versions", leads, {"status": "archived"}):
        raise RunError(f"{champion.version} is no longer the champion: somebody changed it meanwhile; run again")
    register(transaction, new)
    transaction.update("model_versions", {"version": new.version}, {"status": CHAMPION})
    _append_history(transaction, bridge, action)
    if not bridge.problem:
        _replace_bridge(transaction, bridge)
    return Promotion(new.version, champion.version, action, bridge)


def _enter(settings: Settings, bridge: Bridge, action: Action) -> Promotion:
    warehouse = Warehouse(*settings.warehouse_at)
    warehouse.migrate()
    with warehouse.begin() as transaction:
        return enter_promotion(transaction, bridge, action=action)


def _find_again(settings: Settings, moved: ModelVersion) -> None:
    with Warehouse(*settings.warehouse_at).begin() as transaction:
        register(transaction, moved)


def _previous_version(address: Address) -> str:
    """What the newest promotion still standing took the place of: the history is a stack."""
    history = run_query(*address, "model_promotions").sort("promotion_no")
    standing: list[str | None] = []
    for action, previous in history.select("action", "previous_version").iter_rows():
        if action == "promotion":
            standing.append(previous)
        else:
            del standing[-1:]
    if not standing or standing[-1] is None:
        raise UsageError(
            "there is no promotion to go back from: ecner models list shows the versions, ecner models promote "
            "makes one of them champion"
        )
    return standing[-1]


def _resolve_former(settings: Settings, version: str) -> ModelVersion:
    """A former champion; where it was a shipped model, that is the one of this installation."""
    former = run_query(*settings.warehouse_at, "model_versions").filter(version=version)
    if SHIPPED in former["uri"]:
        return resolve(SHIPPED)
    return resolve_in(settings.warehouse_at, version, settings.lake)


def _append_history(transaction: Transaction, bridge: Bridge, action: Action) -> None:
    numbers = transaction.read("model_promotions", columns=["promotion_no"])["promotion_no"].to_list()
    row: Mapping[str, object] = {
        "promotion_no": max(numbers, default=0) + 1,
        "promoted_at": datetime.now(UTC),
        "action": action,
        "version": bridge.new.version,
        "previous_version": bridge.champion.version,
    }
    transaction.append("model_promotions", pl.DataFrame([row], schema=TABLES["model_promotions"].polars_schema))


def _replace_bridge(transaction: Transaction, bridge: Bridge) -> None:
    """Writes the bridge in the place of an earlier one between the same two versions."""
    of_old = transaction.read("model_bridge", where={"old_version": bridge.champion.version})
    others = of_old.filter(pl.col("new_version") != bridge.new.version)
    transaction.delete("model_bridge", "old_version", pl.Series([bridge.champion.version]))
    transaction.append("model_bridge", pl.concat([others, bridge.counts]))
