import json
import random
import sys
from io import BytesIO
from types import SimpleNamespace

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.data.texts import read_texts
from ecner.errors import DataError, UsageError
from tests.data.strategies import any_chars, conll_chars


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


# a first line that opens a JSON object, or a byte order mark, tells the form
plain_texts = st.lists(
    st.text(conll_chars).filter(lambda text: not text.endswith("\r") and text[:1] not in ("{", "\ufeff"))
).filter(lambda texts: not "".join(texts).lstrip().startswith("{"))


@given(texts=plain_texts, crlf=st.booleans(), mark=st.booleans())
def test_a_text_per_line(folder, texts, crlf, mark):
    path = folder / "texts.txt"
    end = "\r\n" if crlf else "\n"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + "".join(text + end for text in texts).encode())
    assert read_texts(path) == texts
    if texts and texts[-1]:  # the final line break does not add a text
        path.write_bytes(end.join(texts).encode())
        assert read_texts(path) == texts


@given(texts=st.lists(st.text(any_chars)))
def test_jsonl(folder, texts):
    path = folder / "texts.data"
    rows = [json.dumps({"text": text, "rating": i}) for i, text in enumerate(texts)]
    path.write_bytes("\n\n".join(rows).encode())
    assert read_texts(path) == [json.loads(row)["text"] for row in rows]


@given(texts=st.lists(st.text()), dtype=st.sampled_from([pl.String, pl.Categorical]))
def test_parquet(folder, texts, dtype):
    path = folder / "texts.data"
    pl.DataFrame({"n": range(len(texts)), "text": texts}, schema={"n": pl.Int64, "text": pl.String}).cast(
        {"text": dtype}
    ).write_parquet(path)
    assert read_texts(path) == texts


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n\n b \r\nc\r", ["a", "", " b ", "c\r"]),
        ("a\u2028b\x85c\rd".encode(), ["a\u2028b\x85c\rd"]),
        (b'{"text": "a\\ud800"}\n{"text": ""}', ["a\ud800", ""]),
        (b'\xef\xbb\xbf\n { "text": "a"}\n', ["a"]),
        (b"{a}\n[1]\n", ["{a}", "[1]"]),
    ],
)
def test_forms_are_told_by_content_on_standard_input(monkeypatch, data, texts):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=BytesIO(data)))
    assert read_texts("-") == texts


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"a\nb\n\xff\n", "line 3: bytes that are not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"\n', "line 3: bad_json"),
        ("a.jsonl", b"abc\n", "line 1: bad_json"),
        ("a.txt", b'{"text": "a"}\n["b"]\n', "line 2: bad_json"),
        ("a.txt", b'{"txt": "a"}\n', "line 1: missing_key: no key 'text'"),
        ("a.jsonl", b'{"text": null}\n', "line 1: wrong_type: text is None: expected str"),
        ("a.parquet", b"", "cannot be read as Parquet"),
        ("a.parquet", b"abc\n", "cannot be read as Parquet"),
        ("a.txt", b"PAR1abcPAR1", "cannot be read as Parquet"),
    ],
)
def test_bad_files_are_refused(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_texts(path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"txt": ["a"], "n": [1]}, "no column 'text': found txt, n"),
        ({"text": [1]}, "column 'text' is Int64; expected strings"),
        ({"text": [b"a"]}, "column 'text' is Binary; expected strings"),
        ({"text": ["a", None, None]}, "row 2: column 'text' is null"),
    ],
)
def test_parquet_without_texts_is_refused(tmp_path, table, message):
    pl.DataFrame(table).write_parquet(tmp_path / "f")
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path / "f")


def test_parquet_with_bytes_that_are_not_utf8_is_refused(tmp_path):
    raw = pa.array([b"ab", b"\xff\xfe"], pa.binary())
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), 2, raw.buffers())}), tmp_path / "f")
    with pytest.raises(DataError, match="UTF-8"):
        read_texts(tmp_path / "f")


def test_damaged_parquet_gives_texts_or_one_clear_error(tmp_path):
    path = tmp_path / "f.parquet"
    pl.DataFrame({"text": [f"联想{i}" for i in range(200)]}).write_parquet(path)
    whole, chance = path.read_bytes(), random.Random(0)  # noqa: S311 - not a secret
    refused = 0
    for _ in range(100):
        data = bytearray(whole)
        place = chance.randrange(len(data))
        data[place : place + 8] = chance.randbytes(8)
        path.write_bytes(data[: chance.choice([None, place])])
        try:
            assert all(isinstance(text, str) for text in read_texts(path))
        except DataError:
            refused += 1
    assert refused > 50


def test_a_missing_file_and_a_folder_are_usage_errors(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            read_texts(path)
