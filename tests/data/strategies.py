"""Hypothesis strategies of labelled texts; spans may touch, as they are made from tiles."""

import re
from itertools import accumulate

from hypothesis import strategies as st

from ecner.data.rows import LabelledText
from ecner.labels import Span

LABELS = ("HCCX", "HPPX", "XH")
# white space of every kind, line ends that are none of ours, a byte order mark, NUL, parts of JSON and tags
_TRAPS = ' \t\r\x0b\x0c\x00\x1c\x85\xa0\u2028\u2029\u3000\ufeff\U0001f468\u200d\u0301{}"\\[O-联想'
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

conll_chars = st.sampled_from(_TRAPS) | st.characters(codec="utf-8", exclude_characters="\n")
any_chars = st.sampled_from(_TRAPS + "\n\ud83d\ude00") | st.characters()


def tilings(max_tiles=8, labels=LABELS):
    return st.lists(st.tuples(st.integers(1, 4), st.sampled_from([None, *labels])), max_size=max_tiles)


def spans_of(tiles):
    ends = list(accumulate(length for length, _ in tiles))
    starts = [0, *ends]
    return tuple(
        Span(start, end, label)
        for start, end, (_, label) in zip(starts, ends, tiles, strict=False)
        if label is not None
    )


@st.composite
def labelled_texts(draw, chars, min_chars=0, labels=LABELS):
    tiles = draw(tilings(labels=labels))
    length = max(sum(length for length, _ in tiles), min_chars)
    text = draw(st.text(chars, min_size=length, max_size=length))
    return LabelledText(text, spans_of(tiles))


def conll_texts():
    return st.lists(labelled_texts(conll_chars, min_chars=1), min_size=1, max_size=5)


def json_texts():
    return st.lists(
        labelled_texts(any_chars).filter(lambda labelled: not _SURROGATE_PAIR.search(labelled.text)),
        min_size=1,
        max_size=5,
    )
