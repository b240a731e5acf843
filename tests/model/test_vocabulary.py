import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecner.model.vocabulary import UNKNOWN, WHITE_SPACE, Vocabulary, code_points, is_unreadable
from tests.tiny import CHARACTERS, VOCABULARY

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
ANY_TEXT = st.text(st.characters(codec=None, categories=None))  # surrogates and NUL too


@given(ANY_TEXT)
@example("")
@example("a\0\ud83d\ude00😀e\u0301\u200d👨‍👩‍👧Ａ　\udfff")
def test_one_id_for_each_code_point(text):
    ids = VOCABULARY.encode(text)
    assert ids.shape == (len(text),)
    assert code_points(text).tolist() == [ord(c) for c in text]
    assert ids.tolist() == [VOCABULARY.encode(c)[0] for c in text]
    assert set(ids.tolist()) <= set(range(len(VOCABULARY.tokens)))


@given(st.text(st.sampled_from(CHARACTERS)))
def test_a_known_character_has_its_own_id(text):
    assert [VOCABULARY.tokens[i] for i in VOCABULARY.encode(text)] == list(text)


def test_every_kind_of_white_space_has_one_id():
    spaces = "".join(chr(p) for p in range(0x110000) if chr(p).isspace())
    assert set(VOCABULARY.encode(spaces).tolist()) == {VOCABULARY.ids[WHITE_SPACE]}
    assert set(Vocabulary(SPECIAL).encode(spaces).tolist()) == {1}  # an encoder without an entry for it


@pytest.mark.parametrize(("text", "read_as"), [("Ａ", "a"), ("９", "9"), ("B", "b"), ("ｈ", "h"), ("㎡", "m")])
def test_width_and_case_fold(text, read_as):
    vocabulary = Vocabulary((*SPECIAL, "x", read_as))
    assert vocabulary.encode(text + read_as).tolist() == [5, 5]


def test_a_character_s_own_entry_comes_before_its_foldings():
    vocabulary = Vocabulary((*SPECIAL, "a", "A", "Ａ", "é"))
    assert vocabulary.encode("aAＡé").tolist() == [4, 5, 6, 7]
    assert Vocabulary((*SPECIAL, "e")).encode("éÉＥ").tolist() == [4, 1, 4]


@given(st.text(st.characters(min_codepoint=0x10000)))
def test_unknown_characters(text):
    assert set(VOCABULARY.encode(text).tolist()) <= {VOCABULARY.ids[UNKNOWN]}


def test_tokens_of_several_characters_are_never_looked_up():
    assert Vocabulary((*SPECIAL, "ab", "##a")).encode("ab[PAD]").tolist() == [1] * 7


@given(ANY_TEXT)
def test_nul_and_surrogates_are_unreadable(text):
    expected = [c == "\0" or unicodedata.category(c) == "Cs" for c in text]
    assert is_unreadable(code_points(text)).tolist() == expected


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1)))
@example(["\r", "a\r", "\x85", "\u2028", "[SPACE]"])
def test_write_then_read_is_the_same(tmp_path_factory, tokens):
    path = tmp_path_factory.getbasetemp() / "vocab.txt"
    vocabulary = Vocabulary((*SPECIAL, *tokens))
    vocabulary.write(path)
    assert Vocabulary.read(path) == vocabulary


def test_a_vocabulary_without_special_tokens_is_refused():
    with pytest.raises(ValueError, match=r"3 tokens lacks \[CLS\], \[SEP\]"):
        Vocabulary(("[PAD]", "[UNK]", "a"))
