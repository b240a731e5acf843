"""Remove from the lake what closed runs have left there."""

from contextlib import suppress
from datetime import datetime

from ecner.errors import EcnerError
from ecner.lake import Lake
from ecner.storage.warehouse import Warehouse

RUNS, READINGS = "runs", "readings"


def tidy(warehouse: Warehouse, lake: Lake, until: datetime) -> None:
    """Removes files of runs that were closed until then, and readings that are as old: a later run reads anew.

    Whoever calls it holds the lease, so that no other run is at work.
    """
    with warehouse.connect() as reader:
        runs = reader.read("extraction_runs", columns=["run_id", "finished_at"]).drop_nulls()
    closed = dict(runs.iter_rows())
    folders = [(f"{RUNS}/{entry.name}", closed.get(entry.name, entry.modified)) for entry in lake.entries(RUNS)]
    for fingerprint in lake.entries(READINGS):
        folder = f"{READINGS}/{fingerprint.name}"
        folders += [(f"{folder}/{entry.name}", entry.modified) for entry in lake.entries(folder)]
    for name, ended in folders:
        if ended <= until:
            with suppress(EcnerError):  # the night has ended well; the next one tries again
                lake.remove(name)
