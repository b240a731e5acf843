import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecner.errors import UsageError
from ecner.nightly.names import Lexicon, normalised
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
