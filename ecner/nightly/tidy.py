"""Remove from the lake what closed runs have left there."""

from contextlib import suppress
from datetime import datetime

from ecner.errors import EcnerError
from ecner.lake import Lake
from ecner.storage.warehouse import Warehouse

RUNS, READINGS = "runs", "readings"


def tidy(warehouse: Warehouse, lake: Lake, until: datetime) -> None:
    """Removes files of this warehouse's runs that were closed until then, and readings that are as old.

    Whoever calls it holds the lease, so that no other run is at work. A later run reads anew what it needs.
    """
    with warehouse.connect() as reader:
        runs = reader.read("extraction_runs", columns=["run_id", "finished_at"]).drop_nulls()
    closed = dict(runs.iter_rows())
    folders = [(f"{RUNS}/{entry.name}", closed[entry.name]) for entry in lake.entries(RUNS) if entry.name in closed]
    for fingerprint in lake.entries(READINGS):
        folder = f"{READINGS}/{fingerprint.name}"
        folders += [(f"{folder}/{entry.name}", entry.modified) for entry in lake.entries(folder)]
    for name, ended in folders:
        if ended <= until:
            with suppress(EcnerError):  # the night has ended well; the next one tries again
                lake.remove(name)
