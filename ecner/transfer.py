"""Version folders on their way between a lake on an object store and this machine.

Invariant: a folder that bears a version's name is whole and what it was when it was written, here as there.
"""

import tempfile
from pathlib import Path

from ecner.config import LakeSettings, redacted
from ecner.errors import ModelError
from ecner.lake import Lake
from ecner.model.checkpoint import base_name, base_of, is_adapter
from ecner.model.manifest import MANIFEST, identity, is_version_name, verify

MODELS = "models"


def upload(lake: Lake, folder: Path) -> str:
    """Puts a version, with the base of an adapter, into a lake where it is not yet; returns its address there.

    Raises:
        RunError: the lake failed on the way.
    """
    if lake.folder is not None:
        return str(folder)  # it was made there
    if is_adapter(folder):
        upload(lake, base_of(folder))
    name = f"{MODELS}/{folder.name}"
    if not lake.exists(f"{name}/{MANIFEST}"):  # which comes last
        lake.put_folder(folder, name, last=MANIFEST)
    return lake.place(name)


def fetch(uri: str, settings: LakeSettings) -> Path:
    """The folder of a version on an object store, with the base of an adapter beside it, fetched once.

    Raises:
        ModelError: it is not there, not whole, or no longer what it was.
        RunError: the store or the disk of lake.cache failed on the way.
    """
    parent, _, name = uri.rstrip("/").rpartition("/")
    if not is_version_name(name):
        raise ModelError(f"{redacted(uri)} names no version: expected its folder, as in s3://bucket/models/NAME-DIGEST")
    lake = Lake.open(settings.model_copy(update={"uri": parent}))  # it need not be the lake of these settings
    folder = _fetch(lake, name)
    if is_adapter(folder):
        _fetch(lake, base_name(folder))
    return folder


def _fetch(lake: Lake, name: str) -> Path:
    place = lake.cache / MODELS / name
    if place.is_dir():
        return place
    with lake.store.explaining(f"fetch {lake.place(name)} into {place.parent}"):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=place.parent) as unfinished:
            folder = lake.get_folder(name, Path(unfinished) / name)
            _check(folder, lake.place(name))
            try:
                folder.rename(place)
            except OSError:
                if not place.is_dir():  # else another process was quicker
                    raise
    return place


def _check(folder: Path, uri: str) -> None:
    digest = identity(folder)
    if digest is None or not folder.name.endswith(f"-{digest}"):
        found = "there is no whole version folder" if digest is None else "another version lies"
        raise ModelError(f"{found} at {uri}: put it back from a copy, or name another version")
    try:
        verify(folder)
    except ModelError as error:
        raise ModelError(f"{uri} was damaged: {error}") from error
