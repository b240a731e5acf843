import json
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.data.corpus import convert, read_corpus, write_corpus
from ecner.data.label_sets import read_label_set
from ecner.data.rows import LabelledText
from ecner.errors import DataError, UsageError
from ecner.labels import Span, TagSet
from tests.data.strategies import LABELS, conll_texts, json_texts

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
GOOD = {"text": "联想T400", "entities": []}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus")


def entity(**changes: object):
    return {"start_idx": 0, "end_idx": 2, "entity_text": "联想", "entity_label": "HPPX", **changes}


def write_rows(path, *rows: object):
    path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows))
    return path


@given(texts=json_texts())
def test_jsonl_holds_every_text(folder, texts):
    path = folder / "texts.jsonl"
    assert write_corpus(path, texts, "jsonl") == ()
    corpus = read_corpus(path)
    assert (corpus.file_format, corpus.bad_rows) == ("jsonl", ())
    assert corpus.texts == tuple(texts)
    assert corpus.lines == tuple(range(1, len(texts) + 1))


@given(texts=conll_texts(), scheme=st.sampled_from(["BIO", "BILOU"]), crlf=st.booleans(), cut=st.booleans())
def test_conll_holds_every_text_without_line_feeds_and_surrogates(folder, texts, scheme, crlf, cut):
    path = folder / "texts.txt"
    assert write_corpus(path, texts, "conll", TagSet.from_labels(LABELS, scheme)) == ()
    data = path.read_bytes()
    data = data.removesuffix(b"\n") if cut else data  # the last blank line is optional
    path.write_bytes(data.replace(b"\n", b"\r\n") if crlf else data)
    corpus = read_corpus(path)
    assert (corpus.file_format, corpus.bad_rows) == ("conll", ())
    assert corpus.texts == tuple(texts)


@given(texts=conll_texts())
def test_jsonl_to_conll_to_jsonl_changes_nothing(folder, texts):
    first, between, last = folder / "1.jsonl", folder / "2.txt", folder / "3.jsonl"
    write_corpus(first, texts, "jsonl")
    there, back = convert(first, between), convert(between, last)
    assert (there.source_format, there.target_format) == (back.target_format, back.source_format)
    assert there.rows_read == there.rows_written == back.rows_read == back.rows_written == len(texts)
    assert last.read_bytes() == first.read_bytes()


@given(texts=json_texts(), place=st.integers(0), byte=st.binary(max_size=3))
def test_no_row_of_a_damaged_jsonl_file_is_lost(folder, texts, place, byte):
    path = folder / "damaged.jsonl"
    write_corpus(path, [*texts, LabelledText("完好")], "jsonl")
    data = bytearray(path.read_bytes())
    data[(place := place % len(data)) : place + len(byte)] = byte
    path.write_bytes(data)
    try:
        corpus = read_corpus(path)
    except DataError:
        return
    lines = [row.line for row in corpus.bad_rows] + list(corpus.lines)
    if corpus.file_format == "jsonl":
        # a line that decodes to white space alone holds no row
        filled = [
            i
            for i, line in enumerate(bytes(data).split(b"\n"), 1)
            if line.decode("utf-8", "replace").removeprefix("\ufeff").strip()
        ]
        assert sorted(lines) == filled


