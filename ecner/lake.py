"""The lake: run files, readings, day copies and model versions by name under lake.uri, on disk or on an object store.

A name is a POSIX path relative to lake.uri, so that it means the same on every machine, and never leads out of it.
Invariant: what a name leads to is a whole file; a writer that was killed or failed leaves it as it was.
"""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import polars as pl
from pyarrow import fs

from ecner.config import LakeSettings
from ecner.data.stores import Store, open_store
from ecner.errors import RunError
from ecner.retry import patiently

_CHUNK = 16 << 20
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    """A file or folder by its own name; ``modified`` is the newest time of all that is in it."""

    name: str
    modified: datetime


@dataclass(frozen=True)
class Lake:
    """The folder under lake.uri, by its address: it may be sent to any process. See ``Lake.open``.

    What an object store refuses for a moment is tried again; then every method raises TransientError, or RunError
    where trying again is of no use. A name that leads out of the lake is a ValueError.
    """

    store: Store
    cache: Path

    @classmethod
    def open(cls, settings: LakeSettings) -> Self:
        """The lake of some settings; nothing is looked at yet, ``check`` does.

        Raises:
            UsageError: lake.uri or lake.endpoint is of another form.
        """
        return cls(open_store(settings.uri, settings.endpoint), settings.cache.absolute())

    @property
    def uri(self) -> str:
        """Where it is: an absolute path, or ``s3://bucket/folder``."""
        return self.store.uri

    @property
    def folder(self) -> Path | None:
        """Its folder here; None on an object store."""
        return Path(self.uri) if self.store.is_local else None

    @property
    def workshop(self) -> Path:
        """The folder here in which models are made: the lake's own, or the cache of one on an object store."""
        return self.folder or self.cache

    def check(self) -> None:
        """Finds out early that the lake cannot be used.

        Raises:
            UsageError: there is no such bucket, or the credentials are refused.
            TransientError: the store does not answer.
        """
        self.store.check()

    def place(self, name: str) -> str:
        """A file or folder by its full address, as the registry and messages name it."""
        return f"{self.uri}/{_checked(name)}"

    @patiently
    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        with self._explaining("look for", name):
            found: fs.FileInfo = self.store.files.get_file_info(self._path(name))
        return found.type is not fs.FileType.NotFound

    def names(self, folder: str) -> list[str]:
        """All files below a folder, sorted; none where there is no such folder."""
        return sorted(name for name, info in self._below(folder) if info.is_file and not _is_hidden(name))

    def entries(self, folder: str) -> list[Entry]:
        """What lies in a folder, sorted by name: files and folders, and what writers that were killed have left."""
        newest: dict[str, datetime] = {}
        for whole, info in self._below(folder):
            name = whole.removeprefix(f"{folder}/").split("/")[0]
            # an object store knows no times of folders
            newest[name] = max(newest.get(name, _LONG_AGO), info.mtime or _LONG_AGO)
        return [Entry(name, modified) for name, modified in sorted(newest.items())]

    def read(self, name: str) -> pl.DataFrame:
        """The frame that was written under a name."""
        try:
            if self.folder is None:
                return pl.read_parquet(self.read_bytes(name))
            with self._explaining("read", name):  # which may have the characters of a glob in it
                return pl.read_parquet(self.folder / _checked(name), glob=False)
        except pl.exceptions.PolarsError as error:
            raise RunError(f"{self.place(name)} is no Parquet file that can be read: {error}; remove it") from error

    @patiently
    def read_bytes(self, name: str) -> bytes:
        """A file's content."""
        with self._explaining("read", name), self.store.files.open_input_file(self._path(name)) as file:
            content: bytes = file.readall()
        return content

    def write(self, name: str, frame: pl.DataFrame) -> str:
        """Writes a frame as Parquet; returns its name."""
        with self.new_file(name) as path:
            try:
                frame.write_parquet(path)
            except pl.exceptions.ComputeError as error:  # as it calls what the system said
                raise OSError(str(error)) from error
        return name

    def write_bytes(self, name: str, content: bytes) -> str:
        """Writes a file's content; returns its name."""
        with self.new_file(name) as path:
            path.write_bytes(content)
        return name

    def put(self, path: Path, name: str) -> str:
        """Copies a file from here into the lake; returns its name."""
        if self.folder is None:
            self._upload(path, name)
        else:
            with self.new_file(name) as unfinished:
                shutil.copyfile(path, unfinished)
        return name

    def get(self, name: str, path: Path) -> Path:
        """Copies a file from the lake to a path here, whole or not at all."""
        with self._explaining("fetch", name), _replacing(path) as unfinished:
            self._download(name, unfinished)
        return path

    def put_folder(self, folder: Path, name: str, *, last: str) -> str:
        """Copies the files of a folder into the lake; the one named ``last`` shows there that all others are whole."""
        files = sorted(path for path in folder.iterdir() if path.is_file())
        for path in sorted(files, key=lambda path: path.name == last):
            self.put(path, f"{name}/{path.name}")
        return name

    def get_folder(self, name: str, folder: Path) -> Path:
        """Copies the files right in a folder of the lake to one here, which is made."""
        for file in self.names(name):
            own = file.removeprefix(f"{name}/")
            if "/" not in own:
                self.get(file, folder / own)
        return folder

    @patiently
    def remove(self, name: str) -> None:
        """Removes a file, or a folder with all that is in it; one that is not there is no error."""
        files, path = self.store.files, self._path(name)
        with self._explaining("remove", name):
            kind = files.get_file_info(path).type
            if kind is fs.FileType.Directory:
                files.delete_dir(path)
            elif kind is not fs.FileType.NotFound:
                files.delete_file(path)

    def sweep(self, folder: str) -> None:
        """Removes what writers that were killed have left unfinished below a folder; nobody may be writing there."""
        for name, info in self._below(folder):
            if info.is_file and _is_hidden(name):
                self.remove(name)

    @patiently
    def _below(self, folder: str) -> list[tuple[str, fs.FileInfo]]:
        """What lies in a folder by its name; what somebody else has put there under none of ours is passed over."""
        with self._explaining("list", folder):
            chosen = fs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
            found: list[fs.FileInfo] = self.store.files.get_file_info(chosen)
        return [(name, info) for info in found if _is_name(name := self._name(info))]

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """A path to write to; what stands there in the end takes the name."""
        own = _checked(name)
        with self._explaining("write", name):
            if self.folder is not None:
                with _replacing(self.folder / own) as unfinished:
                    yield unfinished
            else:
                with tempfile.TemporaryDirectory() as place:
                    unfinished = Path(place) / "file"
                    yield unfinished
                    self._upload(unfinished, name)

    @patiently
    def _upload(self, path: Path, name: str) -> None:
        with self._explaining("write", name):
            self.store.put(path, _checked(name))

    @patiently
    def _download(self, name: str, path: Path) -> None:
        target = path.open("wb")
        with self._explaining("fetch", name), target, self.store.files.open_input_file(self._path(name)) as source:
            shutil.copyfileobj(source, target, _CHUNK)

    def _explaining(self, doing: str, name: str) -> AbstractContextManager[None]:
        return self.store.explaining(f"{doing} {name} in lake.uri, {self.uri}")

    def _path(self, name: str) -> str:
        return f"{self.store.root}/{_checked(name)}"

    def _name(self, info: fs.FileInfo) -> str:
        path: str = info.path
        return path.removeprefix(f"{self.store.root}/")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path beside another, whose place it takes in the end; where the block fails, nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex}.unfinished")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _checked(name: str) -> str:
    if not _is_name(name):
        raise ValueError(f"{name!r} is no name in the lake: expected a path below it such as runs/one/rows.parquet")
    return name


def _is_name(name: str) -> bool:
    return not ({"", ".", ".."} & {*name.split("/")} or "\\" in name or "\0" in name)


def _is_hidden(name: str) -> bool:
    """Whether a file is one that its writer has not finished."""
    return name.rsplit("/", 1)[-1].startswith(".")
