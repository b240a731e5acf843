"""Version folders, under lake.uri or lake.cache: the bases that adapters share, and what trainings have made of them.

A folder is written beside its place, named after its content, and never changed.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from ecner.charts import learning_curve
from ecner.config import ModelSettings
from ecner.errors import UsageError
from ecner.inference.reader import Reader
from ecner.lake import Lake
from ecner.model.checkpoint import STORED, VERSION, Checkpoint, is_adapter, load_adapted
from ecner.model.manifest import verify, write_manifest
from ecner.registry import TRAINING_TEXTS
from ecner.training.run import CURVE, TRAINED
from ecner.transfer import MODELS

PICTURE = "curve.svg"


def models_folder(lake: Lake) -> Path:
    """Where the version folders of a lake are made."""
    return lake.workshop.resolve() / MODELS


def save_base(models: Path, checkpoint: Checkpoint) -> Path:
    """A model as the base of adapters, in float16; the same model gives the same folder.

    Raises:
        UsageError: an adapter that is read beside its base, and so has no weights of its own.
    """
    if any("lora_" in name for name, _ in checkpoint.tagger.named_parameters()):
        raise UsageError(
            "train.base is a version whose adapter could not be merged into its weights: name another, such as default"
        )
    return _publish(models, "base", lambda folder: checkpoint.save(folder, STORED))


def save_version(
    models: Path,
    work: Path,
    *,
    training_texts: Collection[str] | None,
    facts: Mapping[str, object],
    merging: Callable[[Path], bool],
    calibrating: Callable[[Checkpoint], Mapping[str, float]],
) -> Path:
    """What a training left in its folder, as a version: weights or adapter, learning curve, and what it learned from.

    Args:
        models: the folder of versions.
        work: a training's folder, which has ended.
        training_texts: hashes of the texts that it was trained on; None where they are not known.
        facts: what version.json says; ``base`` names the folder beside it that an adapter belongs to.
        merging: whether an adapter, in the folder that it is given, may be merged into its base's weights.
        calibrating: the temperature of each label.
    """

    def fill(folder: Path) -> None:
        shutil.copytree(work / TRAINED, folder, dirs_exist_ok=True)
        shutil.copy(work / CURVE, folder)
        (folder / PICTURE).write_text(learning_curve(json.loads((work / CURVE).read_text("utf-8"))), "utf-8")
        if training_texts is not None:
            (folder / TRAINING_TEXTS).write_text("\n".join([*sorted(training_texts), ""]), "ascii")
        known = dict(facts)
        _write_facts(folder, known)
        if is_adapter(folder):
            _write_facts(folder, known | {"merged": merging(folder)})
        checkpoint = Checkpoint.load(folder)
        checkpoint.tagger.config.temperatures = dict(calibrating(checkpoint))
        checkpoint.tagger.config.save_pretrained(folder)

    return _publish(models, "lora" if is_adapter(work / TRAINED) else "full", fill)


def merges_exactly(folder: Path, texts: Sequence[str], settings: ModelSettings) -> bool:
    """Whether an adapter gives the same tags merged as beside its base (peft #1035, #2502), as the nights read."""
    found = []
    for merge in (False, True):
        checkpoint = load_adapted(folder, merge=merge)
        reader = Reader(checkpoint, device=settings.device, dtype=settings.dtype, decoder=settings.decoder)
        found.append(reader.read(texts).spans(reader.tag_set.labels))
    return found[0] == found[1]


def _write_facts(folder: Path, facts: Mapping[str, object]) -> None:
    (folder / VERSION).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", "utf-8")


def _publish(models: Path, kind: str, fill: Callable[[Path], None]) -> Path:
    """A new folder named after its content; where it is there already, it stays as it is."""
    models.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=models))
    unfinished.chmod(0o755)  # temporary folders are their maker's alone
    try:
        fill(unfinished)
        place = models / f"{kind}-{write_manifest(unfinished)}"
        if place.is_dir():
            verify(place)
        else:
            unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return place
