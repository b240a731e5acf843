"""Scores of two names."""

import pytest

from ecner.linking.score import letters, spelling


@pytest.mark.parametrize(("name", "bare"), [("c++", "c++"), ("c#", "c#"), ("l'oréal", "loreal"), ("a_b-c", "abc")])
def test_letters(name, bare):
    assert letters(name) == bare


@pytest.mark.parametrize(("left", "right"), [("c", "c++"), ("c", "c#"), ("...", "——"), ("8", "8+"), ("_", "-")])
def test_names_that_differ_in_what_tells_them_apart_are_not_written_alike(left, right):
    assert spelling("brand", left, right) < 0.5


def test_marks_and_accents_tell_nothing_apart():
    assert spelling("brand", "l'oreal", "l’oréal") == spelling("brand", "jack&jones", "jack jones") > 0.9
