"""Room on the disks: a run that cannot end for want of it should not go on."""

import shutil
from pathlib import Path

from ecner.errors import RunError
from ecner.lake import Lake
from ecner.nightly.source import Source
from ecner.storage.warehouse import Warehouse

# Measured on real reviews (tests.bench.scale), with something to spare.
_LAKE_BYTES_A_ROW = 200
_WAREHOUSE_BYTES_A_ROW = 4_000  # half of it is the log of the one transaction
_SPARE = 200_000_000


def check_lake(lake: Lake, source: Source) -> None:
    """Compares what the rows of a source will take with what is free, before they are read, where both can be known.

    Raises:
        RunError: says how much is missing.
    """
    rows = source.rows()
    if rows is not None:
        _check(lake.folder, rows * _LAKE_BYTES_A_ROW, f"{rows:,} rows to plan", "lake.uri")


def check_warehouse(warehouse: Warehouse, changes: int) -> None:
    """Compares what new and changed reviews will take with what is free, before their texts are read.

    Raises:
        RunError: says how much is missing.
    """
    _check(warehouse.folder, changes * _WAREHOUSE_BYTES_A_ROW, f"{changes:,} reviews to publish", "warehouse.url")


def _check(folder: Path | None, size: int, what: str, setting: str) -> None:
    """On a server or an object store, there is no telling."""
    if folder is None or size <= _SPARE:
        return
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < size + _SPARE:
        raise RunError(
            f"{what} need about {size / 1e9:.1f} GB at {there}, where {free / 1e9:.1f} GB are free: make room, or name "
            f"another place with {setting}"
        )
