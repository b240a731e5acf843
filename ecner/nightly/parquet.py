"""Raw reviews from Parquet: a file, a folder (hive partitions included) or a glob, on disk or in an object store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs, types

from ecner.config import SourceColumns, SourceSettings, redacted
from ecner.data.reviews import DETAIL, MISSING_COLUMN, REASON, WRONG_TYPE, expected, is_text
from ecner.data.stores import Store, open_store
from ecner.errors import DataError, RunError, TransientError, UsageError
from ecner.nightly.finding import find_files, partitions_of

_BATCH_ROWS = 32_768
_BATCH_BYTES = 64 << 20
_BUFFER_BYTES = 4 << 20  # a column is read in pieces, not a whole row group of it


@dataclass(frozen=True)
class _Shape:
    """What a file's metadata tells of its size, for the columns that are read."""

    rows: int
    size: int  # uncompressed
    batch_rows: int
    encoded: tuple[str, ...]  # columns of text that repeat a value by its number: small there, large when decoded


@dataclass(frozen=True)
class ParquetFile:
    """A file that holds reviews; each has its own schema."""

    path: str
    columns: Mapping[str, str]  # ours to the file's; only those that are there and can be used
    partitions: Mapping[str, str | None]  # ours to the value in the names of the file's folders
    problems: Mapping[str, tuple[str, str]]  # ours to the rule and what is wrong
    names: tuple[str, ...]  # the file's, its folders' included
    shape: _Shape

    def batches(self, filesystem: fs.FileSystem) -> Iterator[pa.RecordBatch]:
        """The file's rows in order, under our names."""
        fixed: dict[str, str | None] = dict(self.partitions)
        if self.problems:
            fixed[REASON], detail = next(iter(self.problems.values()))
            fixed[DETAIL] = f"{self.path}: {detail}"
        for batch in self._stored(filesystem):
            repeated = {ours: pa.repeat(pa.scalar(value, pa.string()), len(batch)) for ours, value in fixed.items()}
            stored = {ours: batch.column(theirs) for ours, theirs in self.columns.items()}
            yield pa.RecordBatch.from_pydict(stored | repeated)

    def _stored(self, filesystem: fs.FileSystem) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(
            self.path, filesystem=filesystem, read_dictionary=list(self.shape.encoded), buffer_size=_BUFFER_BYTES
        ) as parquet:
            for batch in parquet.iter_batches(self.shape.batch_rows, columns=sorted(set(self.columns.values()))):
                yield from _cut(batch)


@dataclass(frozen=True)
class ParquetSource:
    """Files in the order in which they are read."""

    name: str
    files: tuple[ParquetFile, ...]
    store: Store

    def batches(self, since: datetime | None = None) -> Iterator[pa.RecordBatch]:  # noqa: ARG002 - to read is cheap
        """The source's rows in order, under our names, column by column as they are stored.

        Raises:
            TransientError: the store does not answer.
            RunError: a file turned out to be damaged.
        """
        for file in self.files:
            batches = file.batches(self.store.files)
            while True:
                with self.store.explaining(f"read on in {file.path}, which may have to be replaced"):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch

    def rows(self) -> int:
        """The rows of all files."""
        return sum(file.shape.rows for file in self.files)

    def size(self) -> int:
        """The uncompressed bytes of the columns that are read."""
        return sum(file.shape.size for file in self.files)


def open_parquet(settings: SourceSettings) -> ParquetSource:
    """Finds the files and checks their columns.

    What is wrong with some files alone is told of each of their rows; with all of them, the settings are wrong.

    Raises:
        UsageError: no such file, or no file has a column, or has it in a type that can hold what it should.
        DataError: a file is not Parquet.
        TransientError: the store does not answer.
    """
    wanted = {ours: getattr(settings.columns, ours) for ours in SourceColumns.model_fields}
    if settings.watermark_column is not None:
        wanted["watermark"] = settings.watermark_column
    required = {"review_id", "text", "watermark"} | settings.columns.model_fields_set
    store = open_store(settings.location, settings.endpoint)
    store.check()
    files = tuple(_open(store, path, wanted, required) for path in find_files(store, settings.location))
    _check_settings(files)
    return ParquetSource(redacted(store.uri), files, store)


