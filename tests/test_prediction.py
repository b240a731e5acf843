import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecner.inference.reader import Reader
from ecner.prediction import predictions
from tests.tiny import tiny

TYPES = {"HPPX": "brand"}
TEXTS = {
    "plain": "小米9真好用",
    "emoji": "👨‍👩‍👧小米👍🏽手机🇨🇳abc",
    "combining": "é小̈米à̖手机",
    "full-width": "ＡＢＣ１２３小米，　手机",
    "lone surrogate": "小\ud800米\udfff手机",
    "nul": "小\x00米\x00",
    "separators": "小米\u2028手\u2029机\x85\x1e华为\r\n耳机\v\f",
    "directions": "\u202e小米\u202c\ufeff\u200b",
    "quotes": '"小米"\\u0041\\',
    "long": ("小米手机abc，" * 1250)[:10_000],
    "empty": "",
    "blank": " \t　 ",
}


@pytest.fixture(scope="module")
def reader():
    return Reader(tiny(), device="cpu")


def refuse(name):
    raise AssertionError(f"{name} is no JSON")


def rows(reader, texts, *, top_k=None):
    """What a strict parser of JSON reads back, from UTF-8."""
    lines = "".join(predictions(reader, texts, TYPES, top_k=top_k)).encode().decode().split("\n")
    assert lines.pop() == ""
    return [json.loads(line, parse_constant=refuse) for line in lines]


def check(text, row):
    assert row["text"] == text
    for mentions in (row["mentions"], *(path["mentions"] for path in row.get("paths", ()))):
        last = 0
        for mention in mentions:
            start, end = mention["start"], mention["end"]
            assert last <= start < end <= len(text)
            assert text[start:end] == mention["text"]
            assert not any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in mention["text"])
            assert mention["type"] == TYPES.get(mention["label"], mention["label"])
            last = end
    for mention in row["mentions"]:
        assert mention.keys() == {"text", "start", "end", "type", "label", "confidence"}
        assert 0 <= mention["confidence"] <= 1


def test_offsets_count_code_points_of_the_text_as_it_came(reader):
    found = rows(reader, list(TEXTS.values()))
    for text, row in zip(TEXTS.values(), found, strict=True):
        check(text, row)
        assert row.keys() == {"text", "mentions"}
    mentioned = {name for name, row in zip(TEXTS, found, strict=True) if row["mentions"]}
    assert mentioned >= TEXTS.keys() - {"empty", "blank", "nul", "quotes"}
    assert found[list(TEXTS).index("empty")]["mentions"] == []


@settings(max_examples=30)
@given(
    texts=st.lists(st.text(st.characters(codec=None, exclude_categories=()) | st.sampled_from("小米手机abc👍\x00"))),
    top_k=st.sampled_from([None, 2]),
)
def test_any_text_comes_back_in_its_place(reader, texts, top_k):
    # JSON joins two surrogates in a row; no input can hold them so
    texts = [text for text in texts if text == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")]
    for text, row in zip(texts, rows(reader, texts, top_k=top_k), strict=True):
        check(text, row)


def test_many_texts_keep_their_order_and_their_own_mentions(reader):
    texts = [f"小米{i}手机" for i in range(2100)] + list(TEXTS.values())
    found = rows(reader, texts)
    assert [row["text"] for row in found] == texts
    alone = rows(reader, texts[1024:1026])
    for row, same in zip(found[1024:1026], alone, strict=True):
        assert [m["text"] for m in row["mentions"]] == [m["text"] for m in same["mentions"]]


@pytest.mark.parametrize("k", [1, 3])
def test_the_best_paths_come_best_first(k, reader):
    for text, row in zip(TEXTS.values(), found := rows(reader, list(TEXTS.values()), top_k=k), strict=True):
        check(text, row)
        scores = [path["score"] for path in row["paths"]]
        assert len(scores) == (k if text else 1)
        assert scores == sorted(scores, reverse=True)
        assert math.fsum(scores) <= 1 + 1e-6
        assert all(path.keys() == {"score", "mentions"} for path in row["paths"])
        first = [{k: v for k, v in m.items() if k != "confidence"} for m in row["mentions"]]
        assert row["paths"][0]["mentions"] == first
    assert found[0]["paths"][0]["score"] > 0


def test_the_beam_finds_what_viterbi_finds(reader):
    beam = Reader(tiny(), device="cpu", decoder="beam")
    for row, same in zip(rows(reader, list(TEXTS.values())), rows(beam, list(TEXTS.values())), strict=True):
        assert [m["text"] for m in row["mentions"]] == [m["text"] for m in same["mentions"]]
        assert [m["confidence"] for m in row["mentions"]] == pytest.approx([m["confidence"] for m in same["mentions"]])


def test_a_nul_and_a_surrogate_are_escaped_and_all_else_stays_readable(reader):
    (line,) = predictions(reader, ["小\x00米\ud800👍"], {})
    assert '"小\\u0000米\\ud800👍"' in line
    assert line.encode().endswith(b"\n")
