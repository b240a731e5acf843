"""One training in a folder of its own: what it is made of goes in, the trained weights and the curve come out.

The folder can be taken up again at any time, and by several processes at once through accelerate's launcher:
``accelerate launch -m ecner.training.run FOLDER``.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel

from ecner.config import TrainSettings
from ecner.data.corpus import read_corpus, write_corpus
from ecner.data.files import write_whole
from ecner.data.rows import LabelledText
from ecner.errors import DataError, RunError
from ecner.labels import TagSet
from ecner.model.checkpoint import STORED, Checkpoint
from ecner.model.lora import add_lora, save_lora
from ecner.training.trainer import train

CURVE, TRAINED = "curve.json", "trained"
_JOB, _TRAIN, _DEV = "job.json", "train.jsonl", "dev"


@dataclass(frozen=True)
class Job:
    """What a training is made of.

    ``base`` is the model folder that it starts from, by whose name an adapter refers to it; ``new`` names the parts
    of its branch that have no pretrained weights.
    """

    settings: TrainSettings
    tag_set: TagSet
    base: Path
    new: tuple[str, ...] = ()

    def write(
        self, folder: Path, train_texts: Sequence[LabelledText], dev: Mapping[str, Sequence[LabelledText]]
    ) -> None:
        """Writes it all; job.json comes last, so that a folder that has it is complete."""
        shutil.rmtree(folder / _DEV, ignore_errors=True)  # of an earlier run, whose files had other names
        (folder / _DEV).mkdir(parents=True)
        for path, texts in (
            (folder / _TRAIN, train_texts),
            *((folder / _DEV / f"{n}.jsonl", t) for n, t in dev.items()),
        ):
            if bad := write_corpus(path, texts, "jsonl"):
                raise DataError(f"{len(bad)} labelled text(s) cannot be trained on, such as {bad[0]}: remove them")
        values = {
            "settings": self.settings.model_dump(mode="json", exclude_unset=True),
            "tags": self.tag_set.tags,
            "scheme": self.tag_set.scheme,
            "base": str(self.base),
            "new": self.new,
        }
        write_whole(folder / _JOB, json.dumps(values, indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """The job of a folder."""
        values = json.loads((folder / _JOB).read_text("utf-8"))
        settings = TrainSettings.model_validate(values["settings"])
        tag_set = TagSet(tuple(values["tags"]), values["scheme"])
        return cls(settings, tag_set, Path(values["base"]), tuple(values["new"]))


def run_training(folder: Path) -> None:
    """Trains what the folder's job says, from wherever an earlier run of it was stopped, unless it has ended.

    Leaves the trained weights (float16) in the folder ``trained`` and the learning curve in curve.json.

    Raises:
        UsageError: adapters that do not fit the base.
        RunError: a process of several has failed.
    """
    if (folder / CURVE).is_file():
        return
    job = Job.read(folder)
    if job.settings.processes == 1:
        _train(folder)
    else:
        _model(job)  # what does not fit is told once, here
        _launch(folder, job.settings)


def _train(folder: Path) -> None:
    job = Job.read(folder)
    checkpoint, lora = _model(job)
    trained = train(
        checkpoint,
        job.settings,
        train=read_corpus(folder / _TRAIN, strict=True).texts,
        dev={path.stem: read_corpus(path, strict=True).texts for path in sorted((folder / _DEV).glob("*.jsonl"))},
        output=folder,
        adapters=lora,
    )
    if int(os.environ.get("RANK", "0")):
        return
    if lora is None:
        checkpoint.save(folder / TRAINED, STORED, weights=trained.weights)
    else:
        save_lora(lora, folder / TRAINED, base=job.base.name, dtype=STORED, weights=trained.weights)
        checkpoint.tagger.config.save_pretrained(folder / TRAINED)
    write_whole(folder / CURVE, (json.dumps(trained.curve, indent=1) + "\n").encode())


def _model(job: Job) -> tuple[Checkpoint, PeftModel | None]:
    """What is trained: the base with the job's tags and, for LoRA, its adapters."""
    torch.manual_seed(job.settings.seed)  # of what is new for other tags, and of the adapters
    checkpoint = Checkpoint.load(job.base).with_tags(job.tag_set)
    is_lora = job.settings.method == "lora"
    return checkpoint, add_lora(checkpoint.tagger, job.settings.lora, new=job.new) if is_lora else None


def _launch(folder: Path, settings: TrainSettings) -> None:
    """Starts the processes by accelerate's own launcher."""
    options = ["--num_processes", str(settings.processes), "--num_machines", "1"]
    if settings.launcher is not None:
        options += ["--config_file", str(settings.launcher)]
    else:  # by torch's own launcher; without a GPU the Trainer then talks over gloo
        options += ["--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "ecner.training.run", str(folder)]
    ended = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)  # noqa: S603 - our own arguments
    if ended.returncode:
        raise RunError(
            f"a training process of {settings.processes} ended with status {ended.returncode}: see its message above; "
            "run again to go on from the last epoch"
        )


if __name__ == "__main__":
    _train(Path(sys.argv[1]))