@given(texts=conll_texts(), place=st.integers(0), byte=st.binary(max_size=3))
def test_no_sentence_of_a_damaged_conll_file_is_lost(folder, texts, place, byte):
    path = folder / "damaged.txt"
    write_corpus(path, [LabelledText("完好"), *texts], "conll")
    data = bytearray(path.read_bytes())
    start = len("完 O\n好 O\n\n".encode())
    place = start + place % (len(data) - start)
    data[place : place + len(byte)] = byte
    path.write_bytes(data)
    corpus = read_corpus(path)
    blocks, filled = 0, False
    for line in bytes(data).split(b"\n")[: None if data[-1:] != b"\n" else -1]:
        blocks += bool(line.removesuffix(b"\r")) and not filled
        filled = bool(line.removesuffix(b"\r"))
    assert len(corpus.texts) + len(corpus.bad_rows) == blocks


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"text": "\xff", "entities": []}', "invalid_utf8"),
        (b'{"text": "a", "entities": [', "bad_json"),
        (b'{"text": ' + b"[" * 100_000, "bad_json"),
        (b'["a"]', "bad_json"),
        ({"text": "a"}, "missing_key"),
        ({"entities": []}, "missing_key"),
        ({"text": None, "entities": []}, "wrong_type"),
        ({"text": "a", "entities": {}}, "wrong_type"),
        ({"text": "a", "entities": ["b"]}, "wrong_type"),
        ({**GOOD, "entities": [entity(start_idx=0.0)]}, "wrong_type"),
        ({**GOOD, "entities": [entity(start_idx=False)]}, "wrong_type"),
        ({**GOOD, "entities": [entity(entity_label=None)]}, "wrong_type"),
        ({**GOOD, "entities": [entity(entity_label="")]}, "empty_label"),
        ({**GOOD, "entities": [{"start_idx": 0, "end_idx": 2, "entity_label": "HPPX"}]}, "missing_key"),
        ({**GOOD, "entities": [entity(end_idx=7, entity_text="联想T400")]}, "bad_offsets"),
        ({**GOOD, "entities": [entity(end_idx=0, entity_text="")]}, "bad_offsets"),
        ({**GOOD, "entities": [entity(start_idx=-6, end_idx=-4)]}, "bad_offsets"),
        ({**GOOD, "entities": [entity(end_idx=3)]}, "text_mismatch"),
        ({**GOOD, "entities": [entity(), entity()]}, "overlap"),
    ],
)
def test_a_bad_jsonl_row_is_reported_with_its_line(tmp_path, row, reason):
    path = write_rows(tmp_path / "f", GOOD, b"", row, GOOD)
    corpus = read_corpus(path)
    assert [(bad.line, bad.reason) for bad in corpus.bad_rows] == [(3, reason)]
    assert corpus.lines == (1, 4)
    with pytest.raises(DataError, match=f"1 bad row.*\n.*line 3: {reason}"):
        read_corpus(path, strict=True)


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        (["家 O", "\udcff O"], 4, "invalid_utf8"),
        (["家O"], 3, "bad_line"),
        ([" O"], 3, "bad_line"),
        (["家 "], 3, "bad_line"),
        (["  "], 3, "bad_line"),
        (["家 O", "家用 O"], 4, "long_character"),
        (["e\u0301 O"], 3, "long_character"),
        (["家 B-"], 3, "unknown_tag"),
        (["家 S-HCCX"], 3, "unknown_tag"),
        (["家 o"], 3, "unknown_tag"),
        (["家 I-HCCX"], 3, "illegal_sequence"),
        (["家 O", "用 I-HCCX"], 4, "illegal_sequence"),
        (["家 B-HCCX", "用 I-HPPX"], 4, "illegal_sequence"),
        (["家 U-HCCX", "用 B-HCCX", "防 O"], 5, "illegal_sequence"),
        (["家 U-HCCX", "用 B-HCCX"], 4, "illegal_sequence"),
        (["家 U-HCCX", "用 L-HCCX"], 4, "illegal_sequence"),
    ],
)
def test_a_bad_sentence_is_reported_with_its_line(tmp_path, lines, line, reason):
    path = tmp_path / "f"
    path.write_bytes("\n".join(["好 O", "", *lines, "", "的 O", "了 O"]).encode("utf-8", "surrogateescape"))
    corpus = read_corpus(path)
    assert [(bad.line, bad.reason) for bad in corpus.bad_rows] == [(line, reason)]
    assert [labelled.text for labelled in corpus.texts] == ["好", "的了"]
    assert corpus.lines == (1, 4 + len(lines))


def test_the_last_space_or_tab_separates(tmp_path):
    path = tmp_path / "f"
    path.write_bytes("\ufeff联\tB-HPPX\r\n \tI-HPPX\r\n\t O\r\n  O\r\n\u3000 B-XH\r\n\u2028 O".encode())
    corpus = read_corpus(path)
    assert corpus.bad_rows == ()
    assert corpus.texts == (LabelledText("联 \t \u3000\u2028", (Span(0, 2, "HPPX"), Span(4, 5, "XH"))),)


def test_a_first_character_that_is_a_byte_order_mark_stays(tmp_path):
    for data, text in [("\ufeff O\n", "\ufeff"), ("\ufeff\ufeff O\n", "\ufeff"), ("\ufeff  O\n", " ")]:
        (tmp_path / "f").write_bytes(data.encode())
        assert [labelled.text for labelled in read_corpus(tmp_path / "f").texts] == [text]


@pytest.mark.parametrize(
    ("data", "file_format"),
    [
        (b"{ O\n{ O\n", "conll"),
        (b"{ B-XH\n1 I-XH\n\n" + json.dumps(GOOD).encode(), "conll"),
        (b"{ O\n" + (json.dumps(GOOD).encode() + b"\n") * 2, "jsonl"),
    ],
)
def test_the_form_is_what_most_lines_look_like(tmp_path, data, file_format):
    (tmp_path / "f").write_bytes(data)
    assert read_corpus(tmp_path / "f").file_format == file_format


