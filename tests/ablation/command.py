"""What the commands of the ablation have in common."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from tests.ablation.plan import Plan

PLANS = Path(__file__).parent / "plans"


@dataclass(frozen=True)
class Inputs:
    """The plan, the data, and what its names for encoders and added rows stand for."""

    plan: Plan
    shared: Path
    encoders: dict[str, Path]
    added: dict[str, Path]
    teachers: dict[str, Path]

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Inputs":
        """From parsed arguments."""
        plain = {"plain": options.shared / "models/e5-small-zh-char"}
        plan = Plan.read(PLANS / f"{options.plan}.yaml")
        return cls(plan, options.shared, plain | dict(options.encoder), dict(options.added), dict(options.teacher))


def parser(about: str | None) -> argparse.ArgumentParser:
    """The arguments that every command takes."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("plan", choices=sorted(path.stem for path in PLANS.glob("*.yaml")))
    made.add_argument("shared", type=Path, help="the folder with data/ and models/")
    made.add_argument("folder", type=Path, help="where cells are kept")
    made.add_argument("--encoder", type=_named, action="append", default=[], metavar="NAME=FOLDER")
    made.add_argument("--added", type=_named, action="append", default=[], metavar="NAME=FILE")
    made.add_argument("--teacher", type=_named, action="append", default=[], metavar="NAME=FOLDER")
    return made


def arguments(options: argparse.Namespace) -> list[str]:
    """The same arguments for another process."""
    pairs = [("--encoder", options.encoder), ("--added", options.added), ("--teacher", options.teacher)]
    named = [part for option, given in pairs for name, path in given for part in (option, f"{name}={path}")]
    return [options.plan, str(options.shared), *named]


def _named(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    return name, Path(path)
