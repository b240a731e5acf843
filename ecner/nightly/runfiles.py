"""The files of one run in the lake: rows by bucket of review ids, texts by shard of text hashes, rejections."""

from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from ecner.lake import Lake

_TEXTS = pl.Schema({"text_hash": pl.String(), "text": pl.String()})


class Shard(NamedTuple):
    """Texts of a shard: the file of those to read, where there are any; how many there are, and how many to read."""

    name: str | None
    texts: int
    unread: int


@dataclass(frozen=True)
class RunFiles:
    """Names and content of a run's files."""

    lake: Lake
    run_id: str

    @property
    def folder(self) -> str:
        """Where they lie."""
        return f"runs/{self.run_id}"

    def clear(self) -> None:
        """Removes what there is."""
        self.lake.remove(self.folder)

    def write(self, kind: str, name: str, frame: pl.DataFrame) -> str:
        """A file that is complete in itself."""
        return self.lake.write(f"{self.folder}/{kind}/{name}.parquet", frame)

    def add(self, kind: str, number: int, piece: int, frame: pl.DataFrame) -> str:
        """One piece of a bucket or shard."""
        return self.write(kind, f"{number:04d}/{piece:06d}", frame)

    def pieces(self, kind: str, number: int, schema: pl.Schema) -> pl.DataFrame:
        """All pieces of a bucket or shard, in order."""
        names = self.lake.names(f"{self.folder}/{kind}/{number:04d}")
        return pl.concat([schema.to_frame(), *map(self.lake.read, names)])

    def shard(self, number: int) -> Shard:
        """Makes a shard of its pieces: each text once, where any of them says that it must be read."""
        pieces = self.pieces("texts", number, _TEXTS)
        texts = pieces.group_by("text_hash").agg(pl.col("text").drop_nulls().first()).sort("text_hash")
        unread = texts.drop_nulls()
        name = self.write("shards", f"{number:04d}", unread) if len(unread) else None
        return Shard(name, len(texts), len(unread))
