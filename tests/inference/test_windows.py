from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ecner.inference.windows import cut


@st.composite
def cases(draw):
    window = draw(st.integers(1, 40))
    return draw(st.integers(0, 300)), window, draw(st.integers(0, window - 1))


@given(cases())
def test_kept_parts_tile_the_text_and_lie_in_windows_that_overlap(case):
    length, window, overlap = case
    windows = list(cut(length, window=window, overlap=overlap))
    assert [i for w in windows for i in range(w.keep_start, w.keep_end)] == list(range(length))
    for w in windows:
        assert 0 <= w.start <= w.keep_start <= w.keep_end <= w.end <= length
        assert w.end - w.start == min(window, length)
    for left, right in pairwise(windows):
        assert left.start < right.start
        assert left.end - right.start >= overlap
    if length <= window:
        assert len(windows) == 1


@given(cases())
def test_each_character_is_kept_where_it_stands_farthest_from_an_edge(case):
    length, window, overlap = case
    windows = list(cut(length, window=window, overlap=overlap))

    def margin(w, i):
        left = i - w.start if w.start else length  # the edges of the text itself cut nothing off
        right = w.end - 1 - i if w.end < length else length
        return min(left, right)

    for w in windows:
        for i in range(w.keep_start, w.keep_end):
            assert margin(w, i) == max(margin(v, i) for v in windows if v.start <= i < v.end)


@given(cases())
def test_no_more_windows_than_needed(case):
    length, window, overlap = case
    steps = -(-max(length - window, 0) // (window - overlap))
    assert sum(1 for _ in cut(length, window=window, overlap=overlap)) == 1 + steps
