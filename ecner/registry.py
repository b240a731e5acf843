"""Models by reference: the shipped one, the champion, a version in the warehouse, or a folder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ecner.errors import ModelError, UsageError
from ecner.resources import asset
from ecner.storage.transaction import Reader, Transaction

SHIPPED = "default"
CHAMPION = "champion"
_WEIGHTS, _FIGURES = "model.safetensors", "figures.json"


@dataclass(frozen=True)
class ModelVersion:
    """A model under the name that its mentions carry."""

    version: str
    folder: Path
    uri: str


def resolve(ref: str, reader: Reader | None = None) -> ModelVersion:
    """The model that a reference means; without a warehouse the champion is the shipped model.

    Raises:
        UsageError: no such version or folder.
        ModelError: the folder holds no weights.
    """
    if ref in {SHIPPED, CHAMPION} and reader is None:
        return _shipped()
    if reader is not None:
        where = {"status": "champion"} if ref == CHAMPION else {"version": ref}
        rows = reader.read("model_versions", where=where)
        if not rows.is_empty():
            uri = rows["uri"][0]
            return ModelVersion(rows["version"][0], asset("model") if uri == SHIPPED else Path(uri), uri)
    if ref in {SHIPPED, CHAMPION}:
        return _shipped()
    folder = Path(ref)
    if not folder.is_dir():
        raise UsageError(
            f"no model {ref!r}: expected {SHIPPED}, {CHAMPION}, a version id of this warehouse, or a model folder"
        )
    return ModelVersion(f"{folder.resolve().name}-{_digest(folder)}", folder.resolve(), str(folder.resolve()))


def register(transaction: Transaction, model: ModelVersion) -> None:
    """Enters a model that the warehouse does not know: the first becomes champion, with its card's figures."""
    if not transaction.read("model_versions", where={"version": model.version}).is_empty():
        return
    champion = transaction.read("model_versions", where={"status": "champion"}).is_empty() and model.uri == SHIPPED
    figures = _figures(model.folder)
    config = json.loads((model.folder / "config.json").read_text("utf-8"))
    row = {
        "version": model.version,
        "created_at": datetime.now(UTC),
        "status": "champion" if champion else "candidate",
        "architecture": config["architecture"],
        "base": figures.get("base"),
        "data_fingerprint": figures.get("data_fingerprint"),
        "parent": None,
        "uri": model.uri,
    }
    transaction.append(
        "model_versions",
        pl.DataFrame([row], schema_overrides=dict.fromkeys(("base", "data_fingerprint", "parent"), pl.String())),
    )
    rows = [{"version": model.version, **figure} for figure in figures.get("evaluations", [])]
    if rows:
        transaction.append("model_evaluations", pl.DataFrame(rows))


def _shipped() -> ModelVersion:
    folder = asset("model")
    return ModelVersion(f"shipped-{_digest(folder)}", folder, SHIPPED)


def _digest(folder: Path) -> str:
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{folder} is not a model folder: expected {_WEIGHTS} in it")
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]


def _figures(folder: Path) -> Mapping[str, Any]:
    """What the model's card says of it, for programs; a folder without has none."""
    path = folder / _FIGURES
    figures: Mapping[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return figures
