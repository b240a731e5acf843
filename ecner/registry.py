"""Models by reference: the shipped one, the champion, a version in the warehouse, or a folder."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ecner.config import Address, LakeSettings
from ecner.errors import ModelError, UsageError
from ecner.labels import tag_label
from ecner.model.manifest import identity
from ecner.resources import asset
from ecner.schema import TABLES
from ecner.storage.query import run_query
from ecner.storage.transaction import Reader, Transaction
from ecner.transfer import fetch

SHIPPED = "default"
CHAMPION = "champion"
TRAINING_TEXTS = "training_texts.txt"  # a hash a line
_WEIGHTS, _CONFIG, _VERSION = "model.safetensors", "config.json", "version.json"


@dataclass(frozen=True)
class ModelVersion:
    """A model under the name that its mentions carry; ``uri`` leads to it from any machine, ``folder`` from here."""

    version: str
    folder: Path
    uri: str


def resolve(ref: str, reader: Reader | None = None, lake: LakeSettings | None = None) -> ModelVersion:
    """The model that a reference means; without a warehouse the champion is the shipped model.

    One that lies on an object store is fetched into lake.cache.

    Raises:
        UsageError: no such version or folder.
        ModelError: the folder does not hold the model, or no longer.
    """
    if reader is not None and (model := find(reader.read("model_versions"), ref, lake)):
        return model
    if ref in {SHIPPED, CHAMPION}:
        return _shipped()
    if not _is_remote(ref) and not is_folder(ref):
        raise UsageError(
            f"no model {ref!r}: expected {SHIPPED}, {CHAMPION}, a version id of this warehouse, or a model folder"
        )
    return _at(ref, lake)


def resolve_in(warehouse: Address, ref: str, lake: LakeSettings | None = None) -> ModelVersion:
    """The model that a reference means, by a warehouse that is looked at where there is one, but not made.

    Raises:
        UsageError: no such version or folder.
        ModelError: the folder does not hold the model, or no longer.
        RunError: the warehouse cannot be reached.
    """
    try:
        versions = run_query(*warehouse, "model_versions")
    except UsageError:
        return resolve(ref, lake=lake)
    return find(versions, ref, lake) or resolve(ref, lake=lake)


def find(versions: pl.DataFrame, ref: str, lake: LakeSettings | None = None) -> ModelVersion | None:
    """The registered model that a reference means. As the champion, the shipped model is that of this installation.

    Args:
        versions: the table model_versions.
        ref: champion or a version id.
        lake: where an object store answers, and where its models are kept here.

    Raises:
        ModelError: the weights are gone, or are now others.
    """
    rows = versions.filter(pl.col("status") == CHAMPION if ref == CHAMPION else pl.col("version") == ref)
    if rows.is_empty():
        return None
    version, uri = rows.select("version", "uri").row(0)
    if uri != SHIPPED and not _is_remote(uri) and not is_folder(uri):
        raise ModelError(
            f"{version} is gone: there is no folder {uri}; put it back or, if it was moved, ecner models promote FOLDER"
        )
    model = _at(uri, lake)
    if model.version != version and (ref, uri) != (CHAMPION, SHIPPED):
        raise ModelError(
            f"the weights of {version} are gone: {model.folder} holds {model.version}; put them back, or name another"
        )
    return model


def folder_of(uri: str, lake: LakeSettings | None = None) -> Path:
    """The folder here of a model by its address, on whatever machine: the shipped one, a path, or ``s3://``.

    Raises:
        ModelError: what lies on the object store is not the model.
        RunError: the object store failed on the way.
    """
    if uri == SHIPPED:
        return asset("model")
    return fetch(uri, lake or LakeSettings()) if _is_remote(uri) else Path(uri)


def is_folder(ref: str) -> bool:
    """Whether there is a folder of that name; a name that none can have is no error."""
    return os.path.isdir(ref)  # noqa: PTH112 - Path.is_dir raises where a name is too long


def register(transaction: Transaction, model: ModelVersion) -> None:
    """Enters a model that the warehouse does not know, with what its folder says of it; of a known one, its folder.

    The shipped model becomes champion, unless another than a former shipped one is; any other is a candidate.
    """
    versions = transaction.read("model_versions")
    leads = _takes_the_lead(transaction, versions, model)
    if model.version in versions["version"]:  # its folder may have been moved since
        found = {"uri": model.uri} | ({"status": CHAMPION} if leads else {})
        transaction.update("model_versions", {"version": model.version}, found)
        return
    known = _json(model.folder / _VERSION) if (model.folder / _VERSION).is_file() else {}
    row = {
        "version": model.version,
        "created_at": datetime.now(UTC),
        "status": CHAMPION if leads else "candidate",
        "architecture": _json(model.folder / _CONFIG).get("architecture", "unknown"),
        "base": known.get("base"),
        "data_fingerprint": known.get("data_fingerprint"),
        "parent": known.get("parent"),
        "uri": model.uri,
        "reason": None,
    }
    _append(transaction, "model_versions", [row])
    _append(transaction, "model_evaluations", [{"version": model.version, **f} for f in known.get("evaluations", [])])


def _takes_the_lead(transaction: Transaction, versions: pl.DataFrame, model: ModelVersion) -> bool:
    """Whether a model is the shipped one of an installation that was changed, up or down; archives the one before."""
    champions = versions.filter(status=CHAMPION)
    if model.uri != SHIPPED or champions["uri"].to_list() not in ([], [SHIPPED]):
        return False
    former = {"version": next(iter(champions["version"]), None), "status": CHAMPION}
    # a promotion that was entered meanwhile stands: nothing is archived then
    return champions.is_empty() or bool(transaction.update("model_versions", former, {"status": "archived"}))


def training_texts(folder: Path) -> frozenset[str] | None:
    """Hashes of the texts that a model was trained on; None where its folder does not tell.

    Raises:
        ModelError: the list cannot be read.
    """
    path = folder / TRAINING_TEXTS
    if not path.is_file():
        return None
    try:
        return frozenset(path.read_text("ascii").split())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}; put back the whole folder from a copy") from None


def labels_of(folder: Path) -> set[str]:
    """Labels that the model in a folder finds.

    Raises:
        ModelError: its config cannot be read.
    """
    return {label for tag in _json(folder / _CONFIG).get("tags", ()) if (label := tag_label(tag))}


def _append(transaction: Transaction, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    transaction.append(table, pl.DataFrame(rows, schema=TABLES[table].polars_schema))


def _shipped() -> ModelVersion:
    folder = asset("model")
    return ModelVersion(f"shipped-{_digest(folder)}", folder, SHIPPED)


def _is_remote(ref: str) -> bool:
    """Whether it is a folder in a bucket."""
    return ref.startswith("s3://") and "/" in ref.removeprefix("s3://").rstrip("/")


def _at(uri: str, lake: LakeSettings | None) -> ModelVersion:
    if uri == SHIPPED:
        return _shipped()
    folder = folder_of(uri, lake).resolve()
    digest = identity(folder) or _digest(folder)
    name = folder.name if folder.name.endswith(f"-{digest}") else f"{folder.name}-{digest}"
    return ModelVersion(name, folder, uri.rstrip("/") if _is_remote(uri) else str(folder))


def _digest(folder: Path) -> str:
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{folder} is not a model folder: expected {_WEIGHTS} in it")
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _json(path: Path) -> Mapping[str, Any]:
    """What a model's files say of it, for programs."""
    try:
        values: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}; export the model again") from None
    return values