def test_a_byte_order_mark_before_jsonl_is_passed_over(tmp_path):
    path = write_rows(tmp_path / "f", GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_corpus(path).texts == (LabelledText("联想T400"),)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xd8",
        b"PAR1\x15\x04\x15\n{\xff\xfePAR1",
        "家用防尘\n工作帽\n".encode(),
        b"[\n{\n}\n]\n",
        b'{"O": 0, "B-X": 1}\n{"O": 0}\n',
        b'{\n "O": 0\n}\n',
        '{"text": "家", "entities": []}\n'.encode("gbk"),
        "家 O\n用 B-HCCX\n".encode("gbk"),
        "家 O\n".encode("utf-16"),
    ],
)
def test_a_file_of_neither_form_is_refused(tmp_path, data):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(DataError, match=r"does not hold labelled texts: .*; expected JSONL rows .* or CoNLL"):
        read_corpus(tmp_path / "f")


def test_a_missing_file_and_a_folder_are_usage_errors(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            read_corpus(path)


def test_standard_input_is_read(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=BytesIO("家 O\n".encode())))
    assert read_corpus("-").texts == (LabelledText("家"),)


@pytest.mark.parametrize(
    ("labelled", "reason"),
    [
        (LabelledText(""), "empty_text"),
        (LabelledText("a\nb"), "line_feed"),
        (LabelledText("a\ud800b"), "surrogate"),
        (LabelledText("ab", (Span(0, 1, "A B"),)), "unwritable_label"),
        (LabelledText("ab", (Span(0, 1, "A\r"),)), "unwritable_label"),
    ],
)
def test_what_conll_cannot_hold_is_reported(tmp_path, labelled, reason):
    source, target = tmp_path / "in", tmp_path / "out"
    write_corpus(source, [LabelledText("好"), labelled, LabelledText("的")], "jsonl")
    source.write_bytes(b"\n" + source.read_bytes())  # rows and lines are not the same numbers
    report = convert(source, target)
    assert [(bad.line, bad.reason) for bad in report.bad_rows] == [(3, reason)]
    assert (report.rows_read, report.rows_written) == (3, 2)
    assert target.read_bytes() == "好 O\n\n的 O\n\n".encode()


def test_a_label_outside_the_tag_set_is_reported(tmp_path):
    texts = [LabelledText("好", (Span(0, 1, "HCCX"),))]
    bad_rows = write_corpus(tmp_path / "f", texts, "conll", TagSet.from_labels(["XH"]))
    assert [(bad.line, bad.reason) for bad in bad_rows] == [(1, "unknown_label")]


def test_two_surrogates_that_json_would_join_are_reported(tmp_path):
    bad_rows = write_corpus(tmp_path / "f", [LabelledText("\ud83d\ude00")], "jsonl")
    assert [(bad.line, bad.reason) for bad in bad_rows] == [(1, "surrogate_pair")]


def test_convert_does_not_write_over_its_input_or_beside_a_missing_folder(tmp_path):
    path = write_rows(tmp_path / "f", GOOD, {})
    before = path.read_bytes()
    for target in (path, tmp_path / "x" / ".." / "f", tmp_path / "none" / "f", path / "f", tmp_path):
        with pytest.raises(UsageError, match=r"the same file|cannot write"):
            convert(path, target)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.write_bytes(b"old")

    def fail(*_: object):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UsageError, match="No space left"):
        write_corpus(target, [LabelledText("好")], "conll")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("spans", [(Span(0, 0, "A"),), (Span(1, 3, "A"),), (Span(0, 1, ""),)])
def test_a_labelled_text_checks_its_spans(spans):
    with pytest.raises(ValueError, match="span"):
        LabelledText("ab", spans)


def test_labels_of_a_corpus(tmp_path):
    texts = [LabelledText("abc", (Span(1, 3, "XH"), Span(0, 1, "HPPX")))]
    write_corpus(tmp_path / "f", texts, "conll")
    assert read_corpus(tmp_path / "f").labels == ("HPPX", "XH")


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")
@pytest.mark.parametrize(
    ("name", "texts", "spans"),
    [
        ("ecommerce/dev.txt", 998, 4941),
        ("ecommerce/dev.jsonl", 998, 4941),
        ("people/train.txt", 1412, 2529),
        ("reviews_labelled/train.jsonl", 2091, 7544),
    ],
)
def test_shared_files_are_read_whole(name, texts, spans, tmp_path):
    corpus = read_corpus(SHARED / name, strict=True)
    assert len(corpus.texts) == texts
    assert sum(len(labelled.spans) for labelled in corpus.texts) == spans
    convert(SHARED / name, tmp_path / "f")
    assert read_corpus(tmp_path / "f", strict=True).texts == corpus.texts


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")
def test_shared_forms_hold_the_same_rows(tmp_path):
    convert(SHARED / "ecommerce/dev.jsonl", tmp_path / "dev.txt")
    assert (tmp_path / "dev.txt").read_bytes() == (SHARED / "ecommerce/dev.txt").read_bytes()
    labels = read_corpus(SHARED / "ecommerce/dev.jsonl").labels
    assert set(read_label_set(SHARED / "ecommerce/schema.json").labels) == set(labels)
