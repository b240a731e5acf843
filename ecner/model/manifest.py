"""Manifests of version folders: the hash of every file, by which a folder is named, and checked when it is loaded."""

import hashlib
import json
import re
from pathlib import Path

from ecner.errors import ModelError

MANIFEST = "manifest.json"
_LONGEST_NAME = 255  # bytes


def write_manifest(folder: Path) -> str:
    """Writes the manifest of a folder's files; returns its identity, 12 hex digits, by the files' content alone."""
    content = _render({path.name: _digest(path) for path in _files(folder)})
    (folder / MANIFEST).write_bytes(content)
    return _identity(content)


def is_version_name(name: str) -> bool:
    """Whether it can name a version folder among others, and leads nowhere else."""
    return re.fullmatch(r"\w[\w .+=-]*", name) is not None and len(name.encode()) <= _LONGEST_NAME


def identity(folder: Path) -> str | None:
    """Identity of a folder as its manifest has it, without a look at the files; None where there is no manifest."""
    path = folder / MANIFEST
    return _identity(path.read_bytes()) if path.is_file() else None


def verify(folder: Path) -> None:
    """Compares a folder with its manifest, byte by byte; one without a manifest is let pass.

    Raises:
        ModelError: a file is another than it was, is missing, or was put there since.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return
    content = path.read_bytes()
    try:
        expected = dict(json.loads(content))
        is_canonical = _render(expected) == content
    except (ValueError, TypeError):
        is_canonical = False
    if not is_canonical:
        raise ModelError(f"{path} was changed since it was written: {_RESTORE}")
    found = {file.name: _digest(file) for file in _files(folder)}
    wrong = {
        "changed": sorted(name for name in found.keys() & expected.keys() if found[name] != expected[name]),
        "missing": sorted(expected.keys() - found.keys()),
        "not of it": sorted(found.keys() - expected.keys()),
    }
    if problems := "; ".join(f"{kind}: {', '.join(names)}" for kind, names in wrong.items() if names):
        raise ModelError(f"{folder} is not what it was when it was written ({problems}): {_RESTORE}")


_RESTORE = "put back the whole folder from a copy, or name another version"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != MANIFEST)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; {_RESTORE}") from None


def _render(files: dict[str, str]) -> bytes:
    """The one way to write a manifest, so that no byte of it can change unnoticed."""
    return (json.dumps(files, indent=1, sort_keys=True) + "\n").encode()


def _identity(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
