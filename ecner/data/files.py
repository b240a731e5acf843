"""Files as lines: split on line feeds alone, as U+2028, U+0085 and their like are characters of a text."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from ecner.errors import UsageError

STDIN = "-"
BYTE_ORDER_MARK = "\ufeff"


def read_bytes(path: Path | str) -> bytes:
    """A whole file, or standard input for ``-``.

    Raises:
        UsageError: the file is missing or cannot be read.
    """
    if str(path) == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}; name an existing file, or {STDIN} for standard input"
        ) from None


def split_lines(data: str) -> list[str]:
    """Lines without their ends, LF or CRLF; a line break at the end of the file opens no further line."""
    *ended, rest = data.split("\n")
    return [line.removesuffix("\r") for line in ended] + ([rest] if rest else [])


def write_whole(path: Path | str, data: bytes) -> None:
    """Writes a file whole or not at all: beside its place first, then renamed.

    Raises:
        UsageError: the place cannot be written to.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise UsageError(f"cannot write {path}: it exists and is not a file; name a file")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name a file in an existing folder") from None
    finally:
        with suppress(OSError):
            part.unlink()
