"""A place of its own for a series of nights: a warehouse, a lake, and the settings that lead there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ecner.config import Address, Settings
from ecner.lake import Lake
from ecner.nightly.report import Report
from ecner.nightly.run import Night, prepare, run_night
from ecner.nightly.scope import Selection
from ecner.storage.warehouse import Warehouse
from tests.tables import Tables, read_tables

BY_WATERMARK = Selection()


@dataclass(frozen=True)
class House:
    folder: Path
    model: Path
    database: str | None = None
    schema: str | None = None

    @property
    def url(self) -> str:
        return self.database or f"sqlite:///{self.folder}/warehouse.db"

    @property
    def address(self) -> Address:
        return Address(self.url, self.schema)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(*self.address)

    @property
    def lake(self) -> Lake:
        return Lake.open(self.settings("").lake)

    def settings(self, source: Path | str, /, **sections: dict[str, Any]) -> Settings:
        """Settings of a night over a source; sections lie over those of the house."""
        base: dict[str, dict[str, Any]] = {
            "source": {"uri": str(source) or None},
            "warehouse": {"url": self.url, "schema": self.schema},
            "lake": {"uri": str(self.folder / "lake")},
            "model": {"ref": str(self.model), "device": "cpu"},
            "run": {"shards": 2},
        }
        return Settings.model_validate({name: base.get(name, {}) | sections.get(name, {}) for name in base | sections})

    def prepare(self, source: Path | str, selection: Selection = BY_WATERMARK, /, **sections: dict[str, Any]) -> Night:
        return prepare(self.settings(source, **sections), selection)

    def night(self, source: Path | str, selection: Selection = BY_WATERMARK, /, **sections: dict[str, Any]) -> Report:
        return run_night(self.prepare(source, selection, **sections))

    def tables(self) -> Tables:
        return read_tables(*self.address)

    def read(self, table: str, **where: object) -> pl.DataFrame:
        with self.warehouse.connect() as reader:
            return reader.read(table, where=where)

    def run(self, report: Report) -> dict[str, Any]:
        """The ledger's row of a night."""
        return self.read("extraction_runs", run_id=report.plan.run_id).row(0, named=True)

    def files(self) -> list[str]:
        """All that there is, to show that nothing was made."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))
