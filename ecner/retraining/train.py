"""The training of a challenger: known by what it is made of, so that it is done once, and taken up where it was."""

import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ecner.config import Settings, TrainSettings
from ecner.data.files import write_whole
from ecner.data.label_sets import read_label_set
from ecner.data.rows import LabelledText
from ecner.errors import DataError, RunError, UsageError
from ecner.labels import TagSet
from ecner.lake import Lake
from ecner.registry import CHAMPION, SHIPPED, ModelVersion, is_folder, resolve_in, training_texts
from ecner.retraining.calibration import temperatures
from ecner.retraining.snapshot import Snapshot
from ecner.retraining.versions import merges_exactly, models_folder, save_base, save_version
from ecner.training.run import Job, run_training
from ecner.training.start import is_tagger, starting_point
from ecner.transfer import upload

# Settings that change what is judged and promoted, or how fast a training runs, but not what it gives.
_NOT_OF_THE_TRAINING = {
    "train", "dev", "test", "annotations", "dev_share", "test_share", "labels", "base", "gate", "promote",
    "overlap_reviews", "launcher",
}  # fmt: skip
_VERSION_NAME = "version"
_VERSION_ID = re.compile(r"-[0-9a-f]{12}$")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Candidate:
    """A trained model as it lies in the lake: the address of its folder there, and the folder of its training here."""

    version: str
    folder: str
    work: str


def train_candidate(settings: Settings, snapshot: Snapshot) -> Candidate:
    """Trains on a snapshot, or finds the version that the same training has given before.

    Raises:
        UsageError: settings that do not fit the base.
        DataError: labels that the label set lacks.
        RunError: a training process has failed.
    """
    tag_set = _tag_set(settings.train, snapshot)
    lake = Lake.open(settings.lake)
    models = models_folder(lake)
    base, parent = base_model(settings)
    train = settings.train.model_copy(update={"base": base})
    start = starting_point(train, tag_set)
    base_folder = save_base(models, start.checkpoint)
    job = Job(settings.train, tag_set, base_folder, tuple(sorted(start.new)))
    work = trainings_folder(lake) / _key(job, snapshot)
    with held_alone(work):
        version = _known_version(work, models)
        if version is None:
            dev = snapshot.texts("dev")
            job.write(work, _all(snapshot.texts("train")), dev)
            run_training(work)
            texts = [labelled.text for labelled in _all(dev)]
            folder = save_version(
                models,
                work,
                training_texts=_learned_from(snapshot, parent),
                facts={
                    "base": base_folder.name,
                    "data_fingerprint": snapshot.training_fingerprint,
                    "parent": parent.version if parent else None,
                    "recipe": _recipe(settings.train),
                },
                merging=lambda adapter: merges_exactly(adapter, texts, settings.model),
                calibrating=lambda checkpoint: temperatures(checkpoint, _all(dev), settings.model),
            )
            version = folder.name
            write_whole(work / _VERSION_NAME, version.encode())
        for checkpoint in work.glob("checkpoint-*"):  # several times the size of the model, and of no more use
            shutil.rmtree(checkpoint, ignore_errors=True)
    return Candidate(version, upload(lake, models / version), str(work))


def trainings_folder(lake: Lake) -> Path:
    """Where the folders of trainings lie."""
    return lake.workshop.resolve() / "retrains"


@contextmanager
def held_alone(work: Path) -> Iterator[None]:
    """Holds a training's folder: two at once would go on from each other's checkpoints.

    Raises:
        RunError: another process holds it. A process that ends, in whatever way, lets go of it.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another retrain is at this very training, in {work}: wait until it has ended") from None
        yield


def _known_version(work: Path, models: Path) -> str | None:
    """The version that this training has given before, where it is still there."""
    path = work / _VERSION_NAME
    name = path.read_text("utf-8") if path.is_file() else ""
    return name if name and (models / name).is_dir() else None


def _learned_from(snapshot: Snapshot, parent: ModelVersion | None) -> Collection[str] | None:
    """Hashes of all texts that the version knows, its parent's among them; None where those are not known.

    A pretrained encoder has seen no labels.
    """
    own = set(snapshot.training_hashes())
    if parent is None:
        return own
    before = training_texts(parent.folder)
    return None if before is None else own | before


def base_model(settings: Settings) -> tuple[str, ModelVersion | None]:
    """What train.base means: a folder or a hub name, and the version that it is, where it is one of our models.

    Raises:
        UsageError: no such version or folder, and no name that a hub could have.
        ModelError: the version's folder is not what it was.
    """
    ref = settings.train.base
    if ref not in {SHIPPED, CHAMPION} and is_folder(ref) and not is_tagger(Path(ref)):
        return ref, None
    try:
        model = resolve_in(settings.warehouse_at, ref, settings.lake)
    except UsageError as error:
        if _HUB_NAME.fullmatch(ref) and not _VERSION_ID.search(ref):
            return ref, None
        raise UsageError(f"train.base: {error}, or the folder or hub name of a pretrained encoder") from None
    return str(model.folder), model


def _tag_set(train: TrainSettings, snapshot: Snapshot) -> TagSet:
    """The tags of train.labels, or those of the labels of the training texts."""
    tag_set = read_label_set(train.labels) if train.labels else TagSet.from_labels(snapshot.labels, train.scheme)
    if unknown := sorted(set(snapshot.labels) - set(tag_set.labels)):
        raise DataError(
            f"{train.labels} lacks the label(s) {', '.join(unknown)}, which the training texts have: add them"
        )
    return tag_set


def _recipe(train: TrainSettings) -> dict[str, object]:
    return {k: v for k, v in train.model_dump(mode="json").items() if k not in _NOT_OF_THE_TRAINING}


def _key(job: Job, snapshot: Snapshot) -> str:
    """Identity of a training: its texts, its base, its tags and its recipe."""
    parts = [snapshot.training_fingerprint, job.base.name, job.new, job.tag_set.tags, _recipe(job.settings)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _all(datasets: Mapping[str, Sequence[LabelledText]]) -> list[LabelledText]:
    return [text for texts in datasets.values() for text in texts]
