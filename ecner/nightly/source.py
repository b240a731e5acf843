"""Where raw reviews come from: Parquet files, here or in an object store, or a database; each a stream of batches."""

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from ecner.config import SourceSettings
from ecner.errors import UsageError
from ecner.nightly.parquet import open_parquet
from ecner.storage.reviews import open_reviews


class Source(Protocol):
    """Reviews that can be read again and again, in the same order while nobody changes them."""

    @property
    def name(self) -> str:
        """Redacted, absolute and stable: a watermark goes by it."""
        ...

    def batches(self, since: datetime | None = None) -> Iterator[pa.RecordBatch]:
        """The source's rows in order, under our names, in batches of bounded rows and bytes.

        Args:
            since: rows whose watermark is older may be left out.

        Raises:
            RunError: the source failed on the way, or turned out to be damaged.
        """
        ...

    def rows(self) -> int | None:
        """How many rows are to come, where that is known without reading them."""
        ...

    def size(self) -> int | None:
        """Bytes of the columns read, uncompressed, where that is known without reading them."""
        ...


def open_source(settings: SourceSettings) -> Source:
    """Finds the reviews and checks that they have the columns; nothing else has been done when it raises.

    Raises:
        UsageError: no such file, database or table; or a column is missing, or of a type that cannot be used.
        DataError: a file is not Parquet.
        RunError: the database or the object store cannot be reached.
    """
    if _is_database(settings.location):
        return open_reviews(settings)
    if settings.table or settings.query:
        key = "table" if settings.table else "query"
        raise UsageError(
            f"source.{key} is set, but source.uri names files: expected a database's URL; unset one of them"
        )
    return open_parquet(settings)


def _is_database(location: str) -> bool:
    return "://" in location and not location.startswith("s3://")
