"""Raw reviews from Parquet: a file, a folder (hive partitions included) or a glob, as a stream of Arrow batches."""

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ecner.config import SourceColumns, SourceSettings, redacted
from ecner.errors import DataError, RunError, UsageError

PARTITION_DATE = "date"
_BATCH_ROWS = 32_768


@dataclass(frozen=True)
class ParquetSource:
    """Files that were found to hold reviews, in the order in which they are read."""

    name: str
    dataset: ds.Dataset
    columns: Mapping[str, str]  # ours to the source's; only those that are there

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The source's rows in order, under our names, column by column as they are stored.

        Raises:
            RunError: a file turned out to be damaged.
        """
        try:
            for fragment in self.dataset.get_fragments():
                yield from fragment.to_batches(
                    schema=self.dataset.schema,
                    columns={ours: ds.field(theirs) for ours, theirs in self.columns.items()},
                    batch_size=_BATCH_ROWS,
                )
        except (pa.ArrowException, OSError) as error:
            raise RunError(f"cannot read on in {self.name}: {_first_line(error)}; check or replace the file") from error


def open_source(settings: SourceSettings) -> ParquetSource:
    """Finds the files and checks that each holds the columns; nothing else has been done when it raises.

    Raises:
        UsageError: no such file, or a column is missing or of a type that cannot hold what it should.
        DataError: a file is not Parquet.
    """
    name = redacted(settings.location)
    files = _files(settings.location)
    schema = pa.unify_schemas([_schema(file) for file in files], promote_options="permissive")
    dataset = ds.dataset(files, schema=None, format="parquet", partitioning=ds.partitioning(flavor="hive"))
    partitions = [field for field in dataset.schema if field.name not in schema.names]
    dataset = dataset.replace_schema(pa.schema([*schema, *partitions]))
    wanted = _wanted(settings)
    for file in files:
        _require(file, {*_schema(file).names, *(p.name for p in partitions)}, wanted, settings)
    columns = {ours: theirs for ours, theirs in wanted.items() if theirs in dataset.schema.names}
    _check_types(name, dataset.schema, columns)
    return ParquetSource(name, dataset, columns)


def _wanted(settings: SourceSettings) -> dict[str, str]:
    """Our column names to the source's, the date partition and the watermark included."""
    columns: dict[str, str] = {ours: getattr(settings.columns, ours) for ours in SourceColumns.model_fields}
    columns["partition_date"] = PARTITION_DATE
    if settings.watermark_column is not None:
        columns["watermark"] = settings.watermark_column
    return columns


def _files(location: str) -> list[str]:
    path = Path(location)
    if path.is_dir():
        files = [str(file) for file in sorted(path.rglob("*.parquet")) if not _is_hidden(file.relative_to(path))]
    elif path.is_file():
        files = [location]
    else:
        files = sorted(found for found in glob.glob(location, recursive=True) if Path(found).is_file())  # noqa: PTH207
    if not files:
        raise UsageError(
            f"no Parquet file at {redacted(location)}: expected a file, a folder with *.parquet in it, or a glob that "
            "matches files; set source.uri"
        )
    return files


def _is_hidden(path: Path) -> bool:
    """Files that writers leave beside the data, such as _temporary/."""
    return any(part.startswith(("_", ".")) for part in path.parts)


def _schema(file: str) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a Parquet file that can be read: {_first_line(error)}") from error


def _require(file: str, names: set[str], wanted: Mapping[str, str], settings: SourceSettings) -> None:
    """Columns that must be there: review_id, text, the watermark, and any that the settings name."""
    named = {"review_id", "text", "watermark"} | settings.columns.model_fields_set
    if missing := [theirs for ours, theirs in wanted.items() if ours in named and theirs not in names]:
        raise UsageError(
            f"{file} lacks the column(s) {', '.join(missing)}: it has {', '.join(sorted(names))}; "
            "set source.columns to the source's names"
        )


def _check_types(name: str, schema: pa.Schema, columns: Mapping[str, str]) -> None:
    """Types that no value of a column could be used with; single values are judged row by row."""
    problems = []
    for ours, theirs in columns.items():
        kind = schema.field(theirs).type
        if not any(check(kind) for check in _ACCEPTED.get(ours, (lambda _: True,))):
            problems.append(f"{theirs} is {kind}: expected {_EXPECTED[ours]}")
    if problems:
        raise UsageError(f"columns of {name} cannot be used: {'; '.join(problems)}")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        check(kind)
        for check in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
            pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_null,
        )
    )  # fmt: skip


def _is_time(kind: pa.DataType) -> bool:
    return _is_text(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or _is_text(kind)


_ID = (_is_text, pa.types.is_integer)
_ACCEPTED = {
    "review_id": _ID,
    "product_id": _ID,
    "text": (_is_text,),
    "rating": (_is_number,),
    "created_at": (_is_time,),
    "updated_at": (_is_time,),
    "watermark": (_is_time,),
}
_EXPECTED = dict.fromkeys(("review_id", "product_id"), "text or integers") | {
    "text": "text",
    "rating": "numbers",
    "created_at": "times",
    "updated_at": "times",
    "watermark": "times",
}


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