def _open(store: Store, path: str, wanted: Mapping[str, str], required: set[str]) -> ParquetFile:
    try:
        with store.explaining(f"open {path}"):
            metadata = pq.read_metadata(path, filesystem=store.files)
            schema = metadata.schema.to_arrow_schema()
    except TransientError:
        raise
    except RunError as error:
        message = next(iter(str(error.__cause__).splitlines()), "nothing is known")
        raise DataError(f"{path} is not a Parquet file that can be read: {message}; replace or remove it") from error
    folders = partitions_of(path)
    problems = dict(_problems(schema, folders, wanted, required))
    columns = {o: theirs for o, theirs in wanted.items() if theirs in schema.names and o not in problems}
    in_folders = {o: folders[theirs] for o, theirs in wanted.items() if theirs in folders.keys() - {*schema.names}}
    partitions = {**in_folders, "partition_date": folders.get("date")}
    names = tuple(sorted({*schema.names, *folders}))
    return ParquetFile(path, columns, partitions, problems, names, _shape(metadata, schema, set(columns.values())))


def _problems(
    schema: pa.Schema, folders: Mapping[str, str | None], wanted: Mapping[str, str], required: set[str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Columns that a file lacks, has twice, or has in a type that no value could be used of."""
    names = {*schema.names, *folders}
    for ours, theirs in wanted.items():
        if theirs not in names and ours in required:
            yield ours, (MISSING_COLUMN, f"it lacks the column(s) {theirs}")
        if schema.names.count(theirs) > 1:
            yield ours, (MISSING_COLUMN, f"it has several columns {theirs}")
    for ours, theirs in wanted.items():
        if schema.names.count(theirs) == 1 and (due := expected(ours, schema.field(theirs).type)):
            yield ours, (WRONG_TYPE, f"{theirs} is {schema.field(theirs).type}: expected {due}")


def _check_settings(files: Sequence[ParquetFile]) -> None:
    """Refuses what is wrong with every file: no row would be left."""
    first = files[0]
    hopeless = [problem for ours, problem in first.problems.items() if all(ours in file.problems for file in files)]
    if hopeless:
        details = "; ".join(detail for _, detail in hopeless)
        raise UsageError(
            f"{first.path} cannot be used: {details}; it has the columns {', '.join(first.names)}; set source.columns "
            "to the source's names"
        )


def _shape(metadata: pq.FileMetaData, schema: pa.Schema, read: set[str]) -> _Shape:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [[c for c in map(group.column, range(group.num_columns)) if c.path_in_schema in read] for group in groups]
    sizes = [sum(chunk.total_uncompressed_size for chunk in group) for group in chunks]
    widest = max(
        (size / group.num_rows for size, group in zip(sizes, groups, strict=True) if group.num_rows), default=1
    )
    batch_rows = max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(widest, 1))))
    encoded = {c.path_in_schema for group in chunks for c in group if "DICTIONARY" in "".join(c.encodings)}
    texts = tuple(sorted(name for name in encoded if is_text(schema.field(name).type)))
    return _Shape(metadata.num_rows, sum(sizes), batch_rows, texts)


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Parts whose encoded texts are of bounded size when they are decoded, too."""
    ends = np.zeros(len(batch), np.int64)
    for column in batch.columns:
        if types.is_dictionary(column.type) and is_text(column.type.value_type):
            lengths = pc.take(pc.binary_length(column.dictionary.cast(pa.large_binary())), column.indices)
            ends += np.cumsum(lengths.fill_null(0).to_numpy(zero_copy_only=False))
    start = 0
    while start < len(batch):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + _BATCH_BYTES, side="right")))
        yield batch.slice(start, end - start)
        start = end
