# ruff: noqa: S311 - nothing here is secret
"""Rows as no review should be, by a seed, in files of every kind; and what the rules say of each, in plain Python."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ("review_id", "text", "product_id", "rating", "created_at", "updated_at", "deleted")
MEGABYTE = 1 << 20
BLANKS = ["", " ", "\t\r\n", "\u3000\u00a0\u2003", "\u2028\u2029\u0085"]
NOT_UTF8 = [
    b"\xff\xfe",
    "好".encode("gbk"),
    "好".encode("utf-16-le") + b"\xd8",
    b"ok\xed\xa0\x80",
    b"\xc0\x80",
    b"\xe5\xa5",
]
TEXTS = [
    "小米手机真好用", "华为耳机", "a1不错", "\u200b", "\u200b\u200d\ufeff", "\u202e好用\u202c", "مرحبا小米",
    "<b>小米</b><script>x()</script>", "'; drop table reviews; --", '" or 1=1', "%s %(x)s {0} :x \\", "NUL\0里", "\0",
    "\x1b[31m红", "😀\u200d👩𠮷", "e\u0301" * 9, "\ufffd", "line\r\nline\u2028line", "ＡＢＣ　１２３", "null", "nan",
    "\ud7ff\ue000\U0010ffff",
]  # fmt: skip
IDS = [
    "'; drop table r; --",
    "<i>1</i>",
    "\u202eabc",
    "\u200b",
    "😀",
    "-1",
    "1e5",
    "null",
    "../../etc/passwd",
    "长" * 2000,
]
WORDS = {b"true": True, b"YES": True, b" 1 ": True, b"False": False, b"no": False, b"0": False, b"": False, b" ": False}
WORDS |= {b"2026-11-01 10:00:00": True}
NO_WORDS = [b"maybe", b"2", b"-", b"\0"]
RATINGS = [b"5", b"4.5", b"-1", b"1e3", b"", b" "]
NO_RATINGS = [b"five", b"5 stars", b"4,5", b"0x5", b"\0", b"--5"]
# What a time without a zone means here is UTC.
TIMES = {
    b"2026-11-01T10:20:30Z": datetime(2026, 11, 1, 10, 20, 30, tzinfo=UTC),
    b"2026-11-02 10:20:30.5+08:00": datetime(2026, 11, 2, 2, 20, 30, 500_000, tzinfo=UTC),
    b"2026/11/03 10:20": datetime(2026, 11, 3, 10, 20, tzinfo=UTC),
    b"2026-11-04": datetime(2026, 11, 4, tzinfo=UTC),
    b"1970-01-01 00:00:00": datetime(1970, 1, 1, tzinfo=UTC),
    b"": None,
}
NO_TIMES = [
    b"yesterday",
    b"2026-02-30",
    b"2026-11-01 25:00:00",
    b"0000-00-00",
    b"0001-01-01",
    b"9999-12-31",
    b"20000-01-01",
]
NO_TIMES += [b"1e9", b"infinity"]
SECONDS_OUT_OF_RANGE = [-(2**43), 2**43, 253_402_214_400, -62_135_596_800]  # the last day of 9999, the first of 1

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Nasty:
    """A row as its source holds it, the rules that it breaks, and the facts of one that breaks none."""

    row: Row
    broken: frozenset[str]
    review_id: str | None = None
    text: str | None = None
    updated_at: datetime | None = None
    deleted: bool = False


def text_rows(count: int, seed: int = 0) -> list[Nasty]:
    """Rows whose every value is text, as bytes, or null; a third has something wrong, ids are repeated."""
    return [judged(_text_row(Random(f"{seed} {number}"), number)) for number in range(count)]


def typed_rows(count: int, seed: int = 0) -> list[Nasty]:
    """Rows of integer ids, float ratings, times in seconds and flags, as files with types have them."""
    return [judged(_typed_row(Random(f"{seed} {number}"), number)) for number in range(count)]


def _text_row(random: Random, number: int) -> Row:
    def draw(usual: Sequence[Any], odd: Sequence[Any], share: float = 0.05) -> Any:
        return random.choice(odd if random.random() < share else usual)

    texts = [text.encode() for text in TEXTS]
    near = [f"R{max(0, number - random.randrange(50))}".encode()]
    return {
        "review_id": draw(
            [f"R{number}".encode()], [None, *NOT_UTF8, b"R\0", *map(str.encode, [*BLANKS, *IDS]), *near * 9], 0.2
        ),
        "text": draw(texts, [None, *NOT_UTF8, *map(str.encode, BLANKS)], 0.1),
        "product_id": draw([None, b"p1", b""], [b"p\0", *NOT_UTF8, "👜".encode()]),
        "rating": draw([None, *RATINGS], [*NO_RATINGS, *NOT_UTF8]),
        "created_at": draw([None, *TIMES], [*NO_TIMES, *NOT_UTF8]),
        "updated_at": draw([None, *TIMES], [*NO_TIMES, *NOT_UTF8]),
        "deleted": draw([None, b"", b"0", b"no"], [*WORDS, *NO_WORDS, *NOT_UTF8], 0.1),
    }


def _typed_row(random: Random, number: int) -> Row:
    seconds = [None, 0, 1_793_500_000 + number]
    return {
        "review_id": random.choice([number, number, number, -number, 2**63 - 1, -(2**63), None]),
        "text": random.choice([*(text.encode() for text in TEXTS), None, *NOT_UTF8]),
        "rating": random.choice([None, 5.0, float("nan"), float("inf"), -0.0]),
        "created_at": random.choice(seconds if random.random() < 0.9 else SECONDS_OUT_OF_RANGE),
        "updated_at": random.choice(seconds if random.random() < 0.9 else SECONDS_OUT_OF_RANGE),
        "deleted": random.choice([None, False, False, False, True]),
    }


def judged(row: Row) -> Nasty:
    """What the rules say of a row of columns that are all there."""
    flag = row["deleted"]
    is_deleted = {**WORDS, None: False, False: False, True: True}.get(flag) if _is_utf8(flag) else None
    identity, text = _plain(row["review_id"]), _plain(row["text"])
    odd_times = [*NO_TIMES, *SECONDS_OUT_OF_RANGE]
    read = {name: value for name, value in row.items() if name != "text" or not is_deleted}
    rules = {
        "invalid_utf8": not all(map(_is_utf8, read.values())),
        "null_id": row["review_id"] is None,
        "bad_id": identity is not None and not identity.strip(),
        "null_text": not is_deleted and row["text"] is None,
        "blank_text": not is_deleted and text is not None and not text.strip(),
        "wrong_type": is_deleted is None
        or row["updated_at"] in odd_times
        or (not is_deleted and (row["rating"] in NO_RATINGS or row["created_at"] in odd_times)),
    }
    if any("\0" in (_plain(row.get(name)) or "") for name in ("review_id", "product_id")):
        rules["bad_id"] = True
    broken = {rule for rule, is_broken in rules.items() if is_broken}
    at = row["updated_at"]
    updated = (
        datetime.fromtimestamp(at, UTC) if isinstance(at, int) and at not in SECONDS_OUT_OF_RANGE else TIMES.get(at)
    )
    return Nasty(row, frozenset(broken), identity, text, updated, bool(is_deleted))


def _is_utf8(value: object) -> bool:
    if not isinstance(value, bytes):
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _plain(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode() if _is_utf8(value) else None
    return None if value is None else str(value)


def nasty_files(folder: Path, count: int, seed: int = 0, long_texts: int = 0) -> list[Nasty]:
    """Files in one folder, in the order in which they are read; returns all of their rows in that order."""
    folder.mkdir(parents=True)
    texts, typed = text_rows(count * 2 // 3, seed), typed_rows(count - count * 2 // 3, seed)
    write_text(folder / "a-text.parquet", texts)
    write_typed(folder / "b-typed.parquet", typed)
    write_text(folder / "c-empty.parquet", [])
    return [*texts, *typed, *_bad_partitions(folder), *_long(folder / "z-long.parquet", long_texts)]


def write_text(path: Path, rows: Sequence[Nasty]) -> None:
    """A file of text columns, whatever their bytes."""
    columns = {name: pa.array([one.row[name] for one in rows], pa.binary()).view(pa.string()) for name in COLUMNS}
    pq.write_table(pa.table(columns), path, row_group_size=999)


def write_typed(path: Path, rows: Sequence[Nasty]) -> None:
    """A file of integers, floats, times and booleans."""
    kinds = {"review_id": pa.int64(), "text": pa.binary(), "rating": pa.float32(), "deleted": pa.bool_()}
    seconds = {"created_at": pa.timestamp("ms"), "updated_at": pa.timestamp("ms", "Asia/Shanghai")}
    columns = {name: pa.array([one.row[name] for one in rows], kind) for name, kind in kinds.items()}
    for name, kind in seconds.items():
        values = [None if one.row[name] is None else one.row[name] * 1000 for one in rows]
        columns[name] = pa.array(values, pa.int64()).cast(kind)
    pq.write_table(pa.table(columns), path)


def _bad_partitions(folder: Path) -> Iterator[Nasty]:
    """One lacks a column, some have it in another type: each of their rows is told of."""
    partitions: dict[str, tuple[str, dict[str, Any]]] = {
        "d-no-text": ("missing_column", {"review_id": ["D1", "D2", None]}),
        "e-no-id": ("missing_column", {"text": ["好"]}),
        "f-other": ("missing_column", {"x": [1.5, None]}),
        "g-number": ("wrong_type", {"review_id": ["G1"], "text": [7]}),
        "h-floats": ("wrong_type", {"review_id": [1.5, None], "text": ["好", "好"]}),
        "i-lists": ("wrong_type", {"review_id": ["I1"], "text": ["好"], "rating": [[5]]}),
        "j-flags": ("wrong_type", {"review_id": ["J1"], "text": ["好"], "deleted": [{"is": True}]}),
    }
    for name, (rule, columns) in partitions.items():
        table = pa.table(columns)
        pq.write_table(table, folder / f"{name}.parquet")
        for row in table.to_pylist():
            yield Nasty(row, frozenset({rule}))


def _long(path: Path, count: int) -> Sequence[Nasty]:
    """Texts of a megabyte, two different ones as each has to be read; one is blank, one cut within a character."""
    texts = [TEXTS[number % 2].encode() for number in range(count)]
    whole = [text * (MEGABYTE // len(text)) for text in texts]
    odd = [b" " * MEGABYTE, whole[0] + b"\xe5"] if whole else []
    rows = [
        {**dict.fromkeys(COLUMNS), "review_id": f"L{n}".encode(), "text": text} for n, text in enumerate([*whole, *odd])
    ]
    told = [judged(row) for row in rows]
    if told:
        write_text(path, told)
    return told
