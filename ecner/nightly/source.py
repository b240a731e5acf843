"""Raw reviews from Parquet: a file, a folder (hive partitions included) or a glob, as a stream of Arrow batches."""

import glob
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from ecner.config import SourceColumns, SourceSettings, redacted
from ecner.errors import DataError, RunError, UsageError

_BATCH_ROWS = 32_768
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class ParquetFile:
    """A file that was found to hold reviews; each has its own schema."""

    path: Path
    columns: Mapping[str, str]  # ours to the file's; only those that are there
    partitions: Mapping[str, str | None]  # ours to the value in the names of the file's folders

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The file's rows in order, under our names."""
        with pq.ParquetFile(self.path) as parquet:
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=sorted(set(self.columns.values()))):
                stored = {ours: batch.column(theirs) for ours, theirs in self.columns.items()}
                fixed = {ours: pa.repeat(value, batch.num_rows) for ours, value in self.partitions.items()}
                yield pa.RecordBatch.from_pydict(stored | fixed)


@dataclass(frozen=True)
class ParquetSource:
    """Files in the order in which they are read."""

    name: str
    files: tuple[ParquetFile, ...]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The source's rows in order, under our names, column by column as they are stored.

        Raises:
            RunError: a file turned out to be damaged.
        """
        for file in self.files:
            try:
                yield from file.batches()
            except (pa.ArrowException, OSError) as error:
                raise RunError(
                    f"cannot read on in {file.path}: {_first_line(error)}; check or replace the file"
                ) from error


def open_source(settings: SourceSettings) -> ParquetSource:
    """Finds the files and checks that each holds the columns; nothing else has been done when it raises.

    Raises:
        UsageError: no such file, or a column is missing or of a type that cannot hold what it should.
        DataError: a file is not Parquet.
    """
    wanted = {ours: getattr(settings.columns, ours) for ours in SourceColumns.model_fields}
    if settings.watermark_column is not None:
        wanted["watermark"] = settings.watermark_column
    required = {"review_id", "text", "watermark"} | settings.columns.model_fields_set
    files = tuple(_open(path, wanted, required) for path in _find(settings.location))
    return ParquetSource(redacted(str(Path(settings.location).absolute())), files)  # a watermark goes by this name


def _find(location: str) -> list[Path]:
    """The files in order; where not one is named, without those that writers leave beside the data: _temporary/x."""
    named = Path(location)
    found = [named] if named.exists() else [Path(path) for path in sorted(glob.glob(location, recursive=True))]  # noqa: PTH207
    fixed = next((i for i, part in enumerate(named.parts) if glob.has_magic(part)), len(named.parts))
    files = [file for path in found for file in ([path] if path.is_file() else sorted(path.rglob("*.parquet")))]
    shown = [f for f in files if f.is_file() and not any(part.startswith(("_", ".")) for part in f.parts[fixed:])]
    if not shown:
        raise UsageError(
            f"no Parquet file at {redacted(location)}: expected a file, a folder with *.parquet in it, or a glob that "
            "matches them; set source.uri"
        )
    return list(dict.fromkeys(shown))


def _open(path: Path, wanted: Mapping[str, str], required: set[str]) -> ParquetFile:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is not a Parquet file that can be read: {_first_line(error)}; replace or remove it"
        ) from error
    folders = _partitions(path)
    names = {*schema.names, *folders}
    if repeated := [theirs for theirs in wanted.values() if schema.names.count(theirs) > 1]:
        raise UsageError(f"{path} has several columns {', '.join(repeated)}: expected one of each; rename the others")
    if missing := [theirs for ours, theirs in wanted.items() if ours in required and theirs not in names]:
        raise UsageError(
            f"{path} lacks the column(s) {', '.join(missing)}: it has {', '.join(sorted(names))}; "
            "set source.columns to the source's names"
        )
    columns = {ours: theirs for ours, theirs in wanted.items() if theirs in schema.names}
    _check_types(path, schema, columns)
    partitions = {ours: folders[theirs] for ours, theirs in wanted.items() if theirs in names - {*schema.names}}
    return ParquetFile(path, columns, {**partitions, "partition_date": folders.get("date")})


def _partitions(path: Path) -> dict[str, str | None]:
    """Names and values of the folders ``name=value`` that a file lies in."""
    pairs = (part.split("=", 1) for part in path.parent.parts if "=" in part)
    return {name: None if value == _NULL_PARTITION else unquote(value) for name, value in pairs}


def _check_types(path: Path, schema: pa.Schema, columns: Mapping[str, str]) -> None:
    """Refuses types that no value of a column could be used with; single values are judged row by row."""
    problems = []
    for ours, theirs in columns.items():
        kind = schema.field(theirs).type
        expected, fitting = _FITTING[ours]
        value = kind.value_type if types.is_dictionary(kind) else kind
        if not any(fits(value) for fits in (*fitting, *_TEXT, types.is_null)):
            problems.append(f"{theirs} is {kind}: expected {expected}")
    if problems:
        raise UsageError(f"columns of {path} cannot be used: {'; '.join(problems)}; set source.columns")


_Fits = Callable[[pa.DataType], bool]
_TEXT: tuple[_Fits, ...] = (
    types.is_string, types.is_large_string, types.is_string_view,
    types.is_binary, types.is_large_binary, types.is_binary_view,
)  # fmt: skip
_IDS: tuple[str, tuple[_Fits, ...]] = "text or integers", (types.is_integer,)
_TIMES: tuple[str, tuple[_Fits, ...]] = "times", (types.is_timestamp, types.is_date)
_FITTING: Mapping[str, tuple[str, tuple[_Fits, ...]]] = {
    "review_id": _IDS,
    "product_id": _IDS,
    "text": ("text", ()),
    "rating": ("numbers", (types.is_integer, types.is_floating, types.is_decimal)),
    "created_at": _TIMES,
    "updated_at": _TIMES,
    "watermark": _TIMES,
}


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, or bytes that may be text."""
    return any(fits(kind) for fits in _TEXT)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
