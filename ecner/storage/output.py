"""Results of a query: a table to look at, or a form for other programs."""

import re
import sys
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Literal

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecner.data.files import write_whole
from ecner.errors import UsageError

Format = Literal["table", "csv", "json", "parquet"]

_UNLIMITED_WIDTH = 10_000
# What customers wrote must not steer a terminal: control characters and changes of direction.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def write_result(frame: pl.DataFrame, form: Format, output: Path | None = None) -> None:
    """Writes a frame to standard output or, whole or not at all, to a file. JSON: a list, an object per row.

    Raises:
        UsageError: Parquet without a file, a file that cannot be written, or values unknown to the form.
    """
    if output is None and form == "parquet":
        raise UsageError("parquet is not for a terminal: name a file with --output")
    if output is None and form == "table" and (console := Console()).is_terminal:
        console.print(_table(frame))
        return
    try:
        data = _RENDERERS[form](frame)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"this result cannot be written as {form}: {error}; try another --format") from None
    if output is not None:
        write_whole(output, data)
    else:
        sys.stdout.write(data.decode())


def _render_table(frame: pl.DataFrame) -> bytes:
    console = Console(width=_UNLIMITED_WIDTH, color_system=None)
    with console.capture() as lines:
        console.print(_table(frame))
    return lines.get().encode()


def _render_parquet(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _table(frame: pl.DataFrame) -> Table:
    table = Table(caption=f"{frame.height:,} row(s)")
    for name, dtype in frame.schema.items():
        table.add_column(_cell(name), justify="right" if dtype.is_numeric() else "left")
    for row in frame.iter_rows():
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> Text:
    if value is None:
        return Text("")
    shown = f"{value:.4f}" if isinstance(value, float) else str(value)
    return Text(_STEERING.sub("\N{REPLACEMENT CHARACTER}", shown))


_RENDERERS: Mapping[Format, Callable[[pl.DataFrame], bytes]] = {
    "table": _render_table,
    "csv": lambda frame: frame.write_csv().encode(),
    "json": lambda frame: f"{frame.write_json()}\n".encode(),
    "parquet": _render_parquet,
}
