"""Take forgotten texts out of what retrains have left: label snapshots, and the folders of trainings."""

import shutil
from collections.abc import Collection

import polars as pl

from ecner.config import LakeSettings
from ecner.lake import Lake
from ecner.retraining.snapshot import LABELS_FILE, SNAPSHOTS
from ecner.retraining.train import held_alone, trainings_folder


def clean(settings: LakeSettings, hashes: Collection[str]) -> int:
    """Removes texts from every snapshot, and the folders of all trainings here, whose files and reports hold texts too.

    A later retrain trains anew; the versions that trainings have given stay, as they hold hashes alone. Trainings of a
    lake on an object store lie in the cache of the machine that they ran on: there, the same has to be done.

    Args:
        settings: of the lake.
        hashes: of the texts.

    Returns:
        How many snapshots held any of them.

    Raises:
        RunError: a training is under way; nothing of it was removed.
    """
    lake, is_forgotten = Lake.open(settings), pl.col("text_hash").is_in(sorted(hashes))
    files = [name for name in lake.names(SNAPSHOTS) if name.endswith(f"/{LABELS_FILE}")]
    holding = [name for name in files if lake.read(name).select(is_forgotten.any()).item()]
    for work in sorted(trainings_folder(lake).glob("*")) if hashes else ():
        with held_alone(work):
            shutil.rmtree(work, ignore_errors=True)
    for name in holding:
        lake.write(name, lake.read(name).filter(~is_forgotten))
    lake.sweep(SNAPSHOTS)
    return len(holding)
