"""Which texts would carry a dev text into training, against a plain reading of the rule."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ablation.leaks import leaks

DEV = ["小米手机a1真的很好用，推荐！", "不错不错"]


@pytest.mark.parametrize(
    ("text", "is_leak"),
    [
        (DEV[0], True),
        (f"买家说：{DEV[0]}是真的", True),
        (DEV[0][1:], False),
        (DEV[0][:-1], False),
        (DEV[1], True),
        (f"{DEV[1]}！", False),  # short: what it says is said by chance
        ("不错", False),
        ("", False),
    ],
)
def test_equal_and_contained(text, is_leak):
    assert leaks([text], DEV) == [is_leak]


@pytest.mark.parametrize(
    "text",
    [
        "小米手机Ａ１真的很好用,推荐!",
        "小米手机A1真的很好用，推荐！",
        " 小 米\t手机a1\u3000真的很\n好用，推荐！\xa0",
        "看：小米手机ａ １真的很好用，推荐！！",
    ],
)
def test_width_case_and_white_space_do_not_count(text):
    assert leaks([text], DEV) == [True]
    assert leaks([DEV[0] + text], [text]) == [True]
    assert leaks([text], [DEV[0].upper()]) == [True]


def test_eight_characters_tell_and_white_space_is_none_of_them():
    assert leaks(["x12345678x", "x1234567x"], ["12345678", "1234567"]) == [True, False]
    assert leaks(["x12 34 567x", "12 34 567"], ["12 34 567 "]) == [False, True]


def test_next_to_nothing():
    assert leaks([], []) == leaks([], DEV) == []
    assert leaks(["小米", ""], []) == [False, False]
    assert leaks(["小米", "", " "], [""]) == [False, True, True]  # an empty dev text is held by no other


def plain(text):
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text).lower())


TEXTS = st.lists(st.text(st.sampled_from("aAａ米 \u3000"), max_size=14), max_size=6)


@given(TEXTS, TEXTS)
def test_as_the_rule_reads(texts, dev):
    held = {plain(text) for text in dev}
    expected = [plain(text) in held or any(len(one) >= 8 and one in plain(text) for one in held) for text in texts]
    assert leaks(texts, dev) == expected
