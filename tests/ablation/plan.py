"""A plan: variants of one training, by name, and the seeds that each is trained with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ecner.config import TrainSettings
from ecner.resources import resource
from ecner.training.start import SHAPE, is_tagger

_OWN_KEYS = {"encoder", "splits", "added", "teachers"}
_NOT_OF_A_CELL = {"promote", "patience"}  # nothing is promoted, and no dev text is looked at before the end


@dataclass(frozen=True)
class Variant:
    """One row of the table: settings over those of the plan, its encoder, the train splits and the rows added to them.

    ``encoder``, ``added`` and ``teachers`` are names; the command says which folders and files they stand for. A tagger
    in place of an encoder is trained further; what teachers make of each text is learned beside its labels.
    """

    name: str
    settings: Mapping[str, Any]
    encoder: str
    splits: tuple[str, ...]
    added: tuple[str, ...]
    teachers: tuple[str, ...]

    def train_settings(self, *, seed: int, base: Path) -> TrainSettings:
        """The settings of one cell; a base that is a tagger already has its sizes."""
        fixed = SHAPE if is_tagger(base) else set()
        own = {name: value for name, value in self.settings.items() if name not in fixed}
        return TrainSettings.model_validate({**own, "seed": seed, "base": str(base)})


@dataclass(frozen=True)
class Plan:
    """The variants and seeds; what a variant leaves out is as in configs/train-shipped.yaml.

    ``folds`` above 0 leaves that part of the train rows out: ``fold``, or where that is None another one for each seed.
    """

    name: str
    about: str
    seeds: tuple[int, ...]
    folds: int
    fold: int | None
    variants: tuple[Variant, ...]

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """The plan in a YAML file."""
        values = yaml.safe_load(path.read_text("utf-8"))
        shared = yaml.safe_load(resource("configs/train-shipped.yaml").read_text("utf-8"))["train"]
        shared = {k: v for k, v in shared.items() if k not in _NOT_OF_A_CELL} | values.get("train", {})
        variants = tuple(
            Variant(
                name=name,
                settings={**shared, **{k: v for k, v in own.items() if k not in _OWN_KEYS}},
                encoder=own.get("encoder", values.get("encoder", "plain")),
                splits=tuple(own.get("splits", ("titles", "reviews"))),
                added=tuple(own.get("added", values.get("added", ()))),
                teachers=tuple(own.get("teachers", ())),
            )
            for name, own in values["variants"].items()
        )
        return cls(
            path.stem, values["about"], tuple(values["seeds"]), values.get("folds", 0), values.get("fold"), variants
        )

    def held(self, seed: int) -> int | None:
        """The fold that a seed leaves out."""
        return (seed if self.fold is None else self.fold) if self.folds else None

    def variant(self, name: str) -> Variant:
        """The variant of a name."""
        found = [variant for variant in self.variants if variant.name == name]
        if not found:
            raise SystemExit(f"{self.name} has no variant {name!r}: expected one of {[v.name for v in self.variants]}")
        return found[0]
