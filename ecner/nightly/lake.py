"""Files of runs: where each stage leaves what the next one takes up. A file is there whole, or not at all."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from ecner.errors import RunError


@dataclass(frozen=True)
class RunFiles:
    """The folder of one run: rows by bucket of review ids, texts by shard, rejections."""

    folder: Path

    def pieces(self, kind: str, number: int) -> list[Path]:
        """The pieces written so far for one bucket or shard, in order."""
        return sorted((self.folder / kind / f"{number:04d}").glob("*.parquet"))

    def piece(self, kind: str, number: int, name: str) -> Path:
        """A piece of a bucket or shard."""
        return self.folder / kind / f"{number:04d}" / f"{name}.parquet"

    def whole(self, kind: str, name: str) -> Path:
        """A file that is complete in itself."""
        return self.folder / kind / f"{name}.parquet"


@dataclass(frozen=True)
class Lake:
    """The folder under lake.uri."""

    root: Path

    def run(self, run_id: str) -> RunFiles:
        """Files of one run."""
        return RunFiles(self.root / "runs" / run_id)

    def reading(self, fingerprint: str, digest: str) -> Path:
        """What a fingerprint read in a set of texts: named by its content, so a later run takes up finished work."""
        return self.root / "readings" / fingerprint / f"{digest}.parquet"

    def clear(self, until: datetime) -> None:
        """Removes what runs have left until then, half-written files included."""
        for path in [*self.root.glob("runs/*"), *self.root.glob("readings/*/*")]:
            with suppress(OSError):  # somebody else was quicker, or it is not ours to remove: the night has ended well
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) <= until:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def read(path: Path | str) -> pl.DataFrame:
    """A file that was written here; its folders may have the characters of a glob in their names."""
    return pl.read_parquet(path, glob=False)


def write(path: Path, frame: pl.DataFrame) -> Path:
    """Writes a Parquet file under another name first: a killed writer leaves no half file behind that name.

    Raises:
        RunError: the folder cannot be made or written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}; check lake.uri and the room on its disk") from error
    return path
