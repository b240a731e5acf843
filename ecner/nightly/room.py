"""Room on the disks: a run that cannot end for want of it should not begin."""

import shutil
from pathlib import Path

from ecner.errors import RunError
from ecner.lake import Lake
from ecner.nightly.source import Source
from ecner.storage.transaction import Reader
from ecner.storage.warehouse import Warehouse

# Measured on real reviews (tests.bench.scale), with something to spare.
_LAKE_BYTES_A_ROW = 200
_WAREHOUSE_BYTES_A_ROW = 2_000  # half of it is the log of the one transaction
_SPARE = 200_000_000


def check_room(source: Source, lake: Lake, warehouse: Warehouse, reader: Reader) -> None:
    """Compares what a whole source will take with what is free, where the disks are of this machine.

    Raises:
        RunError: says where how much is missing.
    """
    rows = source.rows()
    if rows is None:
        return
    new = max(0, rows - reader.count("review_coverage"))
    needs = [(lake.folder, rows * _LAKE_BYTES_A_ROW), (warehouse.folder, new * _WAREHOUSE_BYTES_A_ROW)]
    by_disk: dict[int, tuple[Path, int]] = {}
    for folder, size in needs:
        if folder is not None:
            there = _existing(folder)
            disk = there.stat().st_dev
            by_disk[disk] = (there, by_disk.get(disk, (there, 0))[1] + size)
    for folder, size in by_disk.values():
        free = shutil.disk_usage(folder).free
        if size > _SPARE and free < size + _SPARE:
            raise RunError(
                f"{rows:,} rows need about {size / 1e9:.1f} GB at {folder}, where {free / 1e9:.1f} GB are free: make "
                "room, name other places with lake.uri and warehouse.url, or take the dates in parts with --from, --to"
            )


def _existing(folder: Path) -> Path:
    """The folder, or where it will be made."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
