import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.errors import UsageError
from ecner.nightly.names import Lexicon, normalised, plain
from ecner.resources import resource


@pytest.fixture
def lexicon(tmp_path):
    def make(text):
        (tmp_path / "lexicon.yaml").write_text(text, "utf-8")
        return Lexicon.read(tmp_path / "lexicon.yaml")

    return make


@pytest.mark.parametrize(
    ("surface", "name"),
    [
        ("华为", "华为"),
        ("ＨＵＡＷＥＩ", "huawei"),
        (" Think \u3000\n pad ", "think pad"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("①", "1"),
        ("ﬁ", "fi"),
        ("\u3000", "\u3000"),
        ("e\u0301", "é"),
        ("😀", "😀"),
    ],
)
def test_normalised(surface, name):
    assert normalised(surface) == name


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)
    assert normalised(text) or not text


@pytest.mark.parametrize(
    ("entity_type", "name", "simple"),
    [
        ("brand", "聯想", "联想"),
        ("brand", "联 想", "联想"),
        ("brand", "惠普 hp", "惠普hp"),
        ("brand", "think pad", "think pad"),
        ("brand", "tp-link", "tp-link"),
        ("product", "電 腦", "电脑"),
        ("model_number", "sk-ii", "skii"),
        ("model_number", "mate 40 pro", "mate40pro"),
        ("model_number", "i5-12400f", "i5-12400f"),
        ("model_number", "i5 12400f", "i5-12400f"),
        ("model_number", "i5 \u2014 12400f", "i5-12400f"),
        ("model_number", "10-20", "10-20"),
        ("model_number", "1.5", "1.5"),
        ("model_number", "-x200-", "x200"),
        ("model_number", "-", "-"),
        ("misc", "\u3000", "\u3000"),
    ],
)
def test_plain_names(entity_type, name, simple):
    assert plain(entity_type, name) == simple


@given(st.sampled_from(["brand", "model_number"]), st.text(st.sampled_from("联聯想 -—·_ax12後后乾干"), max_size=8))
def test_a_plain_name_is_plain(entity_type, text):
    name = plain(entity_type, normalised(text)) if text else text
    assert plain(entity_type, name) == name


@given(
    st.text(st.sampled_from("ab12 -_"), min_size=1, max_size=8),
    st.text(st.sampled_from("ab12 -_"), min_size=1, max_size=8),
)
def test_model_numbers_of_other_digits_or_letters_stay_apart(left, right):
    """One plain form means the same letters, in the same order, around the same numbers."""
    one, other = normalised(left), normalised(right)
    if plain("model_number", one) == plain("model_number", other):
        bare = [
            [part for part in re.split(r"[ \-_]+|(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])", name) if part]
            for name in (one, other)
        ]
        numbers = [[part for part in parts if part.isdigit()] for parts in bare]
        assert numbers[0] == numbers[1]
        assert "".join(bare[0]) == "".join(bare[1])


def test_decisions_come_last(lexicon):
    names = lexicon("brand: {联想: [lenovo]}").linked({"brand": {"联想": "lenovo group", "小米": "xiaomi"}})
    assert names.canonical("brand", "LENOVO") == "lenovo group"
    assert names.canonical("brand", "聯 想") == "lenovo group"
    assert names.canonical("product", "小米") == "小米"
    assert names.name("brand", "Lenovo") == "联想"
    assert names.to_json() == names.linked({}).to_json()


def test_aliases_are_known_in_their_plain_form_where_that_is_one_name(lexicon):
    names = lexicon("model_number:\n  skii: [sk2]\n  x: [a-b]\n  y: [ab]\nbrand: {惠普: [惠普hp]}\n")
    assert names.canonical("brand", "惠普 HP") == "惠普"
    assert names.canonical("model_number", "sk 2") == "skii"
    assert names.canonical("model_number", "a-b") == "x"
    assert names.canonical("model_number", "a b") == "ab"  # x or y: nobody can tell


def test_aliases_by_type(lexicon):
    names = lexicon("brand:\n  华为: [Huawei, 華為]\n  Mi: \nproduct:\n  手机: [huawei]\n")
    assert names.canonical("brand", "ＨＵＡＷＥＩ") == "华为"
    assert names.canonical("brand", "華為") == names.canonical("brand", "华为") == "华为"
    assert names.canonical("brand", "MI") == "mi"
    assert names.canonical("product", "huawei") == "手机"
    assert names.canonical("model_number", "HuaWei") == "huawei"


def test_a_frame_keeps_its_rows(lexicon):
    frame = pl.DataFrame(
        {"entity_type": ["brand", "misc", "brand"], "surface": ["Huawei", "Huawei", "x"], "n": [1, 2, 3]}
    )
    named = lexicon("brand: {华为: [huawei]}").add_canonical(frame)
    assert named["canonical"].to_list() == ["华为", "huawei", "x"]
    assert named["n"].to_list() == [1, 2, 3]
    assert lexicon("").add_canonical(frame.clear()).schema["canonical"] == pl.String


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "another shape"),
        ("brand: [华为]", "got list under brand"),
        ("brand: {华为: huawei}", "got str under brand.华为"),
        ("brand: {华为: [3080]}", "holds 3080 where text is expected: put it in quotes"),
        ("brand: {on: []}", "holds True where"),
        ("brand: {华为: [hw], 小米: [HW]}", "brand 'HW' is given to both '华为' and '小米'"),
        ("brand: {华为: [小米], 小米: []}", "brand '小米' is given to both"),
        ("a: [", "cannot read the lexicon"),
    ],
)
def test_what_is_no_lexicon(lexicon, text, message):
    with pytest.raises(UsageError, match=message):
        lexicon(text)


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match="cannot read the lexicon"):
        Lexicon.read(tmp_path / "none.yaml")


def test_identity_goes_by_what_it_says(lexicon):
    one = lexicon("brand: {华为: [huawei], 小米: [xiaomi]}").to_json()
    assert lexicon("# why\nbrand:\n  小米: [ＸＩＡＯＭＩ]\n  华为: [Huawei]").to_json() == one
    assert lexicon("brand: {华为: [huawei]}").to_json() != one


def test_the_shipped_lexicon():
    shipped = Lexicon.read(resource("configs/lexicon.yaml"))
    assert shipped.canonical("brand", "ＬＥＮＯＶＯ") == "联想"
