"""Nights through Prefect in processes of their own, each in a folder of its own, beside a server that is there."""

from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecner.config import Address, Settings, load_settings
from tests.commands import ended, spawn
from tests.flows.place import CONFIG, settle
from tests.flows.server import PATIENCE, Server
from tests.tables import Tables, read_tables

MARK = "hunter2"  # a part of every password here, which nothing that is written may hold


@dataclass(frozen=True)
class Done:
    """A night that has come to its end."""

    folder: Path
    status: int
    told: str
    warehouse: Address

    def tables(self) -> Tables:
        assert self.status == 0, self.told
        with chdir(self.folder):
            return read_tables(*self.warehouse)


def settled(folder: Path, model: Path, **run: Any) -> Settings:
    """The settings file of a night, and what it needs."""
    return settle(folder, model={"ref": str(model), "device": "cpu"}, run=run)


def night(folder: Path, server: Server, *arguments: object, module: str = "flows.extract", **variables: str) -> Done:
    """A night by the settings of the folder, with variables over them."""
    environment = {**server.environment, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **variables}
    with chdir(folder):
        status, out, err = ended(spawn(*arguments, module=module, **environment), PATIENCE)
        return Done(folder, status, out + err, load_settings(Path(CONFIG), environment).warehouse_at)
