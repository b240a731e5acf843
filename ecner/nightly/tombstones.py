"""Tombstones: what must not come back into the tables, by a hash of it alone."""

from datetime import datetime

import polars as pl

from ecner.config import Address
from ecner.storage.transaction import Transaction
from ecner.storage.warehouse import Warehouse

DELETED = "deleted"  # reviews that the source deleted; a newer row of theirs brings them back
FORGOTTEN = "forgotten"  # reviews that nothing brings back
FORGOTTEN_TEXT = "forgotten_text"  # texts that only those had


def buried(address: Address, kind: str) -> frozenset[str]:
    """The hashes of a kind; none where there is no warehouse yet.

    Raises:
        RunError: the warehouse cannot be reached.
    """
    warehouse = Warehouse(*address)
    if not warehouse.has("tombstones"):  # there is none, or an older one, which knows none
        return frozenset()
    with warehouse.connect() as reader:
        return frozenset(reader.read("tombstones", where={"kind": kind}, columns=["hash"])["hash"])


def bury(
    transaction: Transaction, kind: str, hashes: pl.Series, now: datetime, updated_at: pl.Series | None = None
) -> None:
    """Enters tombstones, in the place of earlier ones of their kind.

    Args:
        transaction: the transaction that removes what they stand for.
        kind: DELETED, FORGOTTEN or FORGOTTEN_TEXT.
        hashes: of ids or texts, each once.
        now: the time of the removal.
        updated_at: of the rows that deleted the reviews.
    """
    lift(transaction, kind, hashes)
    columns = {"hash": hashes, "updated_at": updated_at}
    rows = pl.DataFrame(columns, schema_overrides={"updated_at": pl.Datetime("us", "UTC")})
    transaction.append("tombstones", rows.with_columns(kind=pl.lit(kind), removed_at=pl.lit(now)))


def lift(transaction: Transaction, kind: str, hashes: pl.Series) -> None:
    """Removes tombstones."""
    transaction.delete("tombstones", "hash", hashes, where={"kind": kind})
