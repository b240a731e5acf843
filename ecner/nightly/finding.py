"""The Parquet files that a file's name, a folder or a glob stands for, on disk or in an object store."""

import glob
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote

from fsspec.implementations.arrow import ArrowFSWrapper

from ecner.config import redacted
from ecner.data.stores import Store
from ecner.errors import UsageError

_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def find_files(store: Store, location: str) -> list[str]:
    """The files in order; where not one is named, without those that writers leave beside the data: _temporary/x.

    Raises:
        UsageError: there are none.
        TransientError: the store does not answer.
    """
    named = Path(location) if store.is_local else PurePosixPath(store.root)
    fixed = next((i for i, part in enumerate(named.parts) if glob.has_magic(part)), len(named.parts))
    files = _on_disk(location) if store.is_local else _in_objects(store)
    shown = [file for file in files if not any(part.startswith(("_", ".")) for part in file.parts[fixed:])]
    if not shown:
        raise UsageError(
            f"no Parquet file at {redacted(location)}: expected a file, a folder with *.parquet in it, or a glob that "
            "matches them; set source.uri"
        )
    return list(dict.fromkeys(map(str, shown)))


def _on_disk(location: str) -> Iterator[PurePath]:
    named = Path(location)
    found = [named] if named.exists() else [Path(path) for path in sorted(glob.glob(location, recursive=True))]  # noqa: PTH207
    for path in found:
        yield from [path] if path.is_file() else filter(Path.is_file, sorted(path.rglob("*.parquet")))


def _in_objects(store: Store) -> Iterator[PurePath]:
    with store.explaining(f"list {store.uri}"):
        files = ArrowFSWrapper(store.files)
        found = [store.root] if files.exists(store.root) else files.glob(store.root)
        for path in sorted(map(PurePosixPath, found)):
            inside = [] if files.isfile(str(path)) else map(PurePosixPath, files.find(str(path)))
            yield from sorted(file for file in inside if file.suffix == ".parquet") if inside else [path]


def partitions_of(path: str) -> dict[str, str | None]:
    """Names and values of the folders ``name=value`` that a file lies in."""
    pairs = (part.split("=", 1) for part in PurePosixPath(Path(path).as_posix()).parent.parts if "=" in part)
    return {name: None if value == _NULL_PARTITION else unquote(value) for name, value in pairs}
