"""The warehouse whose names are decided on, while nobody else writes to it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from ecner.config import Settings
from ecner.retry import retried
from ecner.storage.lease import Lease
from ecner.storage.query import open_queries
from ecner.storage.warehouse import Warehouse


@contextmanager
def leased(settings: Settings, purpose: str) -> Iterator[tuple[Warehouse, Lease]]:
    """The warehouse, brought up to date, and the lease of it.

    Raises:
        UsageError: there is none yet.
        LeaseError: a run is at work.
        RunError: the warehouse failed.
    """
    with open_queries(*settings.warehouse_at):
        pass  # a look makes none, as the next lines would
    warehouse = Warehouse(*settings.warehouse_at)
    retried(warehouse.migrate)
    holder = f"{purpose}-{secrets.token_hex(4)}"
    with Lease(warehouse, holder, settings.run.lease_seconds, wait_seconds=settings.run.wait_seconds) as lease:
        yield warehouse, lease
